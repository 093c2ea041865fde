"""The schema of drift-policy.yaml."""

from __future__ import annotations

from typing import Any

from envgraph.model.drift import CODES
from envgraph.spec import drift_policy as reader
from envgraph.spec.schemas.fields import Schema, described, record, text


def schema() -> Schema:
    """All keys of a drift policy."""
    found = record(
        reader.KNOWN,
        {
            "max_age_days": _number("Of a base image.", default=reader.DEFAULT_MAX_AGE),
            "max_behind": _number("Newer releases of a package that are no finding.", default=0),
            "require_digest": {
                "type": "boolean",
                "default": False,
                "description": "Every base is named by its digest.",
            },
            "allow": {
                "type": "array",
                "items": {"$ref": "#/definitions/allowance"},
                "description": "Findings that are accepted, each with a reason.",
            },
        },
    )
    return {
        "title": "drift-policy.yaml",
        "description": "How old and how far behind is still good: read by envgraph drift.",
        **found,
        "definitions": {"allowance": _allowance()},
    }


def _number(description: str, **more: Any) -> Schema:
    found: Schema = {"type": ["integer", "string"], "minimum": 0, "maximum": 999_999,
                     "pattern": "^[0-9]{1,6}$", **more}  # fmt: skip
    return described(found, description)


def _allowance() -> Schema:
    code: Schema = {
        "anyOf": [{"const": code, "description": what} for code, what in CODES.items()],
        "description": "The kind of finding.",
    }
    return record(
        reader.ENTRY,
        {
            "code": code,
            "environment": text("A glob of names; default: all."),
            "package": text("A glob of names; default: all."),
            "until": text("The last day; default: for ever.", format="date"),
            "reason": text("Why, for whoever reads it next year.", minLength=1),
        },
        required=["code", "reason"],
    )
