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
from typing import TYPE_CHECKING, Final

from envgraph.apply.executor import ParallelMap
from envgraph.apply.pinning import ToPin, pin
from envgraph.conda.logins import Logins
from envgraph.conda.transport import Transport
from envgraph.errors import Diagnostic, EnvgraphError, InputError
from envgraph.interchange.imports.assemble import (
    channels_in,
    marked,
    named_channels,
    written_text,
)
from envgraph.interchange.imports.complete import Completed, Completer, told_once
from envgraph.interchange.imports.foreign import ForeignLock, ForeignPackage
from envgraph.interchange.imports.read import read_foreign
from envgraph.interchange.imports.roots import (
    cannot_be_told_apart,
    requirement_lines,
    roots_of,
)
from envgraph.lock.contract import pin_key_of, virtual_packages
from envgraph.lock.find import lockfile_path
from envgraph.lock.follow import MovingBases
from envgraph.lock.images import resolve_base
from envgraph.lock.keep import StoredPackages
from envgraph.lock.make import LockMaker
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest
from envgraph.model.locked import LockedBase, LockedEnvironment
from envgraph.model.names import escape_name, name_problem, reserved_prefix
from envgraph.model.spec import EnvironmentSpec
from envgraph_store import Digest, Store

if TYPE_CHECKING:
    from packaging.pylock import Pylock

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
    environment: str | None = None
    """Of a pixi lock."""

    python: str | None = None
    """Its version, for files that lock none."""


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
        read = read_foreign(question.file, question.name, question.environment, question.python)
        foreign = named_channels(read, self._config)
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
        if foreign.pip_only:
            return tuple(question.platforms or self._config.platforms)
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
        if foreign.pip_only:
            return self._solve(question, foreign, file, chosen)
        completed, direct = self._complete(foreign, chosen)
        packages = {p: tuple(c.package for c in found) for p, found in completed.items()}
        roots = {p: direct.get(p) or roots_of(of_platform) for p, of_platform in packages.items()}
        conda, pip = requirement_lines(packages, roots)
        channels = foreign.channels or channels_in(packages)
        text = written_text(question.file.name, foreign, chosen, conda, pip, channels)
        spec = self._read_back(text, file)
        definition = definition_digest(spec)
        documents: dict[Digest, bytes] = {}
        locks = {
            platform: LockedEnvironment(
                definition=definition,
                pin_key=pin_key_of(spec, platform, self._config, definition),
                platform=platform,
                base=self._base(foreign, spec, platform, documents),
                packages=marked(packages[platform], roots[platform]),
                created=self._now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                solver={"import": foreign.kind},
            )
            for platform in chosen
        }
        everything = [item for found in completed.values() for item in found]
        remarks = self._unused(foreign, chosen)
        return self._keep(foreign, file, text, spec, locks, documents, everything, remarks)

    def _solve(
        self, question: ImportQuestion, foreign: ForeignLock, file: Path, chosen: Sequence[str]
    ) -> Imported:
        """Lock what the file leaves open: its Python, or everything."""
        conda = [("", text) for text in foreign.conda]
        text = written_text(
            question.file.name, foreign, chosen, conda, foreign.pip, foreign.channels
        )
        spec = self._read_back(text, file)
        definition = definition_digest(spec)
        asked = spec
        if foreign.pylock is not None and spec.conda is not None:
            asked = replace(spec, conda=replace(spec.conda, pip=()))
        maker = LockMaker(
            self._config, self._store, offline=self._offline, now=self._now, bases=self._bases
        )
        locks: dict[str, LockedEnvironment] = {}
        documents: dict[Digest, bytes] = {}
        fetched: list[Completed] = []
        remarks: list[Diagnostic] = []
        for platform in chosen:
            made = maker.make(asked, definition, platform, None)
            key = pin_key_of(spec, platform, self._config, definition)
            lock = replace(made.lock, pin_key=key)
            if foreign.pylock is not None:
                wheels = self._wheels(foreign.pylock, lock)
                fetched += wheels
                lock = replace(lock, packages=(*lock.packages, *(w.package for w in wheels)))
            locks[platform] = lock
            documents |= made.documents
            remarks += made.remarks
        return self._keep(foreign, file, text, spec, locks, documents, fetched, remarks)

    def _wheels(self, pylock: Pylock, lock: LockedEnvironment) -> list[Completed]:
        from envgraph.interchange.imports.pylock import wheels_for

        if lock.python is None:
            raise InputError("no Python was locked for pylock.toml", code="pylock-select")
        packages = virtual_packages(self._config, lock.platform)
        found = wheels_for(pylock, lock.python, lock.platform, packages)
        return self._completed(found, direct=True)

    def _keep(
        self,
        foreign: ForeignLock,
        file: Path,
        text: str,
        spec: EnvironmentSpec,
        locks: Mapping[str, LockedEnvironment],
        documents: Mapping[Digest, bytes],
        completed: Sequence[Completed],
        remarks: Sequence[Diagnostic],
    ) -> Imported:
        """Pins first, the lockfile second, the environment file last."""
        read = replace(spec, inputs=(str(file.absolute()),))
        pin(self._config, self._store, {spec.name: ToPin(read, locks, False, False, documents)})
        _write(file, text)
        return Imported(
            foreign.kind,
            foreign.name,
            file,
            lockfile_path(self._config.root, foreign.name),
            {platform: len(lock.packages) for platform, lock in locks.items()},
            sum(1 for item in completed if item.fetched),
            sum(item.fetched for item in completed),
            (*foreign.diagnostics, *remarks, *self._unseen(file)),
        )

    def _complete(
        self, foreign: ForeignLock, chosen: Sequence[str]
    ) -> tuple[dict[str, list[Completed]], dict[str, frozenset[tuple[str, str]]]]:
        """Every package with all that a lock needs; the last error's type, with all problems."""
        found: dict[str, list[Completed]] = {}
        direct: dict[str, frozenset[tuple[str, str]]] = {}
        for platform in chosen:
            if platform in foreign.ready:
                lock = foreign.ready[platform]
                found[platform] = [Completed(package) for package in lock.packages]
                direct[platform] = frozenset((p.manager, p.name) for p in lock.packages if p.direct)
                continue
            packages = foreign.platforms.get(platform) or foreign.platforms.get("", ())
            found[platform] = self._completed(packages)
        return found, direct

    def _completed(
        self, packages: Sequence[ForeignPackage], *, direct: bool = False
    ) -> list[Completed]:
        """These packages, sorted; the last error's type with the problems of all of them."""
        with Transport(logins=Logins(os.environ)) as transport:
            completer = Completer(
                self._config, StoredPackages(self._store), transport, offline=self._offline
            )

            def one(package: ForeignPackage) -> Completed | EnvgraphError:
                try:
                    return completer.complete(package)
                except EnvgraphError as error:
                    return error

            done = ParallelMap(_PARALLEL)(one, packages)
        wrong = [item for item in done if isinstance(item, EnvgraphError)]
        if wrong:
            raise type(wrong[-1])(told_once(d for error in wrong for d in error.diagnostics))
        good = [item for item in done if isinstance(item, Completed)]
        marked = [replace(c, package=replace(c.package, direct=direct)) for c in good]
        return sorted(marked, key=lambda c: (c.package.manager, c.package.name))

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
