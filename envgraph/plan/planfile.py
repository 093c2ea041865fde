"""Saved plans: what was planned, and everything it stood on, in one JSON file.

A saved plan carries the locks that it solved (so that applying it solves nothing
again), the digest of every input file, and the store's view of each environment.
Applying it first makes the plan anew with those locks; if the fingerprint differs
in anything, the saved plan is stale and nothing is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from envgraph.errors import InputError, SourceLocation, StalePlanError
from envgraph.model.canonical import digest_of
from envgraph.model.documents import lock_document, lock_from_document
from envgraph.model.locked import LockedEnvironment
from envgraph.plan.plan import Plan
from envgraph_store.digest import Digest

PLAN_SCHEMA: Final = "envgraph.plan/2"
"""2: locks that moved their base, and the documents of bases."""

PLAN_LIMIT: Final = 512 << 20


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan file: where it was made, what it solved, and its fingerprint."""

    workspace_id: str
    files: tuple[str, ...]
    targets: tuple[str, ...]
    replace: tuple[str, ...]
    locks: Mapping[Digest, LockedEnvironment]
    """Solved locks by pin key."""

    moves: Mapping[tuple[str, Digest], LockedEnvironment]
    """Locks whose base it moved, by environment and pin key."""

    documents: Mapping[Digest, bytes]
    """Manifests and configs of bases that were asked for."""

    inputs: Mapping[str, str | None]
    """Files that were read → sha256 of their bytes; None where there was none."""

    fingerprint: Digest

    def check_inputs(self) -> None:
        """StalePlanError naming every input file whose bytes are no longer the same."""
        changed = [path for path, before in self.inputs.items() if file_digest(path) != before]
        if changed:
            raise StalePlanError(
                f"the saved plan is stale: {', '.join(changed[:5])} changed since it was made",
                hint="run `envgraph plan --out FILE` again",
            )

    def check(self, plan: Plan) -> None:
        """StalePlanError when the plan made now is not the one that was saved."""
        if fingerprint(plan) != self.fingerprint:
            raise StalePlanError(
                "the saved plan is stale: the store or the environments changed since it was made",
                hint="run `envgraph plan --out FILE` again",
            )


def file_digest(path: str) -> str | None:
    """The sha256 of a file's bytes in hex; None when there is no such file."""
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        names = sorted(entry.name for entry in Path(path).iterdir())
        return hashlib.sha256(repr(names).encode()).hexdigest()


def fingerprint(plan: Plan) -> Digest:
    """One digest over everything that the plan would do."""
    return digest_of(
        "plan-fingerprint/1",
        {
            "steps": [[str(s.key), s.action, s.name] for s in plan.steps],
            "environments": [
                [c.target.name, c.action, c.version, c.target.definition, c.target.runtime]
                for c in plan.environments
            ],
        },
    )


def save_plan(
    path: Path,
    plan: Plan,
    *,
    workspace_id: str,
    files: Sequence[str],
    targets: Sequence[str],
    replace: Sequence[str],
    inputs: Iterable[str],
) -> None:
    """Write the plan file; it holds no credentials, since locks hold none."""
    new = [
        (change.target.name, locked)
        for change in plan.environments
        for locked in change.target.platforms.values()
        if locked.origin == "new"
    ]
    documents = {digest: data for _, locked in new for digest, data in locked.documents.items()}
    document = {
        "schema": PLAN_SCHEMA,
        "workspace": workspace_id,
        "files": list(files),
        "targets": list(targets),
        "replace": list(replace),
        "locks": [lock_document(locked.lock) for _, locked in new if locked.left is None],
        "moves": [[name, lock_document(locked.lock)] for name, locked in new if locked.left],
        "documents": [data.decode() for data in documents.values()],
        "inputs": {name: file_digest(name) for name in inputs},
        "fingerprint": str(fingerprint(plan)),
    }
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")


def load_plan(path: Path) -> SavedPlan:
    """Read a plan file; InputError when it is not one."""
    place = SourceLocation(str(path))
    try:
        if path.stat().st_size > PLAN_LIMIT:
            raise ValueError("too large")
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document.get("schema") != PLAN_SCHEMA:
            raise InputError(
                f"{path} is a plan of another version of envgraph",
                code="plan-version",
                source=place,
                hint="run `envgraph plan --out FILE` again",
            )
        locks = [lock_from_document(item) for item in document["locks"]]
        moves = [(name, lock_from_document(item)) for name, item in document["moves"]]
        documents = [text.encode() for text in document["documents"]]
        return SavedPlan(
            workspace_id=document["workspace"],
            files=tuple(document["files"]),
            targets=tuple(document["targets"]),
            replace=tuple(document["replace"]),
            locks={lock.pin_key: lock for lock in locks},
            moves={(name, lock.pin_key): lock for name, lock in moves},
            documents={Digest.of(data): data for data in documents},
            inputs=document["inputs"],
            fingerprint=Digest(document["fingerprint"]),
        )
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", source=place) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a plan file: {error}", code="not-a-plan", source=place
        ) from error


def is_plan_file(path: Path) -> bool:
    """The file's beginning says that it is a saved plan."""
    try:
        with path.open("rb") as stream:
            return PLAN_SCHEMA.rsplit("/", 1)[0].encode() in stream.read(64)
    except OSError:
        return False
