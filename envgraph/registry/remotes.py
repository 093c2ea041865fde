"""The registries of a workspace, opened when they are first needed, closed together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

from envgraph.api.registry import (
    Checked,
    Credentials,
    PluginContext,
    Registry,
    RegistryPlugin,
)
from envgraph.errors import NotFoundError, OfflineError, ResolveError
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph_store.digest import Digest

if TYPE_CHECKING:
    from envgraph.model.reference import RegistryReference
    from envgraph.plugins import Plugins

WORKSPACE: Final = "registry"
"""What ``registry:`` of envgraph.yaml is called where a name is needed."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An open registry with its name in envgraph.yaml. Its repositories try again."""

    name: str
    registry: Registry
    policy: Policy = field(default_factory=Policy)
    trusts_steps: bool = True
    """What it says that docker steps became is believed: nobody can compute it."""

    @property
    def title(self) -> str:
        """The host or folder."""
        return self.registry.title

    def repository(self, name: str) -> RetryingRepository:
        """The repository of that name."""
        return RetryingRepository(self.registry.repository(name), self.policy)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Repositories by prefix."""
        return iter(self.policy.run(lambda: list(self.registry.list(prefix))))


@dataclass(frozen=True, slots=True)
class KeptLogin:
    """Whose login it is, and where it was kept; ``tried``: the registry asked for it."""

    host: str
    where: str
    tried: bool


def _check(remote: Remote) -> None:
    """Ask it once about itself; or, where it cannot be, for a tag that need not be there."""
    registry = remote.registry
    if isinstance(registry, Checked):
        registry.check()
    else:
        registry.repository("envgraph/registry").resolve("owner")


class Remotes:
    """Every registry that a workspace can reach; a context manager, safe for threads.

    Nothing is imported, opened or asked before the first question. With ``offline``
    registries that connect are refused, and those on disk are not.
    """

    def __init__(
        self,
        config: WorkspaceConfig,
        *,
        offline: bool = False,
        plugins: Plugins | None = None,
        policy: Policy | None = None,
    ) -> None:
        """Bind the parts."""
        self._config = config
        self._offline = offline
        self._policy = policy or Policy()
        self._given = plugins
        self._stack = ExitStack()
        self._open: dict[str, Remote] = {}
        self._lock = threading.RLock()

    @cached_property
    def plugins(self) -> Plugins:
        """The plugins, loaded at the first question."""
        from envgraph.plugins import Plugins

        return self._given if self._given is not None else Plugins()

    @property
    def names(self) -> tuple[str, ...]:
        """The names in envgraph.yaml; the workspace's own registry first."""
        own = (WORKSPACE,) if self._config.registry is not None else ()
        return (*own, *self._config.registries)

    def workspace(self) -> Remote | None:
        """The workspace's ``registry:``; None when it has none."""
        if self._config.registry is None:
            return None
        return self._configured(WORKSPACE, self._config.registry, WORKSPACE)

    def named(self, name: str) -> Remote:
        """A registry of ``registries:``, or ``registry`` for the workspace's own.

        NotFoundError naming what there is.
        """
        if name in self._config.registries:
            provider = self._config.registries[name]
            return self._configured(name, provider, f"registries.{name}")
        own = self.workspace() if name == WORKSPACE else None
        if own is not None:
            return own
        raise NotFoundError(
            f"envgraph.yaml has no registry {name!r}",
            code="unknown-registry",
            hint=f"it has {', '.join(self.names)}"
            if self.names
            else "add it: `registries: {NAME: {type: oci, url: HOST/PATH}}`",
        )

    def for_host(self, host: str) -> Remote:
        """The registry behind docker references to ``host[:port]``.

        The settings of an entry of envgraph.yaml for the same host hold here too (its
        CA, its ``insecure``). ResolveError when no plugin can ask a host.
        """
        plugin, options = self._for_host(host)
        return self._opened(f"host {host}", plugin, options)

    def mount_base(
        self, remote: Remote, reference: RegistryReference, repository: str, digest: Digest
    ) -> bool:
        """Take a base's blob over into a repository of ``remote``, where both lie on one host.

        False when they do not, or the host does not do it.
        """
        from envgraph.plugins import options_of

        provider = self._config.registries.get(remote.name)
        if provider is None and remote.name == WORKSPACE:
            provider = self._config.registry
        plugin = None if provider is None else self.plugins.registry(provider.type)
        if provider is None or plugin is None or plugin.host_of is None:
            return False

        options = options_of(plugin, provider, remote.name)
        if plugin.host_of(options) != reference.domain or plugin is not self.plugins.for_hosts():
            return False
        prefix = plugin.prefix_of(options)
        target = f"{prefix}/{repository}" if prefix else repository
        host = self.for_host(reference.domain)
        return host.repository(target).mount(digest, reference.repository)

    def _for_host(self, host: str) -> tuple[RegistryPlugin, Any]:
        plugin = self.plugins.for_hosts()
        if plugin is None or plugin.for_host is None:
            raise ResolveError(
                f"no registry plugin is there to ask {host}",
                code="no-registry",
                hint="install one, or name an image on disk: `image: oci:PATH`",
            )
        return plugin, plugin.for_host(host, self._near(plugin, host))

    def check(self, name: str) -> Remote:
        """The registry of that name, after it has answered; RegistryError says why it did not.

        It is asked once: a registry that is down is soon known to be.
        """
        remote = self.workspace() if name == WORKSPACE else None
        remote = remote or self.named(name)
        _check(remote)
        return remote

    def login(self, host: str, credentials: Credentials) -> KeptLogin:
        """Try a login at ``host[:port]``, then keep it.

        RegistryError ``registry-denied`` when the registry does not take it: then nothing
        is kept. OfflineError with ``offline``.
        """
        plugin, options = self._for_host(host)
        own = plugin.host_of(options) if plugin.host_of is not None else host
        if self._offline and plugin.connects(options):
            raise OfflineError(f"{own} would be asked, and --offline asks none")

        asked_for: list[str] = []

        def only(asked: str, scope: str) -> Credentials | None:
            del scope
            asked_for.append(asked)
            return credentials if asked == own else None

        context = PluginContext(self._config.root, only, self._config.secrets)
        with plugin.open(options, context) as registry:
            _check(Remote(own, registry, self._policy))
        return KeptLogin(own, self.plugins.login(own, credentials), own in asked_for)

    def _near(self, plugin: RegistryPlugin, host: str) -> Any:
        """The options of an entry of envgraph.yaml for that host; None without one."""
        from envgraph.plugins import options_of

        for provider, where in self._entries():
            if provider.type == plugin.name and plugin.host_of is not None:
                options = options_of(plugin, provider, where)
                if plugin.host_of(options) == host:
                    return options
        return None

    def _entries(self) -> Iterator[tuple[Provider, str]]:
        if self._config.registry is not None:
            yield self._config.registry, WORKSPACE
        for name, provider in self._config.registries.items():
            yield provider, f"registries.{name}"

    def _configured(self, name: str, provider: Provider, where: str) -> Remote:
        plugin = self.plugins.registry(provider.type)
        from envgraph.plugins import options_of

        options = options_of(plugin, provider, where)
        return self._opened(name, plugin, options, provider.trust_steps)

    def _opened(
        self, name: str, plugin: RegistryPlugin, options: Any, trusts_steps: bool = True
    ) -> Remote:
        from envgraph.plugins import isolated

        with self._lock:
            if name not in self._open:
                if self._offline and plugin.connects(options):
                    what = name if name.startswith("host ") else f"the registry {name!r}"
                    raise OfflineError(f"{what} would be asked, and --offline asks none")
                context = PluginContext(
                    self._config.root, self.plugins.credentials, self._config.secrets
                )
                with isolated(f"a registry of type {plugin.name} cannot be opened"):
                    registry = self._stack.enter_context(plugin.open(options, context))
                self._open[name] = Remote(name, registry, self._policy, trusts_steps)
            return self._open[name]

    def close(self) -> None:
        """Close what was opened."""
        with self._lock:
            self._open.clear()
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
