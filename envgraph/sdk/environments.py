"""``workspace.environments``: register, find and list, as ``MLClient.environments`` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from envgraph.errors import InputError, UsageError
from envgraph.refresh.desired import Loaded
from envgraph.sdk.environment import Environment
from envgraph.sdk.plans import error_of, failure_of
from envgraph.sdk.room import Progress, Room
from envgraph.sdk.values import EnvironmentList, EnvironmentVersion


class Environments:
    """The environments of one workspace. Holds no state; safe in threads."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def create_or_update(
        self,
        environment: Environment | EnvironmentVersion,
        *,
        progress: Progress | None = None,
        parallelism: int | None = None,
    ) -> EnvironmentVersion:
        """Pin, build, store and register one environment; its version, new or as it was.

        What ``envgraph apply`` does with a file: there is a new version when definition,
        lock or runtime changed. The pins go where those of files go, into
        ``locks/<name>.conda-lock.yml`` of the workspace (commit it), and are found again
        there. A file of the workspace that has the same name makes its own version when it
        is applied.

        A version that was fetched may be given back with another description and other
        tags (``dataclasses.replace(env, tags={…})``): these change, and nothing else can.

        Raises InputError with every problem, each with its field; ResolveError,
        FetchError, OfflineError, BuildError, LockedError as they come. Nothing is
        registered then.

        >>> ws = Workspace.open(".")
        >>> env = ws.environments.create_or_update(Environment(
        ...     name="train",
        ...     image="scratch",
        ...     conda_file={"channels": ["conda-forge"], "dependencies": ["python=3.12"]},
        ... ))
        >>> env.reference
        'train:1'
        >>> [package.name for package in env.packages]
        ['python']
        """
        if isinstance(environment, EnvironmentVersion):
            return self._described(environment)
        loaded = self._load(environment)
        with self._room.bound() as binding:
            plan = binding.plan(loaded=loaded)
            errors = [d for d in plan.diagnostics if d.severity == "error"]
            if errors:
                raise error_of(errors)
            [change] = plan.environments
            if plan.changes:
                result = self._room.carry_out(binding, plan, progress, parallelism)
                if result.failures:
                    raise failure_of(result.failures)
                [registered] = result.environments
                version = str(registered["version"])
            else:
                version = change.version
            record = binding.find(f"{change.target.name}:{version}")
            return self._room.version(binding, record)

    def _described(self, wanted: EnvironmentVersion) -> EnvironmentVersion:
        registered = self.get(wanted.name, version=wanted.version)
        now = dataclasses.replace(
            wanted,
            description=registered.description,
            tags=registered.tags,
            labels=registered.labels,
            archived=registered.archived,
        )
        if now != registered:
            raise UsageError(
                f"{wanted.reference} is registered, and only its description and tags may change",
                hint="make an Environment of what shall be new: it is the next version",
            )
        tags = {str(key): str(value) for key, value in wanted.tags.items()}
        with self._room.bound() as binding:
            binding.versions.describe(wanted.reference, wanted.description, tags)
        return self.get(wanted.name, version=wanted.version)

    def _load(self, environment: Environment) -> Loaded:
        from envgraph.spec.values import load_values

        if not isinstance(environment, Environment):
            raise UsageError(
                f"an Environment is needed, and not a {type(environment).__name__}",
                hint="files of the workspace are applied by Workspace.plan and apply",
            )
        result = load_values(environment.to_dict(), self._room.config)
        if result.spec is None:
            raise InputError(result.diagnostics)
        return Loaded((result.spec,), result.diagnostics, result.inputs)

    def get(
        self, name: str, version: str | int | None = None, label: str | None = None
    ) -> EnvironmentVersion:
        """One version: by number, by label, or the latest. NotFoundError names what is there.

        >>> Workspace.open(".").environments.get("train", label="latest").version
        '1'
        """
        with self._room.bound() as binding:
            record = binding.find(_reference(name, version, label))
            return self._room.version(binding, record)

    def list(
        self, name: str | None = None, *, archived: bool = False, registry: str | None = None
    ) -> EnvironmentList:
        """The latest version of every environment; with ``name`` all versions of it, newest first.

        ``archived``: those that are archived, too. ``registry``: what a registry shares.

        >>> [env.reference for env in Workspace.open(".").environments.list()]
        ['train:1']
        """
        with self._room.bound() as binding:
            if registry is not None:
                every = name is not None
                shared = binding.traffic.listed(registry, all=every, archived=archived)
                wanted = [record for record in shared if name in (None, record.environment)]
                return EnvironmentList(
                    self._room.version(binding, record, registry) for record in wanted
                )
            if name is None:
                return self._room.latest(binding, archived=archived)
            return self._room.every(binding, name, archived=archived)

    def archive(
        self, name: str, version: str | int | None = None, label: str | None = None
    ) -> None:
        """Hide a version (or, by name alone, the whole environment) from ``list`` and ``latest``.

        What is hidden is still found when it is named. NotFoundError where it is not there.

        >>> ws = Workspace.open(".")
        >>> ws.environments.archive("train", version="1")
        >>> ws.environments.list()
        ()
        >>> ws.environments.get("train", version="1").archived
        True
        """
        with self._room.bound() as binding:
            binding.versions.archive(_reference(name, version, label))

    def restore(
        self, name: str, version: str | int | None = None, label: str | None = None
    ) -> None:
        """Show again what was archived.

        >>> Workspace.open(".").environments.restore("train", version="1")
        >>> Workspace.open(".").environments.list()[0].version
        '1'
        """
        with self._room.bound() as binding:
            binding.versions.restore(_reference(name, version, label))

    def label(self, name: str, version: str | int, label: str) -> None:
        """Let a label mean a version; every move is kept. ``latest`` moves by itself.

        InputError for what no label can be; NotFoundError where there is no such version.

        >>> ws = Workspace.open(".")
        >>> ws.environments.label("train", "1", "production")
        >>> ws.environments.get("train", label="production").labels
        ('latest', 'production')
        """
        with self._room.bound() as binding:
            binding.versions.label(_reference(name, version, None), label)

    def delete(self, name: str, version: str | int) -> None:
        """Delete a version; the history keeps that it was, with its definition and locks.

        NotFoundError where it is not there; EnvgraphError ``label-in-use`` while a label
        means it.

        >>> ws = Workspace.open(".")
        >>> env = ws.environments.create_or_update(Environment(name="mistake", image="scratch"))
        >>> ws.environments.delete("mistake", env.version)
        >>> [env.name for env in ws.environments.list()]
        ['train']
        """
        with self._room.bound() as binding:
            binding.versions.delete(_reference(name, version, None))

    def share(self, name: str, version: str | int, *, registry: str) -> EnvironmentVersion:
        """Push a version and name it in a registry's catalogue, for other workspaces.

        NotFoundError where there is no such version or registry; RegistryError and
        EnvgraphError ``version-taken`` as the registry has it.
        """
        with self._room.bound() as binding:
            record, report = binding.traffic.share(_reference(name, version, None), to=registry)
            if report.failures:
                raise failure_of(report.failures)
            return self._room.version(binding, record)


def _reference(name: str, version: str | int | None, label: str | None) -> str:
    if version is not None and label is not None:
        raise UsageError("a version or a label, not both")
    if version is not None:
        return f"{name}:{version}"
    return name if label is None else f"{name}@{label}"


__all__: Sequence[str] = ("Environments",)
