"""JSON Schemas of the files that people write, for their editors.

Made from what the readers in :mod:`envgraph.spec` know: a key that a reader knows and no
schema describes (or the other way round) is an error here. The ``.json`` files beside
this are published in the package; ``make golden`` writes them.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

NAMES: Final = ("workspace.json", "environment.json", "drift-policy.json")
"""Schemas by file name."""


def published(name: str) -> str:
    """A schema as the package has it."""
    return (files(__name__) / name).read_text(encoding="utf-8")


def generated(name: str) -> str:
    """A schema made anew; the published file is equal to it."""
    from envgraph.spec.schemas import environment, policy, workspace

    makers = {
        "workspace.json": workspace.schema,
        "environment.json": environment.schema,
        "drift-policy.json": policy.schema,
    }
    document: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **makers[name](),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
