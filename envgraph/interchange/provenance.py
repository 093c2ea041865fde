"""How a builder built the steps of a version: the statements that the store keeps of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from envgraph.errors import Diagnostic, NotFoundError
from envgraph.interchange.document import Document
from envgraph.model.canonical import NodeKey
from envgraph_store import Digest, Store

_LIMIT: Final = 64 << 20
_HINT: Final = "`builder: {type: buildkit, provenance: max}` keeps it of what is built from then on"


def provenance(store: Store, steps: Iterable[NodeKey], title: str) -> Document:
    """In-toto statements (SLSA provenance) of these steps, in their order, as JSON.

    NotFoundError where there is none at all; a step without one is a warning: it was built
    without ``provenance:``, by another builder, or pulled.
    """
    keys = list(steps)
    found: list[dict[str, Any]] = []
    for number, key in enumerate(keys):
        record = store.actions.get(str(key)) or {}
        statement = _statement(store, record)
        if statement is not None:
            builder = str(record.get("builder", ""))
            found.append(
                {"step": number, "key": str(key), "builder": builder, "statement": statement}
            )
    if not found:
        raise NotFoundError(f"there is no provenance of {title}", hint=_HINT)
    document = {"format_version": "1", "environment": title, "steps": found}
    return Document(
        json.dumps(document, indent=2, sort_keys=True) + "\n", tuple(_missing(keys, len(found)))
    )


def _statement(store: Store, record: Mapping[str, Any]) -> Any:
    if "provenance" not in record:
        return None
    digest = Digest(str(record["provenance"]))
    if store.blobs.missing([digest]):
        return None
    return json.loads(store.blobs.read(digest, _LIMIT))


def _missing(keys: list[NodeKey], there: int) -> list[Diagnostic]:
    if there == len(keys):
        return []
    return [
        Diagnostic(
            "no-provenance",
            f"{len(keys) - there} of {len(keys)} steps have no provenance",
            "They were built without it, by another builder, or pulled.",
            hint=_HINT,
            severity="warning",
        )
    ]
