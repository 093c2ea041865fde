"""The builder of a workspace: chosen, asked what it can do, and opened when it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from envgraph.api.builder import (
    CAN_RUN,
    Builder,
    BuilderError,
    BuilderPlugin,
    BuildRequest,
    BuildResult,
    Cancel,
    Capabilities,
)
from envgraph.api.events import Event
from envgraph.api.registry import PluginContext
from envgraph.apply.executor import ParallelMap
from envgraph.apply.pool import Pool
from envgraph.apply.reach import OUT_OF_REACH, reach_of, refuse_outside
from envgraph.apply.servers import Server, fits, other_platform
from envgraph.errors import BuildError, Diagnostic, EnvgraphError, InputError, PlatformError
from envgraph.model import reach
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.model.oci import oci_platform

if TYPE_CHECKING:
    from envgraph.plugins import Plugins

AUTO: Final = "auto"
_FIRST: Final = ("buildkit", "buildah")
"""The order of ``auto``; builders of other plugins come after these, by name."""

_TIMEOUT: Final = "timeout"
_MOST_DETAIL: Final = 5
"""Lines of what each builder says that none can be had for."""

_OURS: Final = frozenset({_TIMEOUT, reach.KEY})
"""Keys beside ``type:`` that no plugin sees."""


@dataclass(frozen=True, slots=True)
class ChosenBuilder:
    """A builder that answered. ``why`` says why it is this one, in half a sentence.

    ``builder`` is the whole :class:`Pool`, or the one of its servers that built something.
    """

    name: str
    builder: Builder
    capabilities: Capabilities
    why: str

    @contextmanager
    def run(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel, halt: Cancel
    ) -> Iterator[tuple[ChosenBuilder, BuildResult]]:
        """Build on whichever server; see :meth:`Pool.run`."""
        assert isinstance(self.builder, Pool)
        with self.builder.run(request, on_event, cancel, halt) as (server, result):
            yield replace(self, builder=server.builder, capabilities=server.ask()), result

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers behind it."""
        return self.builder.servers if isinstance(self.builder, Pool) else ()

    @property
    def title(self) -> str:
        """What it calls itself, with the version of what is behind it."""
        version = self.capabilities.version
        return f"{self.builder.title} ({version})" if version else self.builder.title


class Builders:
    """What ``builder:`` of envgraph.yaml means here; nothing is opened before it is asked.

    Safe for threads. With ``offline`` a builder is reached over unix sockets only.
    """

    def __init__(
        self, config: WorkspaceConfig, plugins: Callable[[], Plugins], *, offline: bool
    ) -> None:
        """Bind the parts."""
        self._config = config
        self._plugins = plugins
        self._offline = offline
        self._stack = ExitStack()
        self._lock = threading.RLock()
        self._answer: ChosenBuilder | EnvgraphError | None = None

    @property
    def timeout(self) -> float | None:
        """``builder: {timeout: SECONDS}``: how long one step may take; None: no end."""
        value = self._config.builder.options.get(_TIMEOUT)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError("builder.timeout must be a whole number of seconds", code="option")
        return float(value)

    def chosen(self) -> ChosenBuilder:
        """The builder; it has answered. PlatformError ``no-builder`` says what was tried.

        What was found once holds until :meth:`close`, and so does that there is none.
        """
        with self._lock:
            if self._answer is None:
                try:
                    self._answer = self._choose()
                except EnvgraphError as error:
                    self._answer = error
            if isinstance(self._answer, EnvgraphError):
                raise type(self._answer)(self._answer.diagnostics)
            return self._answer

    def remarks(self) -> tuple[Diagnostic, ...]:
        """What the user should know of servers that went away while they built."""
        with self._lock:
            answer = self._answer
        if not isinstance(answer, ChosenBuilder) or not isinstance(answer.builder, Pool):
            return ()
        return answer.builder.remarks()

    def servers(self) -> tuple[Server, ...]:
        """Every server of the builder that envgraph.yaml names; each was asked.

        EnvgraphError for what is wrong with ``builder:`` itself.
        """
        provider = self._config.builder
        with ExitStack() as stack:
            pool = self._pool(self._plugins().builder(provider.type), provider, stack)
            with suppress(BuilderError):
                pool.ask(ParallelMap(len(pool.servers)))
            return pool.servers

    def close(self) -> None:
        """Close what was opened."""
        with self._lock:
            self._answer = None
            self._stack.close()

    def _choose(self) -> ChosenBuilder:
        provider = self._config.builder
        reach_of(provider)  # wrong words are the file's fault, not a builder's
        plugins = self._plugins()
        if provider.type != AUTO:
            plugin = plugins.builder(provider.type)
            try:
                return self._opened(plugin, provider, "`builder:` of envgraph.yaml names it")
            except BuilderError as error:
                raise _none([(provider.type, error)], named=True) from error
        tried: list[tuple[str, EnvgraphError]] = []
        for each in plugins_in_order(provider, plugins):
            name = each.name
            missing = " and ".join(f"{other} {_why_not(error)}" for other, error in tried)
            try:
                return self._opened(each, provider, missing or "it answered first")
            except EnvgraphError as error:
                tried.append((name, error))
        raise _none(tried, named=False)

    def _opened(self, plugin: BuilderPlugin, provider: Provider, why: str) -> ChosenBuilder:
        with ExitStack() as stack:
            pool = self._pool(plugin, provider, stack)
            pool.ask(ParallelMap(len(pool.servers)))
            found = ChosenBuilder(plugin.name, pool, pool.capabilities(), why)
            self._stack.enter_context(stack.pop_all())
        return found

    def _pool(self, plugin: BuilderPlugin, provider: Provider, stack: ExitStack) -> Pool:
        """Everything that the options name, open as long as ``stack``; nobody was asked."""
        from envgraph.plugins import isolated

        options = plugin_options(plugin, provider)
        refuse_outside(reach_of(provider), plugin, options)
        context = PluginContext(
            self._config.root, self._plugins().credentials, self._config.secrets
        )
        servers = []
        with isolated(f"a builder of type {plugin.name} cannot be opened"):
            for each in plugin.servers(options, not self._offline):
                if self._offline and plugin.connects(each):
                    builder: Builder = Absent(plugin.name, each)
                else:
                    builder = stack.enter_context(plugin.open(each, context))
                servers.append(Server(builder, builder.title))
        if not servers:
            raise BuilderError(f"{plugin.name} names no server", code="builder-down")
        return Pool(plugin.name, servers)


class Absent(Builder):
    """A builder that is not opened, since it would be reached over a network."""

    def __init__(self, name: str, options: object) -> None:
        """``options`` may have an address to show."""
        self._title = " at ".join(filter(None, (name, str(getattr(options, "address", "")))))

    @property
    def title(self) -> str:
        """As that of the builder."""
        return self._title

    def capabilities(self) -> Capabilities:
        """Always BuilderError ``offline``."""
        raise self._offline()

    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> AbstractContextManager[BuildResult]:
        """Always BuilderError ``offline``."""
        raise self._offline()

    def _offline(self) -> BuilderError:
        return BuilderError(
            f"{self._title} would be reached over a network, and --offline opens no connection",
            code="offline",
            hint="name a unix socket, or build without --offline",
        )


def plugin_options(plugin: BuilderPlugin, provider: Provider) -> Any:
    """What ``builder:`` says to a plugin: all but the keys that are envgraph's own."""
    from envgraph.plugins import options_of

    given = {k: v for k, v in provider.options.items() if k not in _OURS}
    return options_of(plugin, Provider(provider.type, given), "builder")


def plugins_in_order(provider: Provider, plugins: Plugins) -> tuple[BuilderPlugin, ...]:
    """The one that ``builder:`` names; for ``auto`` all, in the order in which they are asked."""
    if provider.type != AUTO:
        return (plugins.builder(provider.type),)
    others = sorted(name for name in plugins.builders if name not in _FIRST)
    names = (*(name for name in _FIRST if name in plugins.builders), *others)
    return tuple(plugins.builder(name) for name in names)


def _none(tried: Iterable[tuple[str, EnvgraphError]], *, named: bool) -> PlatformError:
    """The one error where no builder is there: everything that was tried, and why not."""
    found = list(tried)
    lines = []
    for name, error in found:
        for each in error.diagnostics:
            summary = each.summary
            lines.append(summary if summary.startswith(name) else f"{name}: {summary}")
            lines += [f"  {line}" for line in each.detail.splitlines()[:_MOST_DETAIL]]
    hints = [d.hint for _, error in found for d in error.diagnostics if d.hint]
    return PlatformError(
        f"the builder {found[0][0]} cannot be used"
        if named and found
        else "no builder is there for docker steps and build contexts",
        code="no-builder",
        detail="\n".join(lines) if lines else "no plugin offers one",
        hint="; or ".join(dict.fromkeys(hints))
        or "start a BuildKit (BUILDKIT_HOST, DOCKER_HOST), or install buildah",
    )


def _why_not(error: EnvgraphError) -> str:
    """Half a sentence on a builder that was passed over."""
    if error.diagnostics[0].code == OUT_OF_REACH:
        return f"is passed over ({error.diagnostics[0].summary})"
    return "did not answer"


def missing_builder(builders: Builders, names: Iterable[str]) -> EnvgraphError | None:
    """Why these environments cannot be built; None where a builder is there."""
    try:
        builders.chosen()
    except EnvgraphError as error:
        [first, *_] = error.diagnostics
        who = ", ".join(sorted(set(names)))
        return BuildError(replace(first, summary=f"{who}: {first.summary}", severity="error"))
    return None


def builder_remark(
    builders: Builders, names: Iterable[str], steps: int, platforms: Iterable[str] = ()
) -> Diagnostic:
    """What a plan says about its builder: which and why, or that none is there.

    ``platforms`` are those that it will have to build for.
    """
    who = ", ".join(sorted(set(names)))
    needs = f"{steps} step{' needs' if steps == 1 else 's need'} a builder"
    try:
        chosen = builders.chosen()
    except EnvgraphError as error:
        [first, *_] = error.diagnostics
        return Diagnostic(
            first.code,
            f"{needs} ({who}): {first.summary}",
            first.detail,
            hint=first.hint,
            severity="warning",
        )
    servers, can = chosen.servers, chosen.capabilities
    lines = [server.describe() for server in servers] if len(servers) > 1 else []
    asked = [found for name in platforms if (found := oci_platform(name)) is not None]
    lacking = [
        other_platform(each, can.platforms) for each in asked if not fits(each, can.platforms)
    ]
    lines += [error.diagnostics[0].summary for error in lacking]
    fine = CAN_RUN in can.features and not lacking and not any(each.error for each in servers)
    return Diagnostic(
        "builder",
        f"{needs} ({who}): {chosen.title}, since {chosen.why}",
        "\n".join(lines),
        hint=lacking[0].diagnostics[0].hint if lacking else "",
        severity="info" if fine else "warning",
    )
