"""Base images in registries for tests: a desk whose workspace reaches registries in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from envgraph.api import Descriptor
from envgraph.api.registry import Registry
from envgraph.plugins import Plugins
from envgraph.testing.layouts import LayoutMaker, MadeImage, tar_bytes
from envgraph.testing.registry.memory import MemoryPlugin, MemoryRegistry
from envgraph.workspace import Workspace
from envgraph_store import Digest
from tests.desk import Desk

HOST = "registry.test:5000"
IMAGE = f"{HOST}/team/base:1"
REPOSITORY = "team/base"
TARS = [tar_bytes({"etc/os-release": b"ID=small\n"}), tar_bytes({"bin/tool": b"#!/bin/sh\n"})]
SETTINGS = {"Env": ["PATH=/usr/bin"], "Cmd": ["sh"], "User": "1000"}


def upload(
    layout: LayoutMaker, named: Descriptor, registry: Registry, tag: str,
    repository: str = REPOSITORY,
) -> None:  # fmt: skip
    """Put what ``named`` leads to into the registry, as any client would."""
    target = registry.repository(repository)

    def source(digest: Digest) -> BinaryIO:
        return (layout.folder / "blobs/sha256" / digest.hex).open("rb")

    def push(document: Mapping[str, Any], reference: str) -> None:
        with source(Digest(document["digest"])) as file:
            data = file.read()
        content = json.loads(data)
        for entry in content.get("manifests", ()):
            push(entry, entry["digest"])
        for part in [content["config"], *content["layers"]] if "layers" in content else []:
            digest = Digest(part["digest"])
            described = Descriptor(part["mediaType"], digest, part["size"])
            target.push_blob(described, partial(source, digest))
        target.put_manifest(reference, data, document["mediaType"])

    push(named.to_json(), tag)


@dataclass(slots=True)
class BaseDesk(Desk):
    """A desk with registries in memory; ``workspace`` is what a command would open."""

    plugin: MemoryPlugin = field(default_factory=MemoryPlugin)

    @property
    def registry(self) -> MemoryRegistry:
        """The registry behind :data:`HOST`."""
        return self.plugin.registry(HOST)

    @contextmanager
    def workspace(self, *, offline: bool = False) -> Iterator[Workspace]:
        """The workspace, with no other plugin than the registries in memory."""
        plugins = Plugins((), registries=[self.plugin.descriptor()])
        with Workspace.open(
            self.folder, store=self.store, offline=offline, plugins=plugins
        ) as found:
            yield found

    def use(self, image: str = IMAGE, name: str = "train", *packages: str) -> Path:
        """Write environments/NAME.yml on a base, with alpha unless told otherwise."""
        names = list(packages or ("alpha",))
        conda = {"channels": ["demo"], "dependencies": names}
        path = self.folder / "environments" / f"{name}.yml"
        path.write_text(json.dumps({"name": name, "image": image, "conda_file": conda}))
        return path

    def apply_here(self, *, offline: bool = False) -> dict[str, str]:
        """Plan and apply in this process; the images by name."""
        with self.workspace(offline=offline) as workspace:
            plan = workspace.plan()
            assert plan.applyable, plan.diagnostics
            result = workspace.apply(plan)
            assert not result.failures, result.failures
            return {item["name"]: item["image"] for item in result.environments}

    def calls(self) -> list[str]:
        """What the registry was asked since the last time."""
        said, self.registry.calls[:] = list(self.registry.calls), []
        return said

    def layers_opened(self, made: MadeImage) -> list[str]:
        """The layers of the base that were opened since the last time, as often as they were."""
        opened = [call.split()[2] for call in self.calls() if call.startswith("open_blob ")]
        return [digest for digest in opened if Digest(digest) in made.layers]
