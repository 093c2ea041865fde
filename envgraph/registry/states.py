"""What the registries of a workspace are, and whether they answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from envgraph.errors import Diagnostic, EnvgraphError, OfflineError
from envgraph.model.config import WorkspaceConfig
from envgraph.plugins import options_of
from envgraph.registry.remotes import WORKSPACE, Remotes


@dataclass(frozen=True, slots=True)
class RegistryState:
    """One entry of envgraph.yaml. ``answers`` is None when it was not asked."""

    name: str
    type: str
    place: str
    answers: bool | None
    problem: Diagnostic | None = None


def registry_states(config: WorkspaceConfig, remotes: Remotes) -> Iterator[RegistryState]:
    """Each registry, asked once; one that would be connected to is not, with ``--offline``."""
    for name in remotes.names:
        own = name == WORKSPACE and name not in config.registries
        provider = config.registry if own else config.registries[name]
        assert provider is not None
        where = WORKSPACE if own else f"registries.{name}"
        place = ""
        try:
            plugin = remotes.plugins.registry(provider.type)
            options = options_of(plugin, provider, where)
            place = plugin.host_of(options) if plugin.host_of is not None else ""
            remote = remotes.check(name)
        except OfflineError:
            yield RegistryState(name, provider.type, place, None)
        except EnvgraphError as error:
            yield RegistryState(name, provider.type, place, False, error.diagnostics[0])
        else:
            yield RegistryState(name, provider.type, remote.title, True)
