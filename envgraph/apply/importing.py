"""``import``: another tool's lock becomes an environment file and a lock that is pinned.

Nothing is written before everything is known. Then the pins come first, the lockfile
second and the environment file last: what breaks off leaves an environment that nobody
sees, never one whose packages would be solved anew.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from envgraph.apply.executor import ParallelMap
from envgraph.apply.pinning import ToPin, pin
from envgraph.conda.channels import locate
from envgraph.conda.logins import Logins
from envgraph.conda.transport import Transport
from envgraph.errors import Diagnostic, EnvgraphError, InputError
from envgraph.interchange.imports.complete import Completed, Completer
from envgraph.interchange.imports.environment_text import environment_text
from envgraph.interchange.imports.foreign import ForeignLock, ForeignPackage
from envgraph.interchange.imports.read import read_foreign
from envgraph.interchange.imports.roots import (
    cannot_be_told_apart,
    requirement_lines,
    roots_of,
)
from envgraph.lock.contract import pin_key_of
from envgraph.lock.find import lockfile_path
from envgraph.lock.follow import MovingBases
from envgraph.lock.images import resolve_base
from envgraph.lock.keep import StoredPackages
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.names import escape_name, name_problem, reserved_prefix
from envgraph.model.spec import EnvironmentSpec
from envgraph_store import Digest, Store

_PARALLEL: Final = 8
"""Archives that are fetched at a time."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import wrote. ``fetched`` counts archives, ``bytes`` theirs."""

    kind: str
    name: str
    file: Path
    lockfile: Path
    packages: Mapping[str, int]
    fetched: int
    bytes: int
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class ImportQuestion:
    """What to import, and how. ``platforms`` empty: those of the workspace."""

    file: Path
    name: str | None = None
    platforms: tuple[str, ...] = ()
    output: Path | None = None


class Importer:
    """Imports into one workspace."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        offline: bool,
        now: datetime,
        alone: Callable[[str], AbstractContextManager[None]],
        bases: Callable[[], MovingBases],
    ) -> None:
        """Bind the parts; ``alone`` excludes other work on the workspace."""
        self._config = config
        self._store = store
        self._offline = offline
        self._now = now
        self._alone = alone
        self._bases = bases

    def run(self, question: ImportQuestion) -> Imported:
        """Import one file. Raises InputError, FetchError, IntegrityError, OfflineError."""
        foreign = named_channels(read_foreign(question.file, question.name), self._config)
        file = self._check_free(foreign.name, question.output)
        chosen = self._platforms(foreign, question)
        with self._alone("import"):
            return self._import(question, foreign, file, chosen)

    def _check_free(self, name: str, output: Path | None) -> Path:
        """Where the environment file goes; InputError when something is there already."""
        problem = name_problem(name)
        if problem is not None:
            raise InputError(f"the name {name!r:.80}: {problem}", code="name", hint="--name NAME")
        prefix = reserved_prefix(name, self._config.reserved_prefixes)
        if prefix is not None:
            raise InputError(
                f"names that begin with {prefix!r} are reserved", code="reserved-prefix",
                hint="choose another one: --name NAME",
            )  # fmt: skip
        root = Path(self._config.root)
        file = output or root / "environments" / f"{escape_name(name)}.yml"
        for path in (file, lockfile_path(root, name)):
            if os.path.lexists(path):
                raise InputError(
                    f"{path} is there already", code="exists",
                    hint="choose another name (--name NAME), or move the file away",
                )  # fmt: skip
        return file

    def _platforms(self, foreign: ForeignLock, question: ImportQuestion) -> tuple[str, ...]:
        locked = [*foreign.ready, *foreign.platforms]
        if locked == [""]:  # all noarch, and nothing says for which platform
            return tuple(question.platforms or self._config.platforms)
        wanted = question.platforms or self._config.platforms
        missing = [platform for platform in wanted if platform not in locked]
        if (question.platforms and missing) or len(missing) == len(wanted):
            raise InputError(
                f"{question.file} has nothing for {', '.join(missing)}",
                code="import-platform",
                detail=f"it locks {', '.join(sorted(locked)) or 'no platform'}",
                hint="choose with --platform, or set platforms in envgraph.yaml",
            )
        chosen = tuple(platform for platform in wanted if platform in locked)
        untold = cannot_be_told_apart(chosen) if len(chosen) > 1 else []
        if untold:
            raise InputError(
                f"several platforms with {', '.join(untold)} among them cannot be imported at once",
                code="import-platform",
                hint="import one with --platform",
            )
        return chosen

    def _import(
        self,
        question: ImportQuestion,
        foreign: ForeignLock,
        file: Path,
        chosen: Sequence[str],
    ) -> Imported:
        completed, direct = self._complete(foreign, chosen)
        packages = {p: tuple(c.package for c in found) for p, found in completed.items()}
        roots = {p: direct.get(p) or roots_of(of_platform) for p, of_platform in packages.items()}
        conda, pip = requirement_lines(packages, roots)
        image = _image_of(foreign)
        text = environment_text(
            name=foreign.name,
            origin=f"{question.file.name} ({foreign.title})",
            channels=foreign.channels or _channels(packages),
            conda=conda,
            pip=pip,
            platforms=chosen,
            variables=foreign.variables,
            image=image,
        )
        spec = self._read_back(text, file)
        definition = definition_digest(spec)
        locks: dict[str, LockedEnvironment] = {}
        documents: dict[Digest, bytes] = {}
        for platform in chosen:
            base = self._base(foreign, spec, platform, documents)
            locks[platform] = LockedEnvironment(
                definition=definition,
                pin_key=pin_key_of(spec, platform, self._config, definition),
                platform=platform,
                base=base,
                packages=_marked(packages[platform], roots[platform]),
                created=self._now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                solver={"import": foreign.kind},
            )
        read = replace(spec, inputs=(str(file.absolute()),))
        pin(
            self._config,
            self._store,
            {spec.name: ToPin(read, locks, False, False, documents)},
        )
        _write(file, text)
        everything = [item for found in completed.values() for item in found]
        return Imported(
            foreign.kind,
            foreign.name,
            file,
            lockfile_path(self._config.root, foreign.name),
            {platform: len(found) for platform, found in packages.items()},
            sum(1 for item in everything if item.fetched),
            sum(item.fetched for item in everything),
            (*foreign.diagnostics, *self._unused(foreign, chosen), *self._unseen(file)),
        )

    def _complete(
        self, foreign: ForeignLock, chosen: Sequence[str]
    ) -> tuple[dict[str, list[Completed]], dict[str, frozenset[tuple[str, str]]]]:
        """Every package with all that a lock needs; the last error's type, with all problems."""
        found: dict[str, list[Completed]] = {}
        direct: dict[str, frozenset[tuple[str, str]]] = {}
        problems: list[Diagnostic] = []
        last: EnvgraphError | None = None
        with Transport(logins=Logins(os.environ)) as transport:
            completer = Completer(
                self._config, StoredPackages(self._store), transport, offline=self._offline
            )

            def one(package: ForeignPackage) -> Completed | EnvgraphError:
                try:
                    return completer.complete(package)
                except EnvgraphError as error:
                    return error

            for platform in chosen:
                if platform in foreign.ready:
                    lock = foreign.ready[platform]
                    found[platform] = [Completed(package) for package in lock.packages]
                    direct[platform] = frozenset(
                        (p.manager, p.name) for p in lock.packages if p.direct
                    )
                    continue
                packages = foreign.platforms.get(platform) or foreign.platforms.get("", ())
                done = ParallelMap(_PARALLEL)(one, packages)
                for item in done:
                    if isinstance(item, EnvgraphError):
                        problems += item.diagnostics
                        last = item
                good = [item for item in done if isinstance(item, Completed)]
                found[platform] = sorted(good, key=lambda c: (c.package.manager, c.package.name))
        if last is not None:
            raise type(last)(problems)
        return found, direct

    def _read_back(self, text: str, file: Path) -> EnvironmentSpec:
        """The written text as the next plan will read it."""
        from envgraph.spec import load_environment

        with tempfile.TemporaryDirectory(prefix="envgraph-import-") as folder:
            path = Path(folder) / file.name
            path.write_text(text, encoding="utf-8")
            result = load_environment(path, self._config)
        if result.spec is None:
            raise InputError(replace(d, source=None) for d in result.diagnostics)
        return result.spec

    def _base(
        self,
        foreign: ForeignLock,
        spec: EnvironmentSpec,
        platform: str,
        documents: dict[Digest, bytes],
    ) -> LockedBase:
        if platform in foreign.ready:
            return foreign.ready[platform].base
        resolved = resolve_base(
            spec.image or "scratch", spec.image_path, platform, registry=self._bases()
        )
        documents.update(resolved.documents)
        return resolved.locked

    def _unused(self, foreign: ForeignLock, chosen: Sequence[str]) -> list[Diagnostic]:
        left = sorted({*foreign.ready, *foreign.platforms} - {*chosen, ""})
        if not left:
            return []
        return [
            Diagnostic(
                "platforms-left-out",
                f"the lock has other platforms too: {', '.join(left)}",
                hint="--platform takes them in; platforms in envgraph.yaml says what is built",
                severity="info",
            )
        ]

    def _unseen(self, file: Path) -> list[Diagnostic]:
        """A remark where the workspace's globs do not find the new file."""
        from envgraph.spec import discover

        if Path(os.path.normpath(file.absolute())) in {
            Path(os.path.normpath(path.absolute())) for path in discover(self._config)
        }:
            return []
        return [
            Diagnostic(
                "not-discovered",
                f"`environments` in envgraph.yaml does not name {file}",
                hint=f"add it there, or name it: `envgraph plan {file}`",
                severity="warning",
            )
        ]


def named_channels(foreign: ForeignLock, config: WorkspaceConfig) -> ForeignLock:
    """The lock with its channels called what the workspace calls them.

    An address that ``channels:`` in envgraph.yaml gives for a name is that channel: the
    same packages from a mirror are the same environment.
    """
    names = {
        source.address: name
        for name in config.channels
        for source in locate(name, {}, config)
        if source.name == name
    }
    if not names:
        return foreign
    return replace(
        foreign,
        channels=tuple(dict.fromkeys(names.get(c, c) for c in foreign.channels)),
        platforms={
            platform: tuple(replace(p, channel=names.get(p.channel, p.channel)) for p in packages)
            for platform, packages in foreign.platforms.items()
        },
    )


def _channels(packages: Mapping[str, Sequence[LockedPackage]]) -> tuple[str, ...]:
    """The channels of the packages in order of first use."""
    return tuple(
        dict.fromkeys(
            p.channel for found in packages.values() for p in found if p.manager == "conda"
        )
    )


def _image_of(foreign: ForeignLock) -> str | None:
    """The base that the lock names; None where the workspace's default is meant."""
    return next((lock.base.reference for lock in foreign.ready.values()), None)


def _marked(
    packages: Sequence[LockedPackage], roots: frozenset[tuple[str, str]]
) -> tuple[LockedPackage, ...]:
    return tuple(replace(p, direct=(p.manager, p.name) in roots) for p in packages)


def _write(file: Path, text: str) -> None:
    """Write a file that must not be there yet."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise InputError(
            f"{file} cannot be written", code="import-write", detail=error.strerror or str(error)
        ) from None
