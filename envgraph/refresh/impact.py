"""What a user means by BASE: a digest, a reference in any spelling, an image on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from envgraph.diff.impact import AskedBase, Standing
from envgraph.errors import Diagnostic, EnvgraphError, UsageError
from envgraph.interchange.catalogue import Catalogue
from envgraph.lock.images import resolve_base
from envgraph.model.locked import LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph.model.reference import BadReferenceError, LocalReference, parse_reference
from envgraph.model.spec import EnvironmentSpec
from envgraph.refresh.remote import Mapper
from envgraph.registry.remotes import Remote
from envgraph_store.digest import Digest, DigestError


def read_question(text: str, root: str, platforms: Sequence[str]) -> AskedBase:
    """The base that ``text`` names; an image on disk is read for what it means now.

    Paths start at the workspace's folder ``root``. No registry is asked: what a tag means is
    then what the newest lock says. UsageError for a text that is neither.
    """
    if text.startswith("sha256:"):
        try:
            return AskedBase(digests=frozenset({Digest(text)}))
        except DigestError as error:
            raise UsageError(f"{text!r} is no digest", code="bad-digest") from error
    try:
        parsed = parse_reference(text)
    except BadReferenceError as error:
        raise UsageError(
            f"{text!r} names no base image: {error}",
            code="bad-reference",
            hint="write a reference, oci:PATH, or a digest of the image or of one of its layers",
        ) from error
    if not isinstance(parsed, LocalReference):
        digest = getattr(parsed, "digest", "")
        named = frozenset({Digest(digest)}) if digest.startswith("sha256:") else frozenset()
        return AskedBase(str(parsed), named)
    path = str(Path(root, Path(parsed.path).expanduser()).resolve())
    digests: set[Digest] = set()
    layers: set[Digest] = set()
    for platform in platforms:
        try:
            found = resolve_base(str(parsed), path, platform).locked
        except EnvgraphError:
            continue  # gone, or not for this platform: its name may still tell
        digests |= {digest for digest in (found.manifest, found.config) if digest is not None}
        layers |= {layer.digest for layer in found.layers}
    return AskedBase(str(parsed), frozenset(digests), frozenset(layers), path)


def standing_of(
    pairs: Iterable[tuple[VersionRecord, LockedEnvironment]],
    specs: Iterable[EnvironmentSpec],
    newest: Iterable[VersionRecord],
) -> tuple[Standing, ...]:
    """Each version with the path behind its base, as its environment file says it now."""
    paths = {spec.name: (spec.image, spec.image_path) for spec in specs}
    latest = {(record.environment, record.version) for record in newest}
    found = []
    for record, lock in pairs:
        image, path = paths.get(record.environment, (None, None))
        here = path if image == lock.base.reference and path is not None else None
        labels = ("latest",) if (record.environment, record.version) in latest else ()
        found.append(
            Standing(record, lock, None if here is None else str(Path(here).resolve()), labels)
        )
    return tuple(found)


def catalogue_standing(remote: Remote, *, all: bool, mapper: Mapper = map) -> tuple[Standing, ...]:
    """The newest version (with ``all`` every version) of what a registry shares.

    RegistryError when it cannot be asked, IntegrityError when what it says is wrong.
    """
    catalogue = Catalogue(remote)

    def look(name: str) -> list[Standing]:
        newest = catalogue.meant(name)
        artifacts: dict[Digest, tuple[str, ...]] = {newest: ("latest",)}
        for version in catalogue.versions(name) if all else ():
            artifacts.setdefault(catalogue.meant(name, version), ())
        found = []
        for artifact, labels in artifacts.items():
            contents = catalogue.fetch(name, artifact).contents
            found += [
                Standing(contents.record, lock, None, labels, remote.title)
                for lock in contents.locks.values()
            ]
        return found

    return tuple(item for items in mapper(look, catalogue.names()) for item in items)


def shared_standing(
    workspace_registry: Callable[[], Remote | None], *, all: bool
) -> tuple[tuple[Standing, ...], tuple[Diagnostic, ...]]:
    """What the workspace's registry shares; a warning where that could not be found out."""
    try:
        remote = workspace_registry()
        return ((), ()) if remote is None else (catalogue_standing(remote, all=all), ())
    except EnvgraphError as error:
        [first, *_] = error.diagnostics
        return (), (
            Diagnostic(
                "catalogue-not-asked",
                "what the workspace's registry shares was not looked at",
                first.summary,
                hint=first.hint,
                severity="warning",
            ),
        )
