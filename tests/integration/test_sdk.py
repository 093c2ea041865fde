"""The SDK on a real channel: register, find, list, plan and apply, as a script does."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from envgraph import BuildContext, Environment, EnvironmentVersion, Workspace
from envgraph.api.events import Event
from envgraph.errors import (
    EnvgraphError,
    InputError,
    NotFoundError,
    OfflineError,
    StalePlanError,
    UsageError,
)
from tests.services import Channel

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = ("environment", "environments", "workspace")
"""Modules with examples, in an order in which they tell one story."""


@pytest.fixture
def folder(tmp_path: Path, demo_channel: Channel) -> Path:
    """A workspace folder whose conda-forge is the small channel."""
    place = tmp_path / "work"
    place.mkdir()
    settings = {
        "workspace": "fraud-models",
        "id": "5dc00001",
        "channels": {"conda-forge": demo_channel.url},
        "image": {"bytecode": "none"},
    }
    (place / "envgraph.yaml").write_text(json.dumps(settings))
    return place


@pytest.fixture
def ws(folder: Path, tmp_path: Path) -> Workspace:
    return Workspace.open(folder, store=tmp_path / "store")


Make = Callable[..., Environment]


@pytest.fixture
def make() -> Make:
    """``make("train", "beta", …)``: an environment of these packages."""

    def environment(name: str, *dependencies: object, **more: object) -> Environment:
        conda = {"channels": ["conda-forge"], "dependencies": list(dependencies)}
        values = {"name": name, "image": "scratch", "conda_file": conda, **more}
        return Environment(**values)  # type: ignore[arg-type]

    return environment


def said(error: EnvgraphError) -> list[str]:
    """``field code`` of each problem."""
    return [f"{d.source} {d.code}" for d in error.diagnostics]


def test_an_environment_is_registered_found_and_listed(ws: Workspace, make: Make) -> None:
    made = ws.environments.create_or_update(
        make("train", "beta", tags={"team": "fraud", "n": 3}, description="d")
    )
    assert (made.name, made.version, made.kind) == ("train", "1", "system-managed")
    assert made.reference == "train:1"
    assert [p.name for p in made.packages] == ["alpha", "beta"]
    assert [p.direct for p in made.packages] == [False, True]
    assert made.packages is made.packages
    assert made.tags == {"team": "fraud", "n": "3"}
    assert made.created.tzinfo is not None
    assert made.image.startswith("sha256:")
    environments = ws.environments
    assert environments.get("train", "1") == made
    assert environments.get("train", version=1) == made
    assert environments.get("train", label="latest") == environments.get("train") == made
    assert list(environments.list()) == list(environments.list("train")) == [made]


def test_the_pins_go_into_the_lockfile_and_are_found_again(
    ws: Workspace, make: Make, folder: Path
) -> None:
    first = ws.environments.create_or_update(make("train", "beta"))
    lockfile = folder / "locks/train.conda-lock.yml"
    before = lockfile.read_bytes()
    elsewhere = Workspace.open(folder, store=folder / "second store", offline=True)
    again = elsewhere.environments.create_or_update(make("train", "beta"))
    assert (again.definition, again.lock, again.image) == (
        first.definition, first.lock, first.image,
    )  # fmt: skip
    assert lockfile.read_bytes() == before
    # Nothing else is written into the workspace.
    names = {p.name for p in folder.iterdir()}
    assert names == {"envgraph.yaml", "locks", "second store"}


def test_the_same_as_a_file_that_says_the_same(ws: Workspace, make: Make, folder: Path) -> None:
    made = ws.environments.create_or_update(
        make("train", "beta", environment_variables={"MODE": "fast", "N": 1})
    )
    (folder / "environments").mkdir()
    (folder / "environments/train.yml").write_text(
        "name: train\nimage: scratch\nenvironment_variables: {MODE: fast, N: 1}\n"
        "conda_file: {channels: [conda-forge], dependencies: [beta]}\n"
    )
    plan = ws.plan()
    assert [e.action for e in plan.environments] == ["no-op"]
    assert not plan.changes
    assert plan.environments[0].image == made.image


def test_a_version_is_counted_up_when_something_changed(ws: Workspace, make: Make) -> None:
    environments = ws.environments
    assert environments.create_or_update(make("train", "beta")).version == "1"
    assert environments.create_or_update(make("train", "beta")).version == "1"
    second = environments.create_or_update(make("train", "beta", "gamma"))
    assert (second.version, second.changed) == ("2", ("definition", "lock"))
    assert [v.version for v in environments.list("train")] == ["2", "1"]
    assert [v.version for v in environments.list()] == ["2"]
    with pytest.raises(InputError) as caught:
        environments.create_or_update(make("train", "alpha", version="1"))
    assert said(caught.value) == ["Environment('train') version-taken"]
    assert len(environments.list("train")) == 2


def test_every_problem_names_its_field(ws: Workspace, make: Make) -> None:
    bad = Environment(
        name="a/b",
        image="x/UPPER",
        conda_file={
            "channels": "conda-forge",
            "dependencies": ["python=3.12", "b ==", {"pip": ["x y"]}],
            "chanels": [],
        },
        build=BuildContext(path="gone"),
        environment_variables={"A=B": "1", "C": ["x"]},
        tags={"a b": {1, 2}},
        platforms=["linux-65"],
    )
    with pytest.raises(InputError) as caught:
        ws.environments.create_or_update(bad)
    found = said(caught.value)
    title = "Environment('a/b')"
    for field in (
        ".name name",
        ".image image-reference",
        ".conda_file.chanels unknown-key",
        ".conda_file.dependencies[1] match-spec",
        ".conda_file.dependencies[2].pip[0] pip-requirement",
        ".build image-and-build",
        ".build.path missing-folder",
        ".environment_variables['A=B'] variable-name",
        ".environment_variables.C type",
        ".tags['a b'] type",
        ".platforms[0] platform",
    ):
        assert title + field in found
    assert ws.environments.list() == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"name": "a\0"}, "Environment('a\\x00').name control-character"),
        ({"name": "a\ud800"}, "Environment('a\\ud800').name encoding"),
        ({"name": b"a"}, "Environment(\"b'a'\").name type"),
        ({"name": ""}, "Environment('').name name"),
        ({"name": "x" * 300}, f"Environment('{'x' * 59}…').name name"),
        ({"name": "a", "image": None}, "Environment('a') no-image"),
        ({"name": "a", "version": 1.10}, "Environment('a').version version"),
        ({"name": "{{n}}"}, "Environment('{{n}}').name template"),
        ({"name": "a", "conda_file": 5}, "Environment('a').conda_file missing-file"),
        ({"name": "a", "conda_file": {1: 2, ("x",): 3}}, "Environment('a').conda_file type"),
    ],
)
def test_bad_values(ws: Workspace, fields: dict[str, object], expected: str) -> None:
    environment = Environment(**{"image": "scratch", **fields})  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        ws.environments.create_or_update(environment)
    assert expected in said(caught.value)


def test_a_value_that_holds_itself_is_refused(ws: Workspace) -> None:
    conda: dict[str, object] = {"dependencies": ["beta"]}
    environment = Environment(name="a", image="scratch", conda_file=conda)
    assert isinstance(environment.conda_file, dict)
    environment.conda_file["variables"] = environment.conda_file
    with pytest.raises(InputError) as caught:
        ws.environments.create_or_update(environment)
    assert any(line.endswith("too-large") for line in said(caught.value))


def test_an_environment_keeps_what_it_was_made_from() -> None:
    tags = {"a": "1"}
    made = Environment(name="a", image="scratch", tags=tags)
    tags["a"] = "2"
    assert made.tags == {"a": "1"}
    assert made.to_dict() == {"name": "a", "image": "scratch", "tags": {"a": "1"}}


def test_paths_start_at_the_workspace(
    ws: Workspace, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "conda.yml").write_text("channels: [conda-forge]\ndependencies: [beta]\n")
    monkeypatch.chdir(tmp_path)
    for path in ("conda.yml", Path("conda.yml"), folder / "conda.yml"):
        made = ws.environments.create_or_update(
            Environment(name="train", image="scratch", conda_file=path)
        )
        assert made.version == "1"


def test_what_cannot_be_solved_or_reached_is_an_error(ws: Workspace, make: Make) -> None:
    with pytest.raises(EnvgraphError) as caught:
        ws.environments.create_or_update(make("train", "alpha >=9"))
    assert "Environment('train').conda_file.dependencies[0]" in said(caught.value)[0]
    with pytest.raises(OfflineError):
        Workspace.open(ws.folder, store=ws.store, offline=True).environments.create_or_update(
            Environment(name="t", image="127.0.0.1:1/x:1")
        )
    assert ws.environments.list() == ()


def test_names_that_are_not_there(ws: Workspace, make: Make) -> None:
    ws.environments.create_or_update(make("train", "alpha"))
    for call in (
        lambda: ws.environments.get("nothing"),
        lambda: ws.environments.get("train", version="7"),
        lambda: ws.environments.get("train", label="prod"),
        lambda: ws.environments.list("nothing"),
        lambda: ws.environments.share("train", "1", registry="nowhere"),
        lambda: ws.environments.get("train").packages_of("osx-64"),
    ):
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(UsageError):
        ws.environments.get("train", version="1", label="latest")
    with pytest.raises(UsageError):
        ws.environments.create_or_update("train.yml")  # type: ignore[arg-type]


def test_labels_move_and_archived_versions_hide(ws: Workspace, make: Make) -> None:
    environments = ws.environments
    environments.create_or_update(make("train", "alpha"))
    environments.create_or_update(make("train", "beta"))
    environments.label("train", 1, "prod")
    assert environments.get("train", label="prod").version == "1"
    assert environments.get("train", "1").labels == ("prod",)
    assert environments.get("train").labels == ("latest",)
    environments.archive("train", version="2")
    assert environments.get("train", label="latest").version == "1"
    assert [(v.version, v.archived) for v in environments.list("train")] == [("1", False)]
    everything = environments.list("train", archived=True)
    assert [(v.version, v.archived) for v in everything] == [("2", True), ("1", False)]
    environments.archive("train")
    assert environments.list() == ()
    assert [v.name for v in environments.list(archived=True)] == ["train"]
    environments.restore("train")
    environments.restore("train", "2")
    assert environments.get("train").version == "2"
    for call in (environments.archive, environments.restore):
        with pytest.raises(NotFoundError):
            call("train", "9")
    with pytest.raises(InputError):
        environments.label("train", 1, "latest")


def test_a_description_changes_and_the_version_stays(ws: Workspace, make: Make) -> None:
    first = ws.environments.create_or_update(make("train", "alpha", description="one"))
    again = ws.environments.create_or_update(make("train", "alpha", description="two"))
    assert (again.version, again.description, again.image) == ("1", "two", first.image)
    assert ws.environments.get("train").description == "two"


def test_a_version_is_shared_and_listed_from_a_registry(
    folder: Path, tmp_path: Path, make: Make
) -> None:
    settings = json.loads((folder / "envgraph.yaml").read_text())
    settings["registries"] = {"shared": {"type": "dirs", "path": str(tmp_path / "shared")}}
    (folder / "envgraph.yaml").write_text(json.dumps(settings))
    ws = Workspace.open(folder, store=tmp_path / "store")
    made = ws.environments.create_or_update(make("train", "beta"))
    assert ws.environments.share("train", "1", registry="shared") == made
    other = Workspace.open(folder, store=tmp_path / "other")
    [listed] = other.environments.list(registry="shared")
    assert (listed.name, listed.version, listed.image) == ("train", "1", made.image)
    assert [v.version for v in other.environments.list("train", registry="shared")] == ["1"]
    assert other.environments.list("nothing", registry="shared") == ()
    assert other.environments.list() == ()


def write_files(folder: Path, **files: str) -> None:
    (folder / "environments").mkdir(exist_ok=True)
    for name, dependencies in files.items():
        (folder / "environments" / f"{name}.yml").write_text(
            f"name: {name}\nchannels: [conda-forge]\ndependencies: [{dependencies}]\n"
        )


def test_plan_and_apply(ws: Workspace, folder: Path) -> None:
    write_files(folder, one="beta", two="gamma")
    plan = ws.plan()
    assert [(e.name, e.action) for e in plan.environments] == [("one", "create"), ("two", "create")]
    assert plan.changes
    assert plan.summary["build"] > 0
    assert plan.to_json()["format_version"] == "1"
    events: list[Event] = []
    result = ws.apply(plan, progress=events.append)
    assert [e.reference for e in result.environments] == ["one:1", "two:1"]
    assert result.built > 0
    assert {"done", "start"} <= {event.kind for event in events}
    assert not ws.plan().changes
    with pytest.raises(StalePlanError):
        ws.apply(plan)
    write_files(folder, one="beta, settings")
    plan = ws.plan(targets=["one"])
    assert [(c.name, c.kind) for c in plan.environments[0].packages] == [("settings", "added")]
    assert ws.apply(plan).environments[0].version == "2"


def test_an_environment_that_fails_stops_no_other(ws: Workspace, folder: Path) -> None:
    write_files(folder, good="beta", bad="alpha >=9")
    plan = ws.plan()
    assert [e.name for e in plan.environments] == ["good"]
    assert len(plan.errors) == 1
    with pytest.raises(EnvgraphError):
        ws.apply(plan)
    assert [e.name for e in ws.environments.list()] == ["good"]
    result = ws.apply(check=False)
    assert len(result.failures) == 1
    assert [e.name for e in result.environments] == ["good"]


def test_a_plan_belongs_to_its_workspace(ws: Workspace, folder: Path, tmp_path: Path) -> None:
    write_files(folder, one="beta")
    other = Workspace.open(folder, store=tmp_path / "other")
    with pytest.raises(StalePlanError):
        other.apply(ws.plan())
    # A plan may be applied by another object for the same workspace and store.
    same = Workspace.open(folder, store=ws.store)
    assert same.apply(ws.plan()).environments[0].reference == "one:1"


def test_nothing_is_printed(ws: Workspace, make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    ws.environments.create_or_update(make("train", "beta"))
    ws.apply()
    assert capfd.readouterr() == ("", "")


def test_remarks_go_to_the_progress(ws: Workspace, make: Make) -> None:
    events: list[Event] = []
    ws.environments.create_or_update(make("train", "beta"), progress=events.append)
    assert any(e.kind == "message" and "no C library" in e.text for e in events)


def test_inside_a_running_event_loop(ws: Workspace, make: Make) -> None:
    async def notebook() -> EnvironmentVersion:
        return ws.environments.create_or_update(make("train", "beta"))

    assert asyncio.run(notebook()).version == "1"


def test_threads_share_a_workspace(ws: Workspace, make: Make) -> None:
    names = [f"env{n}" for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: ws.environments.create_or_update(make(name, "beta")), names))
    assert [e.name for e in ws.environments.list()] == names


def test_what_a_notebook_shows_is_escaped(ws: Workspace, make: Make, folder: Path) -> None:
    evil = "<script>alert(1)</script>"
    environment = make("a<b>&", "beta", description=evil, tags={evil: evil})
    made = ws.environments.create_or_update(environment)
    write_files(folder, one="beta")
    (folder / "environments/two.yml").write_text(
        "name: 'c<d>'\nimage: scratch\nconda_file: {dependencies: [alpha >=9]}\n"
    )
    plan = ws.plan()
    shown = [environment, made, made.packages, ws.environments.list(), plan]
    shown.append(ws.apply(plan, check=False))
    for value in shown:
        text = value._repr_html_()  # type: ignore[attr-defined]
        assert text.startswith("<table>")
        assert "<script" not in text
        assert "<b>" not in text
        assert "<d>" not in text
    assert "a&lt;b&gt;&amp;" in made._repr_html_()
    assert "<td>beta</td>" in made.packages._repr_html_()


def test_only_the_values_are_shown_in_a_traceback_or_list(ws: Workspace, make: Make) -> None:
    made = ws.environments.create_or_update(make("train", "beta"))
    assert repr(made).startswith("EnvironmentVersion(name='train', version='1'")
    assert len(repr(made)) < 220
    assert repr(ws) == "Workspace('fraud-models')"


def test_the_examples_in_the_docs_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ENVGRAPH_STORE", str(tmp_path / "store"))
    names = {"Workspace": Workspace, "Environment": Environment, "BuildContext": BuildContext}
    runner = doctest.DocTestRunner()
    for name in DOCUMENTED:
        module = importlib.import_module(f"envgraph.sdk.{name}")
        found = [t for t in doctest.DocTestFinder().find(module, extraglobs=names) if t.examples]
        for example in sorted(found, key=lambda test: test.lineno or 0):
            runner.run(example)
    assert runner.failures == 0
    assert runner.tries > 20


def test_the_block_in_the_readme_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ENVGRAPH_STORE", str(tmp_path / "store"))
    (folder / "conda.yml").write_text("channels: [conda-forge]\ndependencies: [beta]\n")
    page = (ROOT / "envgraph/sdk/README.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["env"].reference == "train:1"
    assert names["ws"].environments.get("train").labels == ("latest", "production")
    assert names["result"].built == 0


def test_the_example_runs_and_runs_again(folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, ROOT / "examples/sdk/register.py"],
            cwd=folder,
            env={"PATH": os.defpath, "HOME": str(tmp_path), "ENVGRAPH_STORE": str(tmp_path / "s")},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "train:1: python 3.12.1\n"


def test_importing_a_part_does_not_import_the_top() -> None:
    code = (
        "import sys, envgraph.model.names, envgraph.sdk\n"
        "assert not {'envgraph.workspace', 'envgraph.sdk.workspace'} & set(sys.modules)\n"
        "import envgraph\n"
        "assert 'Workspace' in dir(envgraph)\n"
        "envgraph.Environment(name='a')\n"
        "assert not {'envgraph.workspace', 'yaml', 'rattler'} & set(sys.modules)\n"
        "envgraph.Workspace\n"
        "assert not {'yaml', 'rattler', 'networkx', 'rich', 'pluggy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_values_go_to_other_processes(ws: Workspace, make: Make) -> None:
    made = ws.environments.create_or_update(make("train", "beta"))
    there = pickle.loads(pickle.dumps(made))
    assert there == made
    assert there.packages == made.packages


def test_what_a_progress_raises_comes_out_and_breaks_nothing(ws: Workspace, make: Make) -> None:
    def wrong(event: Event) -> None:
        if event.kind == "done":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ws.environments.create_or_update(make("train", "beta"), progress=wrong)
    assert ws.environments.list() == ()
    assert ws.environments.create_or_update(make("train", "beta")).version == "1"


def test_reserved_names_are_refused(ws: Workspace, make: Make) -> None:
    with pytest.raises(InputError) as caught:
        ws.environments.create_or_update(make("AzureML-mine", "beta"))
    assert [d.code for d in caught.value.diagnostics] == ["reserved-prefix"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Workspace.open(tmp_path / "gone")


def test_a_problem_can_be_pickled(ws: Workspace) -> None:
    with pytest.raises(InputError) as caught:
        ws.environments.create_or_update(Environment(name="a"))
    assert pickle.loads(pickle.dumps(caught.value.diagnostics)) == caught.value.diagnostics


def test_a_workspace_is_made_and_not_made_twice(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path / "Fraud Models (2)", store=tmp_path / "store")
    assert made.name == "fraud-models-2"
    assert made.folder == tmp_path / "Fraud Models (2)"
    assert Workspace.open(made.folder).id == made.id
    assert made.plan().environments == ()
    with pytest.raises(InputError) as caught:
        Workspace.create(made.folder)
    assert caught.value.diagnostics[0].code == "workspace-exists"
    with pytest.raises(InputError):
        Workspace.create(tmp_path / "other", name="Not Good")
    assert not (tmp_path / "other").exists()
    (made.folder / "envgraph.yaml").write_text("workspace: A\nx: 1\n")
    with pytest.raises(InputError) as caught:
        Workspace.open(made.folder)
    assert len(caught.value.diagnostics) == 2
