"""``envgraph.Workspace``: a workspace folder with its store, for programs.

(:class:`envgraph.workspace.Workspace` is the binding of the parts that this and the
command line stand on. It is no part of the SDK: it may change in any version.)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from envgraph.errors import InputError, StalePlanError
from envgraph.sdk.environments import Environments
from envgraph.sdk.plans import ApplyResult, Plan, error_of, failure_of, planned_environment
from envgraph.sdk.room import Progress, Room
from envgraph.sdk.values import EnvironmentList


class Workspace:
    """One workspace and one store. Use :meth:`open`; there is nothing to close.

    Safe in threads and inside a running event loop; calls block until they are done. Two
    calls that change the same workspace wait for each other (LockedError after
    ``lock_timeout`` seconds).

    >>> from envgraph import Workspace
    >>> Workspace.open(".")
    Workspace('fraud-models')
    """

    def __init__(self, room: Room) -> None:
        self._room = room

    def __repr__(self) -> str:
        return f"Workspace({self.name!r})"

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str] = ".",
        *,
        store: str | os.PathLike[str] | None = None,
        offline: bool = False,
        lock_timeout: float = 60.0,
    ) -> Self:
        """The workspace in ``folder``: its ``envgraph.yaml``, or the defaults without one.

        ``store``: else ``$ENVGRAPH_STORE``, else the user's own. ``offline``: no connection
        is opened; what would need one raises OfflineError. ``lock_timeout``: seconds to
        wait for another apply. InputError with every problem of the file, or when there is
        no such folder.
        """
        from envgraph.folders import default_store
        from envgraph.spec import load_workspace

        if not Path(folder).is_dir():
            raise InputError(f"{os.fspath(folder)}: no such folder", code="no-folder")
        config, diagnostics = load_workspace(Path(folder))
        if any(d.severity == "error" for d in diagnostics):
            raise InputError(diagnostics)
        path = Path(store if store is not None else default_store(os.environ)).absolute()
        return cls(Room(config, path, offline, lock_timeout, diagnostics))

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        *,
        name: str | None = None,
        store: str | os.PathLike[str] | None = None,
        offline: bool = False,
        lock_timeout: float = 60.0,
    ) -> Self:
        """Make a workspace as ``envgraph init`` does, without an example; then open it.

        ``name``: else the folder's. InputError ``workspace-exists`` when there is one, and
        ``workspace-name`` for a name that no workspace may have; nothing is made then.

        >>> Workspace.create("second", name="churn").plan().environments
        ()
        """
        from envgraph.spec.new_workspace import new_workspace, workspace_name
        from envgraph.spec.workspace_file import NAME

        place = Path(folder)
        name = workspace_name(place.resolve().name) if name is None else name
        if not NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is no workspace name",
                code="workspace-name",
                hint=f"for example {workspace_name(name)}",
            )
        new_workspace(place, name, example=False)
        return cls.open(place, store=store, offline=offline, lock_timeout=lock_timeout)

    @property
    def name(self) -> str:
        """The workspace's name."""
        return self._room.config.name

    @property
    def id(self) -> str:
        """What pins and versions belong to."""
        return self._room.config.id

    @property
    def folder(self) -> Path:
        """The workspace's folder, absolute; relative paths of environments start here."""
        return Path(self._room.config.root)

    @property
    def store(self) -> Path:
        """The store's folder, absolute."""
        return self._room.store

    @property
    def environments(self) -> Environments:
        """Register, find and list environments."""
        return Environments(self._room)

    def plan(
        self,
        files: Sequence[str | os.PathLike[str]] = (),
        *,
        targets: Sequence[str] = (),
        replace: Sequence[str] = (),
        follow_base: bool = False,
    ) -> Plan:
        """What applying the workspace's environment files (or these) would do.

        Changes nothing. Solves where no pin is found. ``files`` start at the workspace's
        folder; ``targets`` keeps these environments; ``replace`` builds packages again;
        ``follow_base`` takes bases whose tags have moved. An environment that cannot be
        planned is an error among the diagnostics and stops no other.

        >>> Workspace.open(".").plan().changes
        False
        """
        paths = [self.folder / file for file in files]
        with self._room.bound() as binding:
            plan = binding.plan(paths, targets=targets, replace=replace, follow_base=follow_base)
            planned = binding.planned
        assert planned is not None
        return Plan(
            environments=tuple(planned_environment(change) for change in plan.environments),
            summary=plan.summary,
            diagnostics=plan.diagnostics,
            _planned=planned,
            _made_for=self._identity,
        )

    def apply(
        self,
        plan: Plan | None = None,
        *,
        progress: Progress | None = None,
        parallelism: int | None = None,
        check: bool = True,
    ) -> ApplyResult:
        """Do what the plan says (made now where none is given); what was done.

        ``progress`` is called with an :class:`Event` for each thing that happens, one at a
        time, from any thread; nothing is printed without it. ``parallelism``: threads, else
        one for each processor.

        One environment that fails stops no other. Then, with ``check``, an EnvgraphError
        with everything that is wrong is raised (also for environments that could not be
        planned); without, it is in ``failures``. StalePlanError when the store moved on
        since the plan was made.

        >>> ws = Workspace.open(".")
        >>> seen = []
        >>> result = ws.apply(ws.plan(), progress=seen.append)
        >>> result.built
        0
        """
        plan = self.plan() if plan is None else plan
        if plan._made_for != self._identity:
            raise StalePlanError(
                "the plan was made for another workspace or store", hint="plan again"
            )
        with self._room.bound() as binding:
            done = self._room.carry_out(binding, binding.take(plan._planned), progress, parallelism)
            names = [f"{item['name']}:{item['version']}" for item in done.environments]
            versions = EnvironmentList(
                self._room.version(binding, binding.find(name)) for name in names
            )
        failures = (*([error_of(plan.errors)] if plan.errors else []), *done.failures)
        if check and failures:
            raise failure_of(failures)
        return ApplyResult(
            environments=versions,
            built=done.built,
            reused=done.reused,
            bytes_written=done.bytes_written,
            pulled=done.pulled,
            pushed=done.pushed,
            bytes_moved=done.bytes_moved,
            seconds=done.seconds,
            failures=failures,
            diagnostics=done.diagnostics,
        )

    @property
    def _identity(self) -> tuple[str, str]:
        return self.id, str(self.store)
