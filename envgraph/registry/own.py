"""The workspace's own registry: whether there is one, whether it may be asked, its pins."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from envgraph.errors import OfflineError
from envgraph.model.config import Provider, WorkspaceConfig

if TYPE_CHECKING:
    from envgraph.registry.pins import RegistryPins
    from envgraph.registry.remotes import Remote, Remotes


class OwnRegistry:
    """``registry:`` of a workspace. Opens nothing before it is asked; imports nothing either."""

    def __init__(self, config: WorkspaceConfig, remotes: Callable[[], Remotes]) -> None:
        """Bind the parts."""
        self._config = config
        self._remotes = remotes

    @property
    def provider(self) -> Provider | None:
        """What envgraph.yaml says of it; None where the workspace has none."""
        return self._config.registry

    @cached_property
    def may_ask(self) -> bool:
        """There is one, and --offline does not forbid it."""
        if self.provider is None:
            return False
        try:
            return self._remotes().workspace() is not None
        except OfflineError:
            return False

    @cached_property
    def pins(self) -> RegistryPins | None:
        """Its pins; None where none may be asked."""
        if not self.may_ask:
            return None
        from envgraph.registry.pins import RegistryPins

        return RegistryPins(self.open)

    def open(self) -> Remote:
        """The registry itself; there must be one."""
        remote = self._remotes().workspace()
        assert remote is not None
        return remote

    def answering(self) -> Remote:
        """The registry; RegistryError at once when it gave no answer a moment ago."""
        if self.pins is not None and self.pins.silent is not None:
            raise self.pins.silent
        return self.open()
