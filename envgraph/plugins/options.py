"""A ``registry:`` or ``builder:`` entry of envgraph.yaml as the plugin's dataclass of options."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Final

from envgraph.api.builder import BuilderPlugin
from envgraph.api.registry import RegistryPlugin
from envgraph.errors import Diagnostic, InputError
from envgraph.model.config import Provider

KINDS: Final[Mapping[Any, str]] = {
    str: "text", int: "a whole number", bool: "true or false", tuple[str, ...]: "a list of text",
}  # fmt: skip
"""The types that a field may have, beside each of them ``| None``."""


def kind_of(hint: Any) -> Any:
    """The one of :data:`KINDS` that a field's type is; None when it is none of them."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        return kind_of(members[0]) if len(members) == 1 else None
    return hint if hint in KINDS else None


def options_of(plugin: RegistryPlugin | BuilderPlugin, provider: Provider, where: str) -> Any:
    """The options of a ``registry:`` or ``builder:`` entry as the plugin's dataclass.

    ``where`` names the entry (``registries.shared``). InputError with every key that is
    unknown, missing or of another type.
    """
    hints = typing.get_type_hints(plugin.options)
    fields = {field.name: field for field in dataclasses.fields(plugin.options)}
    problems: list[Diagnostic] = []
    values: dict[str, Any] = {}
    for key, value in provider.options.items():
        if key not in fields:
            problems.append(_unknown(where, key, fields))
            continue
        try:
            values[key] = _as(hints[key], value)
        except ValueError as error:
            problems.append(Diagnostic("option", f"{where}.{key} must be {error}"))
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and name not in provider.options
    ]
    problems += [
        Diagnostic("option", f"{where} needs {name!r}", hint=f"write `{name}:` beside `type:`")
        for name in missing
    ]
    if problems:
        raise InputError(problems)
    try:
        return plugin.options(**values)
    except ValueError as error:  # the dataclass may check in __post_init__
        raise InputError(Diagnostic("option", f"{where}: {error}")) from None


def _unknown(where: str, key: str, known: Mapping[str, object]) -> Diagnostic:
    import difflib

    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"
    return Diagnostic("option", f"{where} has no option {key!r}", hint=hint)


def _as(hint: Any, value: object) -> object:
    kind = kind_of(hint)
    if value is None and kind != hint:
        return None
    if kind == tuple[str, ...]:
        if not isinstance(value, list) or not all(_scalar(item) for item in value):
            raise ValueError(KINDS[kind])
        return tuple(str(item) for item in value)
    if kind is str and _scalar(value):
        return str(value)
    if type(value) is not kind:
        raise ValueError(KINDS[kind])
    return value


def _scalar(value: object) -> bool:
    """Text, or a whole number that was written where text is meant."""
    return isinstance(value, str | int) and not isinstance(value, bool)
