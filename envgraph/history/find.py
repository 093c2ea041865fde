"""From a reference to a version: ``NAME``, ``NAME:VERSION``, ``NAME@latest``, a digest."""

from __future__ import annotations

import difflib

from envgraph.errors import NotFoundError
from envgraph.history.read import environment_names, latest, versions
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store


def find_version(store: Store, workspace_id: str, reference: str) -> VersionRecord:
    """The version that ``reference`` names; NotFoundError with what is there instead."""
    text = reference.removeprefix("azureml:")
    if text.startswith("sha256:"):
        return _by_digest(store, workspace_id, text)
    name, _, version = text.partition(":")
    label = ""
    if not version:
        name, _, label = text.partition("@")
    newest = latest(store, workspace_id, name)
    if newest is None:
        raise _unknown(store, workspace_id, name)
    if label not in ("", "latest"):
        raise NotFoundError(
            f"{name!r} has no label {label!r}", code="unknown-label", hint="`latest` always exists"
        )
    if not version or version == newest.version:
        return newest
    known: list[str] = []
    for record in versions(store, workspace_id, name):
        if record.version == version:
            return record
        known.append(record.version)
    raise NotFoundError(
        f"{name!r} has no version {version!r}",
        code="unknown-version",
        hint=f"it has {', '.join(list(dict.fromkeys(known))[:10])}",
    )


def _by_digest(store: Store, workspace_id: str, text: str) -> VersionRecord:
    try:
        digest = Digest(text)
    except ValueError as error:
        raise NotFoundError(str(error), code="bad-digest") from error
    for name in environment_names(store, workspace_id):
        for record in versions(store, workspace_id, name):
            if digest in (record.definition, record.image, *record.images.values()):
                return record
    raise NotFoundError(f"no environment here has the definition or image {text}")


def _unknown(store: Store, workspace_id: str, name: str) -> NotFoundError:
    names = environment_names(store, workspace_id)
    near = difflib.get_close_matches(name, names, 3)
    hint = f"did you mean {', '.join(near)}?" if near else "`envgraph list` shows what is there"
    if not names:
        hint = "nothing was applied in this workspace yet: run `envgraph apply`"
    return NotFoundError(f"no environment is named {name!r}", code="unknown-name", hint=hint)
