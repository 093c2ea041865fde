"""The SDK with docker steps and build contexts, built by the real buildah."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph import BuildContext, Environment, Workspace
from envgraph.errors import InputError
from envgraph.testing.base import make_base
from tests.built import BuiltDesk, names_in
from tests.services import Channel

pytestmark = pytest.mark.services


@pytest.fixture
def built(tmp_path: Path, demo_channel: Channel) -> BuiltDesk:
    make_base(tmp_path / "base")
    return BuiltDesk.make(
        tmp_path / "desk", demo_channel.url, tmp_path / "base", tmp_path / "storage"
    )


def test_steps_copy_from_the_workspace_and_lie_below_the_packages(
    built: BuiltDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = built.desk.folder
    (folder / "settings.txt").write_text("blue\n")
    ws = Workspace.open(folder, store=built.desk.store)
    train = Environment(
        name="train",
        image="oci:base",
        docker_steps=["COPY settings.txt /etc/settings.txt", "ENV SHADE=blue"],
        conda_file={"channels": ["demo"], "dependencies": ["alpha=1.0"]},
    )
    made = ws.environments.create_or_update(train)
    assert made.kind == "system-managed"
    config, layers = built.image("train")
    assert "SHADE=blue" in config["config"]["Env"]
    assert "etc/settings.txt" in names_in(layers[1])
    assert ws.environments.create_or_update(train) == made


def test_a_context_of_the_workspace_is_built(built: BuiltDesk) -> None:
    folder = built.desk.folder
    (folder / "context").mkdir()
    (folder / "context/Dockerfile").write_text("FROM scratch\nCOPY a.txt /a.txt\n")
    (folder / "context/a.txt").write_text("a")
    ws = Workspace.open(folder, store=built.desk.store)
    made = ws.environments.create_or_update(
        Environment(name="app", build=BuildContext(path="context"))
    )
    assert (made.kind, made.version, made.packages) == ("user-managed", "1", ())
    (folder / "context/Dockerfile").write_text("FROM scratch\nJUMP a\n")
    with pytest.raises(InputError):
        ws.environments.create_or_update(
            Environment(name="app", build=BuildContext(path="context"))
        )
