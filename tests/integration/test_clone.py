"""clone: the same packages under another name, with the parent in the history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from envgraph.apply.clone import clone_document
from envgraph.errors import InputError, UsageError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import (
    definition_digest,
    definition_document,
    runtime_digest,
    runtime_document,
)
from envgraph.model.spec import EnvironmentSpec
from envgraph.spec import load_environment
from tests.desk import Desk
from tests.services import Channel
from tests.unit.history.making import version

EVERYTHING = """\
name: parent
image: python:3.12
docker_steps:
  - RUN apt-get update && apt-get install -y libgomp1
  - ENV A="1"
conda_file:
  channels: [conda-forge, https://example.org/own]
  dependencies:
    - python=3.12
    - sel(linux): strace
    - numpy >=1.26,<3
    - pip
    - pip:
        - --extra-index-url https://example.org/simple
        - requests==2.32.3 --hash=sha256:{hash}
        - Flask[async] >=3 ; python_version > "3.8"
        - pkg @ https://example.org/pkg-1.0-py3-none-any.whl
  variables: {{FROM_CONDA: "yes"}}
environment_variables: {{NUMBER: "010", TEXT: "a: b # c"}}
inference_config:
  liveness_route: {{port: 5001, path: /live}}
  readiness_route: {{port: 5001, path: /ready}}
  scoring_route: {{port: 5001, path: /score}}
""".format(hash="a" * 64)


def spec_of(path: Path, text: str) -> EnvironmentSpec:
    path.write_text(text)
    loaded = load_environment(path, WorkspaceConfig("w", "id", str(path.parent)))
    assert loaded.spec is not None, loaded.diagnostics
    return loaded.spec


def test_the_file_of_a_clone_says_the_very_same(tmp_path: Path) -> None:
    spec = spec_of(tmp_path / "parent.yml", EVERYTHING)
    record = replace(version("1"), description="d", tags={"t": "1"}, properties={"p": "2"})
    document = clone_document(
        record, definition_document(spec), runtime_document(spec), name="child", parent="parent:1"
    )
    clone = spec_of(tmp_path / "child.yml", yaml.safe_dump(document, sort_keys=False))
    assert definition_digest(clone) == definition_digest(spec)
    assert runtime_digest(clone) == runtime_digest(spec)
    assert (clone.name, clone.description, clone.tags) == ("child", "d", {"t": "1"})
    assert clone.properties == {"p": "2", "envgraph.parent": "parent:1"}


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    made = Desk(tmp_path, demo_channel.url)
    made.environment("train", "alpha", "settings")
    made.apply()
    return made


def test_a_clone_has_the_very_same_packages_although_the_channel_has_newer_ones(
    desk: Desk,
) -> None:
    desk.environment("train", "alpha=1.0", "settings")
    desk.apply()
    desk.ok("clone", "train:2", "child")
    plan = desk.plan()
    assert plan["summary"]["build"] == plan["summary"]["resolve"] == 0
    made = {e["name"]: e for e in desk.apply()["environments"]}
    parent = desk.ok("show", "train:2", "--json").json
    assert made["child"]["lock"] == parent["lock"]
    assert made["child"]["image"] == parent["image"]
    assert desk.ok("show", "child", "--json").json["parent"] == "azureml:train:2"
    assert desk.ok("why", "child", "--json").json["a"] == "train:2"


def test_only_the_first_version_of_a_clone_has_its_parent(desk: Desk) -> None:
    desk.ok("clone", "train", "child", "--set", "description=mine", "--set", "tags.a=b")
    desk.apply()
    path = desk.folder / "environments" / "child.yml"
    path.write_text(path.read_text().replace("- settings", "- beta"))
    desk.apply()
    newest, first = desk.ok("history", "child", "--json").json["records"]
    assert first["parent"] == "azureml:train:1"
    assert newest["parent"] == "child:1"
    assert desk.ok("show", "child:1", "--json").json["tags"] == {"a": "b"}


def test_an_image_that_is_set_leaves_the_lock_to_the_next_plan(desk: Desk) -> None:
    made = desk.ok("clone", "train", "child", "--set", "image=python:3.12", "--json").json
    assert made["lockfile"] is None
    assert "image: python:3.12" in Path(made["file"]).read_text()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("train", "train"), "name-taken"), (("train:9", "x"), "unknown-version"),
        (("train", "azureML-x"), "reserved-prefix"), (("train", "MICROSOFT"), "reserved-prefix"),
        (("train", "a/b"), "bad-name"), (("train", "n" * 300), "bad-name"),
        (("train", "a\nb"), "bad-name"), (("train", "a\u202eb"), "bad-name"),
        (("train", "x", "--set", "packages=1"), "unknown-key"),
        (("train", "x", "--set", "properties.envgraph.parent=1"), "usage"),
        (("train", "x", "--set", "image"), "usage"),
        (("train", "x", "--set", "version=a/b"), "version"),
    ],
)  # fmt: skip
def test_what_is_refused_writes_nothing(desk: Desk, words: tuple[str, ...], code: str) -> None:
    before = sorted(desk.folder.rglob("*"))
    answer = desk.run("clone", *words, "--json")
    assert answer.code == 1
    assert answer.errors() == [code]
    assert sorted(desk.folder.rglob("*")) == before


def test_a_file_that_is_there_is_not_overwritten(desk: Desk) -> None:
    path = desk.folder / "environments" / "child.yml"
    path.write_text("name: another\nimage: scratch\n")
    assert desk.run("clone", "train", "child", "--json").errors() == ["file-exists"]
    assert path.read_text() == "name: another\nimage: scratch\n"


def test_a_curated_environment_becomes_one_of_ones_own(tmp_path: Path, desk: Desk) -> None:
    shelf = {"type": "dirs", "path": str(tmp_path / "shelf")}
    desk.settings(registries={"shared": shelf})
    desk.ok("share", "train", "--to", "shared", "--claim")
    desk.settings(id="ffff0001", registries={"shared": shelf}, workspace="other",
                  virtual_packages={"linux-64": {"__glibc": "2.30"}})  # fmt: skip
    (desk.folder / "environments" / "train.yml").unlink()
    desk.lockfile("train").unlink()
    curated = "azureml://registries/shared/environments/train/versions/1"
    assert desk.run("clone", curated, "train", "--json").errors() == ["curated"]
    desk.ok("clone", curated, "mine")
    [step] = [s for s in desk.plan()["steps"] if s["action"] == "resolve"]
    assert "lockfile" in step["reason"], step
    [made] = desk.apply()["environments"]
    shown = desk.ok("show", "mine", "--json").json
    assert (shown["parent"], shown["kind"]) == (curated, "system-managed")
    assert made["lock"] == desk.ok("show", curated, "--json").json["lock"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: a\nimage: scratch\nconda_file:\n  dependencies: [pip, {pip: [./project]}]\n",
         "local project"),
        ("name: a\nbuild: {path: context}\n", "build context"),
    ],
)  # fmt: skip
def test_what_no_store_keeps_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text("[project]\nname='p'\nversion='1'\n")
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\n")
    spec = spec_of(tmp_path / "a.yml", text)
    with pytest.raises(InputError) as caught:
        clone_document(
            version("1"), definition_document(spec), runtime_document(spec), name="b", parent="a:1"
        )
    assert named in caught.value.diagnostics[0].detail


def test_an_image_cannot_be_set_on_a_build_context() -> None:
    build = {"tree": None, "address": "https://h/x", "dockerfile_path": "D"}
    definition = {"base": None, "steps": [], "conda": None, "build": build}
    with pytest.raises(UsageError):
        clone_document(
            version("1"), definition, {}, name="b", parent="a:1", changes=[("image", "x")]
        )
