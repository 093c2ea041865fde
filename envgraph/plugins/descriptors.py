"""What a plugin may offer: every fault of a descriptor, before anybody needs it."""

from __future__ import annotations

import dataclasses
import re
import typing
from typing import Any, Final

from envgraph.api.builder import BuilderPlugin
from envgraph.api.registry import API_VERSION, RegistryPlugin
from envgraph.plugins.options import KINDS, kind_of

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)


_PARTS: Final = {
    RegistryPlugin: (
        ("open", False), ("connects", False), ("for_host", True), ("host_of", True),
        ("prefix_of", False),
    ),
    BuilderPlugin: (
        ("open", False), ("connects", False), ("servers", False), ("places", True),
    ),
}  # fmt: skip
"""What can be called, and whether None may stand there."""
_HOOKS: Final = {
    RegistryPlugin: ("envgraph_registries", "registry"),
    BuilderPlugin: ("envgraph_builders", "builder"),
}


def problems_of(
    plugin: object, kind: type[RegistryPlugin] | type[BuilderPlugin] = RegistryPlugin
) -> list[str]:
    """All that is wrong with what a hook yields; nothing when it can be used."""
    hook, word = _HOOKS[kind]
    if not isinstance(plugin, kind):
        return [f"{hook} yields {type(plugin).__name__}, not {kind.__name__}"]
    name = plugin.name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return [f"a {word} type is named {str(name)[:40]!r}: lower-case letters, digits, . _ -"]
    if plugin.api_version != API_VERSION:
        return [
            f"{name} is for version {plugin.api_version} of envgraph.api, this is {API_VERSION}"
        ]
    found = []
    if not isinstance(plugin.summary, str) or not plugin.summary.strip():
        found.append(f"{name} has no summary")
    for part, optional in _PARTS[kind]:
        value = getattr(plugin, part)
        if not callable(value) and not (optional and value is None):
            found.append(f"{name}: `{part}` cannot be called")
    return found + _options(name, plugin.options, every_default=kind is BuilderPlugin)


def _options(name: str, options: Any, *, every_default: bool) -> list[str]:
    if not isinstance(options, type) or not dataclasses.is_dataclass(options):
        return [f"the options of {name} are no dataclass"]
    found = []
    params = getattr(options, "__dataclass_params__", None)
    if not getattr(params, "frozen", False):
        found.append(f"the options of {name} are not frozen")
    try:
        hints = typing.get_type_hints(options)
    except Exception as error:  # annotations are code of the plugin's
        return [*found, f"the types of the options of {name} cannot be read: {error}"]
    for field in dataclasses.fields(options):
        if field.name == "type":
            found.append(f"{name} has an option `type`, which is the key that chooses the plugin")
        missing = field.default is field.default_factory is dataclasses.MISSING
        if every_default and missing:
            found.append(f"the option `{field.name}` of {name} has no default")
        if kind_of(hints[field.name]) is None:
            known = ", ".join(getattr(kind, "__name__", str(kind)) for kind in KINDS)
            found.append(f"the option `{field.name}` of {name} has another type than {known}")
    return found
