"""Find plugins, check what they offer, and open them; the only user of pluggy's manager.

Plugins are found by the entry-point group ``envgraph``. One that cannot be imported, or
that offers something wrong, is a warning that names its distribution; it is an error only
when a workspace needs what it offers. First-party plugins are found in the same way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import pluggy

from envgraph.api import hookspecs
from envgraph.api.builder import BuilderPlugin
from envgraph.api.registry import Credentials, RegistryPlugin
from envgraph.errors import Diagnostic, EnvgraphError, PlatformError
from envgraph.plugins.descriptors import problems_of
from envgraph.plugins.options import options_of

GROUP: Final = "envgraph"
_MOST: Final = 100
"""Descriptors that are taken from one plugin: an endless generator ends here."""
_OFFERS: Final[tuple[tuple[str, type[RegistryPlugin] | type[BuilderPlugin]], ...]] = (
    ("envgraph_registries", RegistryPlugin),
    ("envgraph_builders", BuilderPlugin),
)

__all__ = ["GROUP", "Found", "Plugins", "isolated", "options_of", "reason_of"]


@dataclass(frozen=True, slots=True)
class Found:
    """A plugin as it was found: its entry point's name, and the distribution with version."""

    name: str
    distribution: str
    version: str
    value: str = ""
    """What the entry point names: the module."""

    registries: tuple[str, ...] = ()
    """The types of registry that it offers."""

    builders: tuple[str, ...] = ()
    """The types of builder that it offers."""

    hooks: tuple[str, ...] = ()
    """The hooks that it implements."""

    problems: tuple[str, ...] = ()
    """All that is wrong with it."""

    printed: str = ""
    """What it wrote to stdout while it was loaded: there, it is in nobody's answer."""

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
        builders: Iterable[BuilderPlugin] = (),
    ) -> None:
        """Load all plugins; those given are there beside them. No failure is raised here."""
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.found: list[Found] = []
        self.registries: dict[str, RegistryPlugin] = {}
        self.builders: dict[str, BuilderPlugin] = {}
        self._owners: dict[tuple[str, str], Found] = {}
        self._clashes: dict[tuple[str, str], tuple[Found, Found]] = {}
        chosen = entry_points(group=GROUP) if entries is None else entries
        for entry in sorted(chosen, key=lambda item: (item.name, item.value)):
            self.found.append(self._load(entry))
        given: list[RegistryPlugin | BuilderPlugin] = [*registries, *builders]
        for plugin in given:
            self._add(plugin, Found(plugin.name, "given", ""))

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """One warning for each plugin that could not be loaded whole."""
        return tuple(
            Diagnostic(
                "plugin",
                f"the plugin {found.title} cannot be used whole",
                "\n".join(found.problems),
                hint=f"repair or remove the distribution {found.distribution}",
                severity="warning",
            )
            for found in self.found
            if found.problems
        )

    def _load(self, entry: EntryPoint) -> Found:
        """Import a plugin, and take what is right of its offers."""
        dist = entry.dist
        found = Found(
            entry.name,
            "?" if dist is None else str(dist.metadata["Name"]),
            "?" if dist is None else dist.version,
            entry.value,
        )
        title = f"{entry.name} = {entry.value}"
        printed = io.StringIO()
        offers: list[tuple[type[RegistryPlugin] | type[BuilderPlugin], object]] = []
        try:
            with contextlib.redirect_stdout(printed):
                module = entry.load()
                self._manager.register(module, title)
                self._manager.check_pending()
                for hook, kind in _OFFERS:
                    if (offer := getattr(module, hook, None)) is not None:
                        offers += [(kind, item) for item in itertools.islice(offer(), _MOST)]
        except KeyboardInterrupt:
            raise  # it is the user who ends envgraph
        except BaseException as error:  # whatever a plugin does, SystemExit too, we go on
            self._manager.set_blocked(title)
            return dataclasses.replace(
                found, problems=(reason_of(error),), printed=printed.getvalue()
            )
        good: list[RegistryPlugin | BuilderPlugin] = []
        problems = []
        for kind, plugin in offers:
            problems += (wrong := problems_of(plugin, kind))
            if not wrong and isinstance(plugin, RegistryPlugin | BuilderPlugin):
                good.append(plugin)
                self._add(plugin, found)
        hooks = [caller.name for caller in self._manager.get_hookcallers(module) or ()]
        return dataclasses.replace(
            found,
            registries=tuple(one.name for one in good if isinstance(one, RegistryPlugin)),
            builders=tuple(one.name for one in good if isinstance(one, BuilderPlugin)),
            hooks=tuple(sorted(hooks)),
            problems=tuple(problems),
            printed=printed.getvalue(),
        )

    def _add(self, plugin: RegistryPlugin | BuilderPlugin, found: Found) -> None:
        word = "registry" if isinstance(plugin, RegistryPlugin) else "builder"
        key = word, plugin.name
        if key in self._owners:
            self._clashes[key] = (self._owners[key], found)
            return
        self._owners[key] = found
        if isinstance(plugin, RegistryPlugin):
            self.registries[plugin.name] = plugin
        else:
            self.builders[plugin.name] = plugin

    def clash(self, kind: str, word: str = "registry") -> str:
        """Who else offers a type (of ``word``), in a sentence; empty when only one does."""
        if (word, kind) not in self._clashes:
            return ""
        first, second = self._clashes[word, kind]
        return f"two plugins offer the {word} type {kind!r}: {first.title}, {second.title}"

    def registry(self, kind: str) -> RegistryPlugin:
        """The plugin for ``type: KIND``; PlatformError naming what is there instead."""
        self._check(kind, "registry", self.registries)
        return self.registries[kind]

    def builder(self, kind: str) -> BuilderPlugin:
        """The plugin for ``builder: {type: KIND}``; PlatformError naming what is there instead."""
        self._check(kind, "builder", self.builders)
        return self.builders[kind]

    def _check(self, kind: str, word: str, offered: Iterable[str]) -> None:
        if clash := self.clash(kind, word):
            raise PlatformError(
                clash, code="plugin-clash", hint="uninstall one of the two distributions"
            )
        if (word, kind) not in self._owners:
            broken = [f"{f.title}: {problem}" for f in self.found for problem in f.problems]
            raise PlatformError(
                f"no plugin offers the {word} type {kind!r}",
                code="no-plugin",
                detail="\n".join(["These plugins cannot be used:", *broken]) if broken else "",
                hint=f"there is {', '.join(sorted(offered)) or 'none'};"
                " install the plugin's package, or correct `type:`",
            )

    def for_hosts(self) -> RegistryPlugin | None:
        """The plugin that can be asked for docker references, if there is one."""
        able = [name for name, plugin in self.registries.items() if plugin.for_host is not None]
        return self.registry(able[0]) if able else None

    def credentials(self, host: str, scope: str = "") -> Credentials | None:
        """The first login that a plugin has for a host."""
        with isolated("envgraph_credentials"):
            answer = self._manager.hook.envgraph_credentials(host=host, scope=scope)
        return answer if isinstance(answer, Credentials) else None

    def login(self, host: str, credentials: Credentials) -> str:
        """Keep a login that was checked; where it is now. PlatformError when no plugin can."""
        with isolated("envgraph_login"):
            where = self._manager.hook.envgraph_login(host=host, credentials=credentials)
        if not isinstance(where, str):
            raise PlatformError(
                f"no plugin keeps logins, so the one for {host} is not kept", code="no-plugin"
            )
        return where


def reason_of(error: BaseException) -> str:
    """An exception of a plugin in one line."""
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {said}".rstrip(": ")


@contextlib.contextmanager
def isolated(what: str) -> Iterator[None]:
    """Whatever a plugin raises is an EnvgraphError; SystemExit ends only what was asked for."""
    try:
        yield
    except (EnvgraphError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PlatformError(
            f"a plugin failed: {what}: {reason_of(error)}", code="plugin"
        ) from error
