"""Pieces of schemas. A value may be null wherever the readers take that as "not there"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

Schema = dict[str, Any]

SCALAR: Final = ("string", "number", "boolean")
"""Types of YAML that the readers take as text, as it is written."""


def described(schema: Schema, description: str) -> Schema:
    """The schema with what an editor shows beside it."""
    return {**schema, "description": description}


def text(description: str = "", **more: Any) -> Schema:
    """Text; a number or a boolean is what is written."""
    found: Schema = {"type": list(SCALAR), **more}
    return described(found, description) if description else found


def choice(allowed: Iterable[str], description: str = "", default: str | None = None) -> Schema:
    """One of some words, in capitals or not; editors offer them as they are."""
    words = list(allowed)
    any_case = "|".join("".join(_either_case(c) for c in word) for word in words)
    found: Schema = {"anyOf": [{"enum": words}, {"type": "string", "pattern": f"^({any_case})$"}]}
    if default is not None:
        found["default"] = default
    return described(found, description) if description else found


def _either_case(character: str) -> str:
    upper, lower = character.upper(), character.lower()
    return re.escape(character) if upper == lower else f"[{upper}{lower}]"


def matching(pattern: re.Pattern[str]) -> str:
    """A pattern that the whole text has to match, as schemas write it."""
    return f"^(?:{pattern.pattern})$"


def some(items: Schema, description: str, default: Iterable[str] | None = None) -> Schema:
    """A list, or one item alone."""
    found: Schema = {"anyOf": [{"type": "array", "items": items}, items]}
    if default is not None:
        found["default"] = list(default)
    return described(found, description)


def mapping(values: Schema, description: str, keys: Schema | None = None) -> Schema:
    """A mapping with any keys."""
    found: Schema = {"type": "object", "additionalProperties": values}
    if keys is not None:
        found["propertyNames"] = keys
    return described(found, description)


def record(
    known: Iterable[str],
    fields: Mapping[str, Schema],
    *,
    required: Iterable[str] = (),
    description: str = "",
) -> Schema:
    """A mapping with exactly the keys that its reader knows.

    ValueError when ``fields`` describes others: the reader is what decides.
    """
    if set(known) != set(fields):
        raise ValueError(f"reader and schema differ in {sorted(set(known) ^ set(fields))}")
    needed = list(required)
    found: Schema = {"type": "object", "additionalProperties": False}
    if needed:
        found["required"] = needed
    found["properties"] = {
        name: schema if name in needed else or_null(schema) for name, schema in fields.items()
    }
    return described(found, description) if description else found


def or_null(schema: Schema) -> Schema:
    """The schema, or nothing: a key without a value."""
    if not schema or not {"type", "anyOf", "$ref", "enum"} & set(schema):
        return schema
    if "$ref" in schema:
        others = {key: value for key, value in schema.items() if key != "$ref"}
        return {"anyOf": [{"$ref": schema["$ref"]}, {"type": "null"}], **others}
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*kinds, "null"]}
