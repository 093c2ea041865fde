"""The same packages on another base: locks with their base exchanged, for a plan.

Nothing is solved, installed or downloaded: a rebased lock is the newest version's lock
with another base, the plan over it finds every layer built, and apply writes a manifest
and a config. Each base is read once for each platform. Docker steps are the exception: they
run again, on the new base, so the plan has them to build, and a builder is needed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from envgraph.diff.impact import AskedBase, is_same_reference, named_by
from envgraph.errors import Diagnostic, EnvgraphError, InputError, UsageError
from envgraph.history.find import find_version
from envgraph.history.read import newest
from envgraph.lock.contract import pin_key_of, virtual_packages
from envgraph.lock.find import FoundLock, FoundLocks, LockFinder
from envgraph.lock.images import RegistryResolver, ResolvedBase, resolve_base
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest, lock_identity, runtime_digest
from envgraph.model.locked import LockedBase, LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph.model.reference import LocalReference, RegistryReference, parse_reference
from envgraph.model.spec import EnvironmentSpec
from envgraph.refresh.desired import Loaded, about_environment
from envgraph.spec.edit import ScalarEdit, edit_scalar
from envgraph_store import Digest, Store


@dataclass(frozen=True, slots=True)
class NewBase:
    """``--base``: the reference in normal form, as written, and the path behind it."""

    reference: str
    written: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Rebase:
    """What is to be planned: files as they will be, their locks, and the edits that make them so.

    ``unchanged`` names environments that stand on the base already.
    """

    loaded: Loaded
    locks: Mapping[str, FoundLocks]
    edits: Mapping[str, ScalarEdit] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()
    remarks: tuple[Diagnostic, ...] = ()

    def find(
        self, spec: EnvironmentSpec, definition: Digest, platforms: Sequence[str]
    ) -> FoundLocks:
        """The rebased locks, in the place of a :class:`~envgraph.lock.find.LockFinder`."""
        return self.locks[spec.name]


def read_new_base(text: str, root: str) -> NewBase:
    """The base that ``--base`` names; paths start at the workspace's folder."""
    parsed = parse_reference(text)
    if isinstance(parsed, LocalReference):
        path = os.path.normpath(Path(root, Path(parsed.path).expanduser()).absolute())
        return NewBase(str(parsed), text.strip(), path)
    return NewBase(str(parsed), text.strip())


def newest_names(store: Store, workspace_id: str, references: Sequence[str]) -> frozenset[str]:
    """The environments that are named; NotFoundError for one that is not there.

    UsageError for a version that is not the newest: a rebase makes the one after that.
    """
    names = set()
    for reference in references:
        record = find_version(store, workspace_id, reference)
        top = newest(store, workspace_id, record.environment)
        if top is not None and top.version != record.version:
            raise UsageError(
                f"{record.environment}:{record.version} is not the newest version, "
                f"which is {top.version}",
                hint=f"a rebase makes the version after it: name {record.environment} alone",
            )
        names.add(record.environment)
    return frozenset(names)


class Rebaser:
    """Makes the rebased locks of a workspace. Keeps nothing, writes nothing."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        finder: LockFinder,
        *,
        bases: RegistryResolver | None,
        now: datetime,
    ) -> None:
        """Bind the parts; opens nothing."""
        self._config = config
        self._store = store
        self._finder = finder
        self._bases = bases
        self._now = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._read: dict[tuple[str, str | None, str], ResolvedBase | EnvgraphError] = {}

    def rebase(
        self,
        loaded: Loaded,
        names: Collection[str] | None,
        *,
        on: AskedBase | None = None,
        base: NewBase | None = None,
    ) -> Rebase:
        """Rebase the environments of these names; of None all that stand on ``on``.

        One that cannot be rebased stops no other: the reason is among the problems.
        Environments that were only swept in (``names`` None) and cannot have another base, on
        ``scratch`` or named by digest, are left out without a word.
        """
        specs: list[EnvironmentSpec] = []
        locks: dict[str, FoundLocks] = {}
        edits: dict[str, ScalarEdit] = {}
        unchanged: list[str] = []
        problems = [*loaded.diagnostics, *_without_file(loaded, names or ())]
        for spec in loaded.specs:
            if names is not None and spec.name not in names:
                continue
            try:
                found = self._current(spec, named=names is not None)
                if found is None or not (on is None or _stands_on(found, spec, on)):
                    continue
                self._check(spec, base, found)
                after, edit = spec, None
                if base is not None:
                    after, edit = self._edited(spec, base)
                moved = self._moved(after, found)
                if moved is None and edit is None:
                    unchanged.append(spec.name)
                    continue
                specs.append(after)
                locks[spec.name] = moved or found
                if edit is not None:
                    edits[spec.name] = edit
            except EnvgraphError as error:
                code = error.diagnostics[0].code
                if names is None and code in _NOT_MEANT and base is None:
                    continue
                found_problems = [about_environment(spec, d) for d in error.diagnostics]
                if names is None and on is None and code == "rebase-context":
                    found_problems = [replace(d, severity="warning") for d in found_problems]
                problems += found_problems
        return Rebase(
            Loaded(tuple(specs), tuple(problems), loaded.inputs),
            locks,
            edits,
            tuple(unchanged),
            self._remarks(specs, locks),
        )

    # -- one environment -------------------------------------------------

    def _current(self, spec: EnvironmentSpec, *, named: bool) -> FoundLocks | None:
        """The locks of the newest version; None for one without a version, if it was not named.

        InputError when file or lock say something else than the newest version.
        """
        record = newest(self._store, self._config.id, spec.name)
        if record is None:
            if not named:
                return None
            raise _refused(spec, "has no version yet", "run `envgraph apply`")
        definition = definition_digest(spec)
        found = self._finder.known(spec, definition, spec.platforms or self._config.platforms)
        if found is None or not _is_registered(record, spec, found):
            raise _refused(
                spec, f"is not what version {record.version} is: its file or its lock changed",
                "run `envgraph apply` first, so that the rebase changes the base alone",
                "rebase-pending",
            )  # fmt: skip
        return found

    def _check(self, spec: EnvironmentSpec, base: NewBase | None, found: FoundLocks) -> None:
        if spec.build is not None:
            raise _refused(
                spec, "is a build context: its Dockerfile says what it stands on",
                "`envgraph apply --follow-base` builds it on what its tags mean now; for another"
                " image change `FROM`, and apply",
                "rebase-context",
            )  # fmt: skip
        if base is not None:
            return
        parsed = parse_reference(spec.image or "scratch")
        if all(item.lock.base.is_scratch for item in found.locks.values()):
            raise _refused(spec, "stands on `scratch`, which never changes",
                           "name another base: --base IMAGE", "rebase-scratch")  # fmt: skip
        if isinstance(parsed, RegistryReference) and parsed.digest:
            raise _refused(spec, "names its base by digest, which never means another image",
                           "name another base: --base IMAGE", "rebase-digest")  # fmt: skip

    def _moved(self, spec: EnvironmentSpec, found: FoundLocks) -> FoundLocks | None:
        """The locks on the base that ``spec`` names now; None when they stand on it."""
        definition = definition_digest(spec)
        locks: dict[str, FoundLock] = {}
        for platform, item in found.locks.items():
            resolved = self._resolve(spec.image or "scratch", spec.image_path, platform)
            key = pin_key_of(spec, platform, self._config, definition)
            locks[platform] = self._on(item, resolved, definition, key)
        if all(locks[p].lock == item.lock for p, item in found.locks.items()):
            return None
        return FoundLocks(locks, False)

    def _on(
        self, item: FoundLock, resolved: ResolvedBase, definition: Digest, key: Digest
    ) -> FoundLock:
        lock = item.lock
        if lock.base == resolved.locked and lock.pin_key == key:
            return item
        moved = rebased(lock, resolved.locked, definition, key, self._now)
        left = lock.base if lock.base != resolved.locked else None
        return FoundLock(moved, "new", False, resolved.documents, left)

    def _resolve(self, reference: str, path: str | None, platform: str) -> ResolvedBase:
        place = (reference, path, platform)
        if place not in self._read:
            try:
                self._read[place] = resolve_base(*place, registry=self._bases)
            except EnvgraphError as error:
                self._read[place] = error
        answer = self._read[place]
        if isinstance(answer, EnvgraphError):
            raise EnvgraphError(answer.diagnostics)
        return answer

    def _edited(
        self, spec: EnvironmentSpec, base: NewBase
    ) -> tuple[EnvironmentSpec, ScalarEdit | None]:
        """The environment with ``image:`` as ``--base`` wants it, and the edit of its file."""
        if spec.image == base.reference and spec.image_path == base.path:
            return spec, None
        file = spec.source.file if spec.source is not None else ""
        written, reference = base.written, base.reference
        if base.path is not None:
            kind, _, rest = base.reference.partition(":")
            name = rest.partition(":")[2]
            path = base.path
            if not os.path.isabs(rest.partition(":")[0]):  # noqa: PTH117  text, not a file
                path = os.path.relpath(base.path, Path(file).absolute().parent)
            written = reference = f"{kind}:{path}" + (f":{name}" if name else "")
        if (spec.image, spec.image_path) == (reference, base.path):
            return spec, None
        edit = edit_scalar(file, "image", written)
        if edit is None:
            settings = self._config.file or "envgraph.yaml"
            raise InputError(
                f"{spec.name!r} names no `image:`: it stands on `image.default_base`",
                code="edit-refused",
                source=spec.source,
                hint=f"add `image: {written}` there, or change default_base in {settings}",
            )
        return replace(spec, image=reference, image_path=base.path), edit

    def _remarks(
        self, specs: Sequence[EnvironmentSpec], locks: Mapping[str, FoundLocks]
    ) -> tuple[Diagnostic, ...]:
        """What runs again, and what nobody looked at: whether the new C library is new enough."""
        again = [spec.name for spec in specs if spec.docker_steps]
        said: list[Diagnostic] = []
        if again:
            count = sum(len(spec.docker_steps) for spec in specs)
            said.append(
                Diagnostic(
                    "rebase-steps",
                    f"{count} docker step{'s run' if count != 1 else ' runs'} again on the new base"
                    f" ({', '.join(sorted(again))})",
                    "what they make there may be something else; the packages above stay",
                    severity="info",
                )
            )
        needs = {
            f"{platform} {virtual_packages(self._config, platform)['__glibc']}"
            for spec in specs
            for platform, item in locks[spec.name].locks.items()
            if item.lock.packages and "__glibc" in virtual_packages(self._config, platform)
        }
        if not needs:
            return tuple(said)
        return (
            *said,
            Diagnostic(
                "rebase-glibc",
                "assumed: the new base has the C library that the packages were solved for",
                f"glibc of at least: {', '.join(sorted(needs))}. What an image holds cannot be "
                "seen from its manifest.",
                hint="`envgraph run --container` tries it",
                severity="info",
            ),
        )


def _without_file(loaded: Loaded, names: Collection[str]) -> list[Diagnostic]:
    """The environments that are named, registered, and defined by no file that was read."""
    known = {spec.name for spec in loaded.specs}
    return [
        Diagnostic(
            "unknown-target",
            f"no environment file here defines {name!r}",
            "its next version would be made from that file",
            hint="name the file instead: envgraph rebase FILE",
        )
        for name in sorted(set(names) - known)
    ]


_NOT_MEANT = frozenset({"rebase-scratch", "rebase-digest"})


def rebased(
    lock: LockedEnvironment, base: LockedBase, definition: Digest, pin_key: Digest, now: str
) -> LockedEnvironment:
    """The next generation of a lock: another base below the same packages."""
    return replace(lock, base=base, definition=definition, pin_key=pin_key, created=now)


def _is_registered(record: VersionRecord, spec: EnvironmentSpec, found: FoundLocks) -> bool:
    said = (definition_digest(spec), runtime_digest(spec))
    locks = {platform: lock_identity(item.lock) for platform, item in found.locks.items()}
    return said == (record.definition, record.runtime) and locks == {
        platform: lock.identity for platform, lock in record.locks.items()
    }


def _stands_on(found: FoundLocks, spec: EnvironmentSpec, on: AskedBase) -> bool:
    """By digest, or by name whatever it meant then; shared layers do not count.

    A build context stands on every image that its Dockerfile names.
    """
    path = None if spec.image_path is None else str(Path(spec.image_path).resolve())
    return any(
        on.digests & named_by(base) or is_same_reference(on, base, path)
        for item in found.locks.values()
        for base in ((item.lock.base,) if spec.build is None else item.lock.bases)
    )


def _refused(spec: EnvironmentSpec, why: str, hint: str, code: str = "rebase") -> InputError:
    return InputError(f"{spec.name!r} {why}", code=code, source=spec.source, hint=hint)
