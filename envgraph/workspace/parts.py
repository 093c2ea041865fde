"""The parts of a workspace, opened when they are first needed and closed together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from envgraph.errors import (
    Diagnostic,
    InputError,
    LockedError,
)
from envgraph.folders import default_store
from envgraph.model.config import WorkspaceConfig

if TYPE_CHECKING:
    from envgraph.apply.builders import Builders
    from envgraph.lock.registry_bases import RegistryBases
    from envgraph.plugins import Plugins
    from envgraph.registry.own import OwnRegistry
    from envgraph.registry.remotes import Remotes
    from envgraph_store import Store

DEFAULT_PARALLELISM: Final = 4

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Parts:
    """One workspace folder, one store, and the registries and builders that it can reach."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store_path: Path,
        *,
        diagnostics: Sequence[Diagnostic] = (),
        offline: bool = False,
        lock_timeout: float = 60.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        plugins: Plugins | None = None,
    ) -> None:
        """Bind the parts; the store and registries are opened when they are first needed."""
        self.config = config
        self.diagnostics = tuple(diagnostics)
        self.store_path = store_path
        self.offline = offline
        self._lock_timeout = lock_timeout
        self._now = now
        self._clock = clock
        self._plugins = plugins
        self._taken_ns = 0
        self.other_store: Path | None = None
        """Where versions of other workspaces lie, if not in this store."""
        self._others: dict[Path, Self] = {}

    @classmethod
    def open(
        cls,
        folder: Path | str = ".",
        *,
        store: Path | str | None = None,
        offline: bool = False,
        lock_timeout: float = 60.0,
        plugins: Plugins | None = None,
    ) -> Self:
        """The workspace in ``folder``: its ``envgraph.yaml``, or the defaults without one.

        InputError with every problem of the file.
        """
        from envgraph.spec import load_workspace

        taken = time.time_ns()
        config, diagnostics = load_workspace(Path(folder))
        errors = [d for d in diagnostics if d.severity == "error"]
        if errors or config is None:
            raise InputError(diagnostics)
        path = Path(store if store is not None else default_store(os.environ))
        workspace = cls(
            config,
            path.absolute(),
            diagnostics=diagnostics,
            offline=offline,
            lock_timeout=lock_timeout,
            plugins=plugins,
        )
        workspace._taken_ns = taken
        return workspace

    @cached_property
    def store(self) -> Store:
        """The content-addressed store, created when there is none."""
        from envgraph_store import Store

        return Store.open(self.store_path, lock_timeout=self._lock_timeout)

    @cached_property
    def remotes(self) -> Remotes:
        """The registries that the workspace can reach; none is opened yet."""
        from envgraph.registry.remotes import Remotes

        return Remotes(self.config, offline=self.offline, plugins=self._plugins)

    @cached_property
    def bases(self) -> RegistryBases:
        """Base images in registries; what was asked is remembered until the next task."""
        from envgraph.lock.registry_bases import RegistryBases

        return RegistryBases(lambda: self.remotes)

    @cached_property
    def builders(self) -> Builders:
        """The builder for docker steps and build contexts; looked for when one is needed."""
        from envgraph.apply.builders import Builders

        return Builders(self.config, lambda: self.remotes.plugins, offline=self.offline)

    @cached_property
    def _registry(self) -> OwnRegistry:
        from envgraph.registry.own import OwnRegistry

        return OwnRegistry(self.config, lambda: self.remotes)

    def _ask_anew(self) -> None:
        """What registries answered to an earlier task is not taken for this one."""
        if "bases" in self.__dict__:
            self.bases.forget()
        if "builders" in self.__dict__:
            self.builders.close()

    @contextmanager
    def _alone(self, verb: str) -> Iterator[None]:
        """Exclude every other apply and lock of this workspace; LockedError after the wait."""
        purpose = f"{verb} of workspace {self.config.name!r}"
        lock = f"workspace-{self.config.id}"
        with (
            translated_locks(),
            self.store.file_lock(lock, purpose=purpose, timeout=self._lock_timeout),
            self.store.lease(purpose, timeout=self._lock_timeout),
        ):
            yield

    def close(self) -> None:
        """Close the store, the registries and other workspaces, if they were opened."""
        for other in self._others.values():
            other.close()
        self._others.clear()
        if "builders" in self.__dict__:
            self.builders.close()
        for name in ("bases", "builders", "traffic", "versions", "importer", "_registry"):
            self.__dict__.pop(name, None)
        if "remotes" in self.__dict__:
            self.remotes.close()
            del self.__dict__["remotes"]
        if "store" in self.__dict__:
            self.store.close()
            del self.__dict__["store"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def in_parallel(function: Callable[[_In], _Out], items: Iterable[_In], /) -> Iterable[_Out]:
    """A ``map`` over threads, imported when something is asked at all."""
    from envgraph.apply.executor import ParallelMap

    return ParallelMap(DEFAULT_PARALLELISM)(function, items)


@contextmanager
def translated_locks() -> Iterator[None]:
    """Turn the store's "somebody holds it" into exit code 11."""
    from envgraph_store.errors import StoreLocked

    try:
        yield
    except StoreLocked as error:
        raise LockedError(error.summary, code="locked", hint=error.hint) from error
