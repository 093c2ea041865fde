"""Edit an environment: its file, or (where that is gone) a file written from a version.

What is edited is a draft beside the file, so that relative paths mean the same in both.
The file is replaced only by a draft that is a good environment file; until then the draft
stays where it is, and the next edit goes on with it: no text is ever lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envgraph.apply.clone import (
    check_name,
    clone_document,
    document_text,
    file_of,
    lock_of_parent,
)
from envgraph.errors import Diagnostic, EnvgraphError, InputError, SourceLocation
from envgraph.history.read import environment_names, state_of
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedEnvironment
from envgraph.model.records import PARENT_PROPERTY, VersionRecord
from envgraph.spec.load import DRAFT
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.model.spec import EnvironmentSpec


@dataclass(frozen=True, slots=True)
class Draft:
    """An edit that has begun. ``text`` is what the editor shows first.

    ``before`` is the file as it was, None where there was none; ``parent`` what a file
    that was written from a version comes from. ``resumed``: an earlier edit goes on.
    ``reads`` are other files that the environment is made of.
    """

    name: str
    path: Path
    file: Path
    text: str
    before: bytes | None
    parent: str | None
    resumed: bool
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edited:
    """What became of an edit: the file, and the lockfile where the packages are the parent's."""

    name: str
    file: Path
    changed: bool
    parent: str | None = None
    lockfile: Path | None = None


class Editing:
    """Edits the environments of one workspace; registers nothing."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        document: Callable[[Any], Mapping[str, Any]],
        locks: Callable[[VersionRecord], Mapping[str, LockedEnvironment]],
    ) -> None:
        """Bind; ``document`` reads a canonical document, ``locks`` those of a version."""
        self._config = config
        self._store = store
        self._document = document
        self._locks = locks

    def begin(
        self, reference: str, record: VersionRecord, parent: str, new: str | None, *, named: bool
    ) -> Draft:
        """The draft of an edit. ``named``: the reference names a version or label.

        ``new``: the name of another environment to make from it. InputError where that is
        needed (curated, of a registry, of a job) or is no good name, and for an older version
        whose file says something newer.
        """
        from envgraph.refresh.desired import load_specs

        specs = {spec.name: spec for spec in load_specs(self._config, ()).specs}
        if new is not None:
            taken = dict.fromkeys(environment_names(self._store, self._config.id), "registered")
            taken |= {name: str(spec.source) for name, spec in specs.items()}
            check_name(new, self._config, record, taken)
            return self._written(record, new, parent)
        name = record.environment
        if record.kind == "curated" or parent.startswith("azureml://") or record.anonymous:
            what = "belongs to a job" if record.anonymous else "is another's: it stays as it is"
            raise InputError(
                f"{name!r} {what}; a changed one needs a name of its own",
                code="curated" if record.kind == "curated" else "needs-name",
                hint=f"envgraph edit {reference} my-{name[:40]}",
            )
        spec = specs.get(name)
        if spec is None:
            return self._written(record, name, parent)
        self._check_newest(record, spec, reference, named=named)
        assert spec.source is not None
        return self._of_file(spec, Path(spec.source.file))

    def _check_newest(
        self, record: VersionRecord, spec: EnvironmentSpec, reference: str, *, named: bool
    ) -> None:
        state = state_of(self._store, self._config.id, record.environment)
        newest = None if state is None else state.newest
        if named and newest is not None and newest.version != record.version:
            raise InputError(
                f"{record.environment}:{record.version} is not what its file says:"
                f" version {newest.version} is newer",
                code="not-newest",
                source=spec.source,
                hint=f"`envgraph edit {record.environment}` edits the file; to begin with the"
                f" older version, give a new name: envgraph edit {reference} NEW",
            )

    def _of_file(self, spec: EnvironmentSpec, file: Path) -> Draft:
        from envgraph.spec.files import read_file
        from envgraph.spec.load import load_environment

        if load_environment(file, self._config).spec != spec:
            raise InputError(
                f"{spec.name!r} is defined inside {file}",
                code="not-a-file",
                detail="that file holds more than this environment",
                source=spec.source,
                hint="change it in an editor of your own",
            )
        before = read_file(file)
        reads = tuple(item for item in spec.inputs if Path(item) != file.absolute())
        return self._draft(spec.name, file, before.decode(errors="replace"), before, None, reads)

    def _written(self, record: VersionRecord, name: str, parent: str) -> Draft:
        document = clone_document(
            record,
            self._document(record.definition),
            self._document(record.runtime),
            name=name,
            parent=parent,
        )
        if name == record.environment:
            properties = {k: v for k, v in document["properties"].items() if k != PARENT_PROPERTY}
            document["properties"] = properties
            document = {key: value for key, value in document.items() if value}
        locks = self._locks(record)
        file = file_of(self._config, name)
        if os.path.lexists(file):
            raise InputError(
                f"{file} is there already, and does not define {name!r}",
                code="file-exists",
                hint="rename it, or choose another name",
            )
        return self._draft(name, file, document_text(document, self._config, locks), None, parent)

    def _draft(
        self,
        name: str,
        file: Path,
        text: str,
        before: bytes | None,
        parent: str | None,
        reads: tuple[str, ...] = (),
    ) -> Draft:
        path = file.with_name(f".{file.name}{DRAFT}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            resumed = path.exists()
            if resumed:
                text = path.read_text(encoding="utf-8", errors="replace")
            else:
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"{path} cannot be written", code="unwritable",
                detail=error.strerror or str(error),
            ) from None  # fmt: skip
        return Draft(name, path, file, text, before, parent, resumed, reads)

    def problems(self, draft: Draft) -> tuple[Diagnostic, ...]:
        """Every problem of the draft as it is now; remarks are left out."""
        from envgraph.spec.load import load_environment

        loaded = load_environment(draft.path, self._config)
        found = [d for d in loaded.diagnostics if d.severity == "error"]
        spec = loaded.spec
        if not found and spec is not None and spec.name != draft.name:
            place = spec.source or SourceLocation(str(draft.path))
            found.append(
                Diagnostic(
                    "other-name",
                    f"its name is {spec.name[:80]!r} now, and {draft.name[:80]!r} was to be edited",
                    "an environment with another name is another environment",
                    place,
                    "put the name back; `envgraph edit REF NEW` makes another one",
                )
            )
        return tuple(found)

    def is_changed(self, draft: Draft) -> bool:
        """Somebody has written something else into it than what it began with."""
        try:
            return draft.resumed or draft.path.read_bytes() != draft.text.encode()
        except OSError:
            return False

    def discard(self, draft: Draft) -> None:
        """Take the draft away."""
        draft.path.unlink(missing_ok=True)

    def finish(self, draft: Draft, record: VersionRecord) -> Edited:
        """Let the draft be the file. EnvgraphError where the file is not what it was."""
        try:
            now = draft.file.read_bytes()
        except FileNotFoundError:
            now = None
        if now != draft.before:
            raise EnvgraphError(
                f"{draft.file} was changed by somebody else meanwhile",
                code="changed-meanwhile",
                detail=f"your text is in {draft.path}",
                hint="put the two together there, then replace the file with it",
            )
        draft.path.replace(draft.file)
        lockfile = None
        if draft.before is None and draft.name != record.environment:
            lockfile = lock_of_parent(self._config, draft.file, record, self._locks(record))
        return Edited(draft.name, draft.file, True, draft.parent, lockfile)
