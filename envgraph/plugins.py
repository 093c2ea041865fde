"""Find plugins, check what they offer, and open them; the only user of pluggy's manager.

Plugins are found by the entry-point group ``envgraph``. One that cannot be imported, or
that offers something wrong, is a warning that names its distribution; it is an error only
when a workspace needs what it offers. First-party plugins are found in the same way.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import pluggy

from envgraph.api import hookspecs
from envgraph.api.registry import API_VERSION, Credentials, RegistryPlugin
from envgraph.errors import Diagnostic, InputError, PlatformError
from envgraph.model.config import Provider

GROUP: Final = "envgraph"


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin as it was found: its entry point's name, and the distribution with version."""

    name: str
    distribution: str
    version: str
    problem: str = ""

    @property
    def title(self) -> str:
        """``envgraph_oci (envgraph 0.1.0)``."""
        return f"{self.name} ({self.distribution} {self.version})"


class Plugins:
    """Every plugin of this Python, loaded once; give ``entries`` to use others."""

    def __init__(
        self,
        entries: Iterable[EntryPoint] | None = None,
        *,
        registries: Iterable[RegistryPlugin] = (),
    ) -> None:
        """Load all plugins; ``registries`` are there beside them. No failure is raised here."""
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.found: list[Found] = []
        self.registries: dict[str, RegistryPlugin] = {}
        self._owners: dict[str, Found] = {}
        self._clashes: dict[str, tuple[Found, Found]] = {}
        chosen = entry_points(group=GROUP) if entries is None else entries
        for entry in sorted(chosen, key=lambda item: (item.name, item.value)):
            self.found.append(self._load(entry))
        for plugin in registries:
            self._add(_checked(plugin), Found(plugin.name, "given", ""))

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """One warning for each plugin that could not be loaded whole."""
        return tuple(
            Diagnostic(
                "plugin",
                f"the plugin {found.title} cannot be used",
                found.problem,
                hint=f"repair or remove the distribution {found.distribution}",
                severity="warning",
            )
            for found in self.found
            if found.problem
        )

    def _load(self, entry: EntryPoint) -> Found:
        dist = entry.dist
        found = Found(
            entry.name,
            "?" if dist is None else str(dist.metadata["Name"]),
            "?" if dist is None else dist.version,
        )
        try:
            module = entry.load()
            self._manager.register(module, f"{entry.name} = {entry.value}")
            self._manager.check_pending()
            offer = getattr(module, "envgraph_registries", None)
            for plugin in offer() if offer is not None else ():
                self._add(_checked(plugin), found)
        except Exception as error:  # whatever a plugin does, envgraph goes on without it
            self._manager.set_blocked(f"{entry.name} = {entry.value}")
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")
            return dataclasses.replace(found, problem=reason)
        return found

    def _add(self, plugin: RegistryPlugin, found: Found) -> None:
        if plugin.name in self.registries:
            self._clashes[plugin.name] = (self._owners[plugin.name], found)
            return
        self.registries[plugin.name] = plugin
        self._owners[plugin.name] = found

    def registry(self, kind: str) -> RegistryPlugin:
        """The plugin for ``type: KIND``; PlatformError naming what is there instead."""
        if kind in self._clashes:
            first, second = self._clashes[kind]
            raise PlatformError(
                f"two plugins offer the registry type {kind!r}: {first.title}, {second.title}",
                code="plugin-clash",
                hint="uninstall one of the two distributions",
            )
        if kind not in self.registries:
            broken = [f"{found.title}: {found.problem}" for found in self.found if found.problem]
            raise PlatformError(
                f"no plugin offers the registry type {kind!r}",
                code="no-plugin",
                detail="\n".join(["These plugins cannot be used:", *broken]) if broken else "",
                hint=f"there is {', '.join(sorted(self.registries)) or 'none'};"
                " install the plugin's package, or correct `type:`",
            )
        return self.registries[kind]

    def for_hosts(self) -> RegistryPlugin | None:
        """The plugin that can be asked for docker references, if there is one."""
        able = [name for name, plugin in self.registries.items() if plugin.for_host is not None]
        return self.registry(able[0]) if able else None

    def credentials(self, host: str, scope: str = "") -> Credentials | None:
        """The first login that a plugin has for a host."""
        answer = self._manager.hook.envgraph_credentials(host=host, scope=scope)
        return answer if isinstance(answer, Credentials) else None

    def login(self, host: str, credentials: Credentials) -> str:
        """Keep a login that was checked; where it is now. PlatformError when no plugin can."""
        where = self._manager.hook.envgraph_login(host=host, credentials=credentials)
        if not isinstance(where, str):
            raise PlatformError(
                f"no plugin keeps logins, so the one for {host} is not kept", code="no-plugin"
            )
        return where


def _checked(plugin: object) -> RegistryPlugin:
    if not isinstance(plugin, RegistryPlugin):
        raise TypeError(f"envgraph_registries yields {type(plugin).__name__}, not RegistryPlugin")
    if plugin.api_version != API_VERSION:
        raise TypeError(
            f"{plugin.name} is for version {plugin.api_version} of envgraph.api, this is"
            f" {API_VERSION}"
        )
    if not dataclasses.is_dataclass(plugin.options):
        raise TypeError(f"the options of {plugin.name} are no dataclass")
    return plugin


def options_of(plugin: RegistryPlugin, provider: Provider, where: str) -> Any:
    """The options of a ``registry:`` entry as the plugin's dataclass.

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
    return plugin.options(**values)


def _unknown(where: str, key: str, known: Mapping[str, object]) -> Diagnostic:
    import difflib

    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return Diagnostic("option", f"{where} has no option {key!r}", hint=hint)


def _as(kind: Any, value: object) -> object:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        members = [member for member in typing.get_args(kind) if member is not type(None)]
        return None if value is None else _as(members[0], value)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError("a list")
        return tuple(_as(str, item) for item in value)
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if type(value) is not kind:
        raise ValueError({str: "text", int: "a whole number", bool: "true or false"}[kind])
    return value
