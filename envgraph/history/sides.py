"""Gather what ``diff`` and ``why`` compare: a version's documents, a lockfile, an image.

A side is one of these, in this order:

- ``PATH#REF``: a version of the workspace in another folder (a path has a ``/``, or is
  ``..``; no name does)
- ``oci:PATH[:NAME]``, ``docker-archive:PATH``: an image on disk
- a lockfile: the path of a file that ends in ``.yml``, ``.yaml`` or ``.lock``
- ``HOST/REPOSITORY[:TAG][@DIGEST]`` or ``docker://…``: an image in a registry
- any REF, the digest of an image among them

An image that is one of ours, here or by the record beside it in its registry, is compared
as the version that it is. Of any other only what it says of itself is known: a
:class:`~envgraph.diff.pictures.Picture`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.diff.pictures import Picture
from envgraph.diff.versions import Side
from envgraph.errors import NotFoundError
from envgraph.history.beside import record_beside
from envgraph.history.foundimage import FoundImage
from envgraph.history.pictures import (
    Images,
    is_local_image,
    is_registry_image,
    same_layers,
)
from envgraph.history.read import environment_refs, read_version, state_at, versions
from envgraph.history.versiondocs import VersionDocuments, of_lock
from envgraph.lock.pins import Pins
from envgraph.model.identity import lock_identity
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store

if TYPE_CHECKING:
    from envgraph.lock.registry_bases import RegistryBases
    from envgraph.registry.remotes import Remotes

Pair = tuple[Side, Side] | tuple[Picture, Picture]
_LOCKFILES: Final = (".yml", ".yaml", ".lock")


@dataclass(slots=True)
class Opened:
    """What a reference or path leads to, before a platform is chosen.

    Either ``side`` knows a lock, or ``picture`` is all; ``picture`` always works.
    """

    platforms: tuple[str, ...]
    picture: Callable[[str], Picture]
    side: Callable[[str], Side] | None = None


class Sides:
    """Finds both sides of a comparison, on a platform that both have."""

    def __init__(
        self,
        store: Store,
        workspace_id: str,
        root: str,
        find: Callable[[str], VersionRecord],
        *,
        bases: Callable[[], RegistryBases] | None = None,
        remotes: Callable[[], Remotes] | None = None,
        elsewhere: Callable[[str], Sides] | None = None,
    ) -> None:
        """Bind; ``find`` finds a version by its reference, ``root`` is where paths start.

        ``bases`` and ``remotes`` reach registries; ``elsewhere`` opens the workspace in
        another folder.
        """
        self._store = store
        self._workspace = workspace_id
        self._pins = Pins(store, workspace_id)
        self._root = root
        self._find = find
        self._bases = bases
        self._remotes = remotes
        self._elsewhere = elsewhere

    def pair(self, one: str, two: str, platform: str | None = None) -> Pair:
        """Both sides; NotFoundError where they have no platform, or not this one, in common."""
        first, second = self.open(one), self.open(two)
        common = [name for name in first.platforms if name in second.platforms]
        if platform is not None:
            common = [platform] if platform in common else []
        if not common:
            raise NotFoundError(
                f"{one!r} and {two!r} have no platform in common"
                if platform is None
                else f"{one!r} and {two!r} are not both there for {platform}",
                code="no-common-platform",
                hint=f"they have {', '.join(first.platforms)} and {', '.join(second.platforms)}",
            )
        chosen = common[0]
        if first.side is not None and second.side is not None:
            return first.side(chosen), second.side(chosen)
        return first.picture(chosen), second.picture(chosen)

    def of_records(self, one: VersionRecord, two: VersionRecord) -> tuple[Side, Side]:
        """Both sides from their records, on the first platform that both have."""
        common = [name for name in two.locks if name in one.locks]
        platform = (common or list(two.locks))[0]
        before = platform if platform in one.locks else next(iter(one.locks))
        return self._documents().side(one, before), self._documents().side(two, platform)

    def is_reference(self, text: str) -> bool:
        """It names a version as every verb takes it: no image, file or other workspace."""
        other = _other_workspace(text) is not None or is_local_image(text)
        return not (other or is_registry_image(text) or text.endswith(_LOCKFILES))

    def open(self, text: str) -> Opened:
        """What a text names; NotFoundError, and what registries answer otherwise."""
        if (other := _other_workspace(text)) is not None:
            return self._in_workspace(text, *other)
        if is_local_image(text):
            return self._image(text, self._images().on_disk(text))
        if text.endswith(_LOCKFILES):
            path = Path(self._root, Path(text).expanduser())
            if path.is_file():
                return self._lockfile(text, path)
            if "/" in text:
                raise NotFoundError(
                    f"there is no file {path}", code="missing-file",
                    detail="a path starts at the workspace folder",
                )  # fmt: skip
        self._check_path(text)
        if is_registry_image(text):
            return self._in_registry(text)
        try:
            record = self._find(text)
        except NotFoundError as error:
            found = self._in_store(text) if text.startswith("sha256:") else None
            if found is None:
                raise _with_hint(error, text) from error
            return found
        return self._version(record, text)

    def _check_path(self, text: str) -> None:
        """Refuse what is there as a file or folder, and is said neither to be nor to be asked."""
        path = Path(self._root, Path(text).expanduser())
        if ("/" not in text and text not in (".", "..", "~")) or not path.exists():
            return
        hint = f"an OCI layout? write oci:{text}"
        if (path / "envgraph.yaml").is_file():
            hint = f"name an environment of the workspace there: {text}#NAME:VERSION"
        elif path.is_file():
            hint = f"an image in a file? write oci:{text} or docker-archive:{text}"
        raise NotFoundError(
            f"{text!r} is a {'folder' if path.is_dir() else 'file'}",
            code="bad-reference",
            hint=hint,
        )

    def _in_workspace(self, text: str, folder: str, reference: str) -> Opened:
        if not reference:
            raise NotFoundError(
                f"{text!r} names no environment",
                code="bad-reference",
                hint=f"PATH#REF: {text}NAME, {text}NAME:VERSION or {text}NAME@LABEL",
            )
        path = Path(self._root, Path(folder).expanduser())
        if not path.is_dir() or self._elsewhere is None:
            raise NotFoundError(
                f"there is no workspace {path}",
                code="unknown-workspace",
                detail=f"{text!r} names the environment {reference!r} of the workspace there",
                hint="PATH#REF: the path starts at this workspace's folder",
            )
        try:
            found = self._elsewhere(str(path)).open(reference)
        except NotFoundError as error:
            raise _there(error, path) from error
        return Opened(
            found.platforms,
            lambda platform: replace(found.picture(platform), title=text),
            None
            if (side := found.side) is None
            else lambda platform: replace(side(platform), title=text),
        )

    # -- versions --------------------------------------------------------

    def _version(self, record: VersionRecord, text: str = "", title: str = "") -> Opened:
        """A version; of one platform only where ``text`` is that platform's image."""
        documents = self._documents()
        shown = title or f"{record.environment}:{record.version}"
        platforms = tuple(
            p for p, image in record.images.items() if str(image).startswith(text or "-")
        )
        return Opened(
            platforms or tuple(record.locks),
            lambda platform: documents.picture(record, platform, shown),
            lambda platform: documents.side(record, platform, shown),
        )

    def _documents(self, more: Mapping[Digest, bytes] = {}) -> VersionDocuments:
        return VersionDocuments(self._store, self._pins, more)

    def _lockfile(self, text: str, path: Path) -> Opened:
        from envgraph.lock.lockfile import read_lockfile

        locks = read_lockfile(path).locks
        if not locks:
            raise NotFoundError(
                f"{text!r} holds no lock that envgraph wrote",
                code="foreign-lock",
                hint="an environment file? name the environment instead",
            )
        documents = self._documents()

        def side(platform: str) -> Side:
            lock = locks[platform]
            return Side(
                text,
                lock,
                lock_identity(lock),
                lock.definition,
                documents.canonical(lock.definition),
                base_labels=documents.base_labels(lock),
            )

        return Opened(tuple(locks), lambda p: of_lock(text, p, locks[p]), side)

    # -- images ----------------------------------------------------------

    def _images(self) -> Images:
        def none() -> RegistryBases:
            raise NotFoundError("no registry can be asked here", code="no-registry")

        return Images(self._store, self._root, self._bases or none)

    def _image(self, text: str, found: Mapping[str, Callable[[], FoundImage]]) -> Opened:
        """The version that an image is, where it is one of this workspace; else its picture."""
        known: dict[str, FoundImage] = {}

        def read(platform: str) -> FoundImage:
            if platform not in known:
                known[platform] = found[platform]()
            return known[platform]

        picture = lambda platform: read(platform).picture()  # noqa: E731
        if not found:
            return Opened((), picture)
        record = self._record_of(read(next(iter(found))))
        if record is None:
            return Opened(tuple(found), picture)
        title = f"{text} ({record.environment}:{record.version})"
        opened = self._version(record, title=title)
        return replace(opened, platforms=tuple(p for p in found if p in record.locks))

    def _record_of(self, image: FoundImage) -> VersionRecord | None:
        """The version whose image it is, by digest; or by its layers, compressed otherwise."""
        lock = image.labels.get("envgraph.lock", "")
        for name, ref in sorted(environment_refs(self._store, self._workspace).items()):
            state = state_at(self._store, self._workspace, name, ref.value)
            for version in state.versions.values():
                if version.image == image.digest and not version.deleted:
                    return read_version(self._store, version)
            for record in versions(self._store, self._workspace, name) if lock else ():
                if self._is_image_of(record, image, lock):
                    return record
        return None

    def _is_image_of(self, record: VersionRecord, image: FoundImage, lock: str) -> bool:
        mine = record.images.get(image.platform)
        if mine is None or lock != str(record.locks[image.platform].identity):
            return False
        layers = None if mine == image.digest else self._documents().layers_of(mine)
        return mine == image.digest or (layers is not None and same_layers(image.described, layers))

    def _in_store(self, text: str) -> Opened | None:
        from envgraph_store.digest import DigestError

        try:
            digest = Digest(text)
        except DigestError:
            return None
        found = self._images().in_store(digest)
        return self._image(text, found) if found else None

    def _in_registry(self, text: str) -> Opened:
        images = self._images().in_registry(text)
        opened = self._image(text, images)
        if opened.side is not None or not images:
            return opened
        first = images[next(iter(images))]()
        contents = None
        if "envgraph.lock" in first.labels and self._remotes is not None:
            contents = record_beside(self._remotes(), text, first)
        if contents is None:
            return opened
        documents = self._documents({Digest.of(data): data for data in contents.documents}
                                    | dict(first.documents))  # fmt: skip
        record = contents.record
        title = f"{text} ({record.environment}:{record.version})"
        return Opened(
            tuple(p for p in images if p in record.locks),
            opened.picture,
            lambda p: documents.side(record, p, title, contents.locks[p]),
        )


def _other_workspace(text: str) -> tuple[str, str] | None:
    """The folder and the reference of ``PATH#REF``; None for every other text."""
    folder, mark, reference = text.partition("#")
    if not mark or is_local_image(text) or text.lower().startswith("azureml:"):
        return None
    if "/" not in folder and folder not in (".", "..", "~"):
        return None
    return folder, reference


def _there(error: NotFoundError, path: Path) -> NotFoundError:
    """The error of another workspace, saying where it looked."""
    [first, *_] = error.diagnostics
    hint = first.hint.replace("`envgraph list`", f"`envgraph list -C {path}`")
    if "nothing was applied" in hint:
        hint = "nothing was applied there with this store; another one is named by --other-store"
    return NotFoundError(replace(first, summary=f"{path}: {first.summary}", hint=hint))


def _with_hint(error: NotFoundError, text: str) -> NotFoundError:
    """Names hold no ``/``: whoever wrote one may have meant an image or a path."""
    [first, *_] = error.diagnostics
    if first.code != "bad-reference" or "/" not in text or "://" in text or first.hint:
        return error
    hint = "an image in a registry begins with its host, or is written docker://IMAGE;"
    return NotFoundError(
        replace(first, hint=f"{hint} an environment of another workspace is PATH#NAME:VERSION")
    )
