"""Machines whose environments have docker steps: one with a builder in process, others without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from envgraph.testing.builder.copying import CopyingBuilder, copying_plugin
from envgraph.testing.layouts import LayoutMaker, MadeImage
from envgraph_store import Store
from envgraph_store.naming import unescape
from tests.bases import HOST, SETTINGS, TARS, upload
from tests.exchange import Machine

STEPS = ("COPY one.txt /one", "ENV SHADE=blue", "COPY two.txt /two")


def with_builder(machine: Machine) -> CopyingBuilder:
    """Give the machine a builder, and files to copy; what it built is in its ``built``."""
    builder = CopyingBuilder()
    machine.builders = (copying_plugin(builder),)
    for name in ("one", "two", "three"):
        (machine.folder / "environments" / f"{name}.txt").write_text(name)
    return builder


def steps(
    machine: Machine,
    name: str,
    *instructions: str,
    image: str = "scratch",
    packages: str = "alpha",
    **more: object,
) -> None:
    """Write environments/NAME.yml with these docker steps."""
    document: dict[str, object] = {"name": name, "image": image, **more}
    document["docker_steps"] = list(instructions or STEPS)
    if packages:
        document["conda_file"] = {"channels": ["demo"], "dependencies": packages.split()}
    (machine.folder / "environments" / f"{name}.yml").write_text(json.dumps(document))


def base_on_disk(machine: Machine) -> tuple[str, MadeImage]:
    """A base in the workspace's folder: what to write as ``image:``, and what it is."""
    layout = LayoutMaker(machine.folder / "base")
    made = layout.add_image(TARS, config=SETTINGS)
    layout.name(made.manifest, "base")
    return "oci:../base:base", made


def base_in_registry(machine: Machine, folder: Path) -> tuple[str, MadeImage]:
    """A base in another registry than the workspace's."""
    layout = LayoutMaker(folder)
    made = layout.add_image(TARS, config=SETTINGS)
    upload(layout, made.manifest, machine.plugin.registry(HOST), "1")
    return f"{HOST}/team/base:1", made


def recorded(at: Path) -> dict[str, dict[str, Any]]:
    """Every action record of the store ``at`` a place, by the text of its key."""
    with Store.open(at) as store:
        keys = [unescape(path.name) for path in (at / "actions").iterdir()]
        found = {key: store.actions.get(key) for key in keys}
    return {key: dict(record) for key, record in found.items() if record is not None}
