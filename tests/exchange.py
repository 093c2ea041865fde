"""Machines that share a registry: each has a folder, a store and nothing else in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from envgraph.api.builder import BuilderPlugin
from envgraph.apply.apply import ApplyResult
from envgraph.plan.plan import Plan
from envgraph.plugins import Plugins
from envgraph.testing.registry.memory import MemoryPlugin, MemoryRegistry
from envgraph.workspace import Workspace
from tests.desk import ENVIRONMENT

PACKAGES = ("python", "alpha=1.1", "beta", "gamma", "tool", "settings")
"""All that the demo channel can do."""


@dataclass(slots=True)
class Machine:
    """One machine, in this process; its registries are those of ``plugin``."""

    root: Path
    channel: str
    plugin: MemoryPlugin = field(default_factory=MemoryPlugin)
    id: str = "d35c0001"
    name: str = "desk"
    own: str = ""
    now: datetime = datetime(2026, 11, 25, 12, tzinfo=UTC)
    builders: tuple[BuilderPlugin, ...] = ()

    def __post_init__(self) -> None:
        (self.folder / "environments").mkdir(parents=True)
        self.settings()

    @property
    def folder(self) -> Path:
        """The workspace."""
        return self.root / "work"

    @property
    def store(self) -> Path:
        """The store."""
        return self.root / "store"

    @property
    def registry(self) -> MemoryRegistry:
        """The workspace's registry."""
        return self.plugin.registry(self.own)

    @property
    def shared(self) -> MemoryRegistry:
        """The registry `shared`, of every machine."""
        return self.plugin.registry("shared")

    def settings(self, **more: object) -> None:
        """Write envgraph.yaml; JSON is YAML."""
        document = {
            "workspace": self.name,
            "id": self.id,
            "channels": {"demo": self.channel},
            "image": {"bytecode": "none"},
            "registry": {"type": "memory", "name": self.own},
            "registries": {"shared": {"type": "memory", "name": "shared"}},
        } | more
        (self.folder / "envgraph.yaml").write_text(json.dumps(document))

    def environment(self, name: str, *dependencies: str, more: str = "") -> None:
        """Write environments/NAME.yml."""
        lines = "\n".join(f"  - {item}" for item in dependencies)
        path = self.folder / "environments" / f"{name}.yml"
        path.write_text(ENVIRONMENT.format(name=name, dependencies=lines) + more)

    @contextmanager
    def open(self, *, offline: bool = False) -> Iterator[Workspace]:
        """The workspace."""
        registries = [self.plugin.descriptor()]
        plugins = Plugins((), registries=registries, builders=self.builders)
        with Workspace.open(
            self.folder, store=self.store, offline=offline, plugins=plugins
        ) as workspace:
            workspace._now = lambda: self.now
            yield workspace

    def plan(self, *, offline: bool = False, fresh: bool = False) -> Plan:
        """A plan of everything."""
        with self.open(offline=offline) as workspace:
            return workspace.plan(fresh=fresh)

    def apply(self, *, parallelism: int = 1, offline: bool = False) -> ApplyResult:
        """Plan and apply everything; failures are in the result."""
        with self.open(offline=offline) as workspace:
            return workspace.apply(workspace.plan(), parallelism=parallelism)

    def elsewhere(self, root: Path, *, locks: bool = True) -> Machine:
        """Another machine with the same files (and lockfiles, unless told otherwise)."""
        other = Machine(root, self.channel, self.plugin, self.id, self.name, self.own, self.now)
        folders = ("environments", "locks") if locks else ("environments",)
        for path in (self.folder / "envgraph.yaml", *self._files(folders)):
            target = other.folder / path.relative_to(self.folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
        return other

    def _files(self, folders: Iterable[str]) -> list[Path]:
        return [path for name in folders for path in sorted((self.folder / name).glob("*"))]


def good(result: ApplyResult) -> ApplyResult:
    """A result without failures."""
    assert not result.failures, result.failures
    return result
