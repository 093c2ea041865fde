"""From a reference to a version: the one function behind every verb that takes a REF.

``NAME``, ``NAME:VERSION``, ``NAME@LABEL``, Azure ML's forms of them, ARM ids of this
workspace, and the digest of a definition or image or its beginning. Archived versions are
found when they are named; ``latest`` never means one. Deleted ones are not found.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from envgraph.errors import NotFoundError
from envgraph.history.fold import LATEST, EnvironmentState, VersionState
from envgraph.history.read import (
    environment_names,
    environment_refs,
    read_version,
    state_at,
    state_of,
    versions,
)
from envgraph.model.names import shown
from envgraph.model.records import VersionRecord
from envgraph.spec.references import (
    BadEnvironmentReferenceError,
    EnvironmentReference,
    parse_environment_reference,
)
from envgraph_store import Store

_SHORTEST: int = 7
"""Digits of an anonymous version that are enough to name it."""


def find_version(
    store: Store, workspace_id: str, reference: str, workspace: str = ""
) -> VersionRecord:
    """The version that ``reference`` names; NotFoundError with what is there instead.

    ``workspace`` is the name of this one: an ARM id of another is refused.
    """
    state, found = find_state(store, workspace_id, reference, workspace)
    if found is None:
        raise _nothing_latest(state)
    return read_version(store, found)


def parsed(reference: str) -> EnvironmentReference:
    """The reference as a value; NotFoundError (``bad-reference``) says what is wrong with it."""
    try:
        return parse_environment_reference(reference)
    except BadEnvironmentReferenceError as error:
        code = "bad-digest" if reference.strip().startswith("sha256:") else "bad-reference"
        text = reference if reference.count("/") > 2 else shown(reference)
        raise NotFoundError(f"{text}: {error}", code=code) from error


def find_state(
    store: Store, workspace_id: str, reference: str, workspace: str = ""
) -> tuple[EnvironmentState, VersionState | None]:
    """The environment that a reference names, and the version in it.

    None for the version where only the environment is named and no version of it is
    latest. NotFoundError with what is there instead.
    """
    wanted = parsed(reference)
    if wanted.registry:
        raise NotFoundError(
            f"{wanted} is an environment of the registry {wanted.registry!r}",
            code="other-registry",
            hint="pull or clone it: what a registry has changes there, not here",
        )
    if workspace and wanted.is_of_another(workspace):
        raise NotFoundError(
            f"{reference!r} is of the workspace {wanted.workspace!r}; this one is {workspace!r}",
            code="other-workspace",
            hint=f"run this in the folder of {wanted.workspace!r}, or share the environment"
            " through a registry",
        )
    if wanted.definition is not None or wanted.beginning:
        digits = wanted.beginning or (wanted.definition.hex if wanted.definition else "")
        return _by_digest(store, workspace_id, digits)
    state = state_of(store, workspace_id, wanted.name)
    if state is None:
        raise _unknown(store, workspace_id, wanted.name)
    return state, _version_in(state, wanted)


def _version_in(state: EnvironmentState, wanted: EnvironmentReference) -> VersionState | None:
    version = wanted.version
    if wanted.label not in (None, LATEST):
        version = state.labels.get(wanted.label or "")
        if version is None:
            raise _unknown_label(state, wanted.label or "")
    if version is None:
        return state.compared if state.is_anonymous else state.latest
    found = state.versions.get(version)
    if found is None and len(version) >= _SHORTEST:
        near = [v for v in state.versions.values() if v.anonymous and v.version.startswith(version)]
        found = near[0] if len(near) == 1 else None
    if found is None:
        raise _unknown_version(state, version)
    if found.deleted:
        raise _deleted(state, found, wanted.label)
    return found


def _by_digest(
    store: Store, workspace_id: str, digits: str
) -> tuple[EnvironmentState, VersionState]:
    """The newest version of the first environment by name that has the definition or image."""
    found: list[tuple[EnvironmentState, VersionState]] = []
    meant: set[str] = set()
    for name, ref in sorted(environment_refs(store, workspace_id).items()):
        state = state_at(store, workspace_id, name, ref.value)
        for version in reversed(list(state.versions.values())):
            hit = [d.hex for d in (version.definition, version.image) if d.hex.startswith(digits)]
            if hit and not version.deleted:
                meant |= set(hit)
                found.append((state, version))
    if not found:
        found = _by_platform(store, workspace_id, digits)
        meant = {digits} if found else set()
    if not found:
        what = "definition or image"
        raise NotFoundError(
            f"no environment here has the {what} sha256:{digits}", code="unknown-digest"
        )
    if len(meant) > 1:
        raise NotFoundError(
            f"sha256:{digits} is the beginning of {len(meant)} digests",
            code="ambiguous-digest",
            hint=f"give more of it: {', '.join(sorted(item[:16] for item in meant)[:5])}",
        )
    return found[0]


def _by_platform(
    store: Store, workspace_id: str, digits: str
) -> list[tuple[EnvironmentState, VersionState]]:
    """Where a version has several platforms, only its record names each one's image."""
    for name in environment_names(store, workspace_id):
        for record in versions(store, workspace_id, name):
            if any(image.hex.startswith(digits) for image in record.images.values()):
                state = state_of(store, workspace_id, name)
                return [] if state is None else [(state, state.versions[record.version])]
    return []


def _unknown_label(state: EnvironmentState, label: str) -> NotFoundError:
    known = [LATEST, *sorted(state.labels)]
    return NotFoundError(
        f"{state.name!r} has no label {label!r}",
        code="unknown-label",
        hint=_did_you_mean(label, known)
        or ("`latest` always exists" if len(known) == 1 else f"it has {', '.join(known[:10])}"),
    )


def _unknown_version(state: EnvironmentState, version: str) -> NotFoundError:
    known = [v.version for v in reversed(list(state.versions.values())) if not v.deleted]
    return NotFoundError(
        f"{state.name!r} has no version {version!r}",
        code="unknown-version",
        hint=f"it has {', '.join(known[:10])}" if known else "all of its versions are deleted",
    )


def _deleted(state: EnvironmentState, version: VersionState, label: str | None) -> NotFoundError:
    what = f"the label {label!r} of {state.name!r} means version {version.version}, which"
    return NotFoundError(
        f"{what if label else f'version {version.version} of {state.name!r}'} was deleted",
        code="version-deleted",
        detail=f"its definition sha256:{version.definition.hex} and its locks are kept",
        hint=f"`envgraph history {state.name}` shows when",
    )


def _nothing_latest(state: EnvironmentState) -> NotFoundError:
    archived = [v.version for v in state.versions.values() if v.archived and not v.deleted]
    if archived:
        hint = f"name one, or `envgraph restore {state.name}:{archived[-1]}`"
        return NotFoundError(
            f"every version of {state.name!r} is archived", code="all-archived", hint=hint
        )
    return NotFoundError(
        f"{state.name!r} has no version" + (" by that name" if state.is_anonymous else " left"),
        code="unknown-version",
        hint=f"`envgraph history {state.name}` shows what there was",
    )


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 3)
    return f"did you mean {', '.join(near)}?" if near else ""


def _unknown(store: Store, workspace_id: str, name: str) -> NotFoundError:
    names = environment_names(store, workspace_id)
    hint = _did_you_mean(name, names) or "`envgraph list` shows what is there"
    if not names:
        hint = "nothing was applied in this workspace yet: run `envgraph apply`"
    return NotFoundError(f"no environment is named {name!r}", code="unknown-name", hint=hint)
