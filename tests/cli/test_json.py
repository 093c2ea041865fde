"""What programs read: one object or JSON lines on stdout, one error object on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TRAIN, Cli

ERROR = {"type", "format_version", "exit", "diagnostics"}
DIAGNOSTIC = {"code", "severity", "summary", "detail", "source", "hint"}
STEP = {"key", "kind", "name", "action", "reason", "bytes", "environments"}
RESULT = {
    "format_version", "type", "environments", "built", "reused", "pulled", "pushed",
    "bytes_written", "bytes_moved", "borrowed", "seconds",
    "diagnostics",
}  # fmt: skip


@pytest.fixture(scope="module")
def applied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A workspace with one version of one environment; tests only read it."""
    channel = request.getfixturevalue("demo_channel")
    folder = tmp_path_factory.mktemp("applied")
    (folder / "work").mkdir()
    from tests.cli.conftest import WORKSPACE

    cli = Cli(
        folder / "work",
        {"HOME": str(folder), "PATH": "/usr/bin:/bin", "ENVGRAPH_STORE": str(folder / "store")},
        {},
    )
    cli.write("envgraph.yaml", WORKSPACE.format(url=channel.url))
    cli.write("environments/train.yml", TRAIN)
    done = cli("apply --json")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert {line["type"] for line in lines[:-1]} == {"event"}
    assert {"start", "done", "progress"} <= {line["event"] for line in lines[:-1]}
    check_result(lines[-1])
    assert lines[-1]["built"] == 4
    return cli


def check_result(document: Any) -> None:
    assert document["type"] == "result"
    assert set(document) == RESULT
    [environment] = document["environments"]
    assert set(environment) == {"name", "version", "definition", "lock", "image", "image_name"}


def test_plan(applied: Cli) -> None:
    document = applied("plan --json").json
    assert document["format_version"] == "1"
    assert document["changes"] is False
    assert document["steps"] == []
    assert set(document["summary"]) == {
        "keep", "resolve", "pull", "build", "push", "tag", "layers_written",
    }  # fmt: skip
    [environment] = document["environments"]
    assert {
        "name",
        "version",
        "kind",
        "definition",
        "lock",
        "image",
        "image_name",
        "base",
        "action",
    } <= set(environment)
    assert environment["image"].startswith("sha256:")
    assert set(environment["base"]) == {"reference", "digest", "previous", "available"}
    assert {"lock", "image", "base"} <= set(environment["platforms"]["linux-64"])


def test_plan_with_all_steps(applied: Cli) -> None:
    document = applied("plan --json --all-steps --no-memo").json
    assert all(set(step) == STEP for step in document["steps"])
    assert sum(document["summary"][a] for a in ("keep", "build")) >= 4
    assert {step["kind"] for step in document["steps"]} >= {"conda-package", "image", "version"}


def test_the_quick_answer_is_the_full_one(applied: Cli) -> None:
    full = applied("plan --json --no-memo")
    assert applied("plan --json").out == full.out
    for flags in ("", " --quiet", " --offline", " --no-color", " --detailed-exitcode"):
        quick, slow = applied(f"plan{flags}"), applied(f"plan --no-memo{flags}")
        assert (quick.out, quick.err, quick.code) == (slow.out, slow.err, slow.code)


def test_apply_of_nothing(applied: Cli) -> None:
    [line] = applied("apply --json").out.splitlines()
    document = json.loads(line)
    check_result(document)
    assert document["built"] == 0


def test_list(applied: Cli) -> None:
    [environment] = applied("list --json").json["environments"]
    assert environment["name"] == "train"
    assert environment["kind"] == "system-managed"
    assert environment["image_name"].startswith("envgraph/envgraph_")


def test_show(applied: Cli) -> None:
    document = applied("show train --json").json
    assert {
        "name", "version", "kind", "definition", "lock", "image", "image_name", "base", "packages",
        "layers", "labels", "archived", "created", "parent", "used_by", "format_version",
    } <= set(document)  # fmt: skip
    assert {"manager", "name", "version", "build", "subdir", "sha256", "size", "layer"} <= set(
        document["packages"][0]
    )
    assert {"digest", "size", "packages"} <= set(document["layers"][0])
    assert document["labels"] == ["latest"]


def test_show_by_definition_digest_and_by_azure_reference(applied: Cli) -> None:
    document = applied("show train --json").json
    for reference in (document["definition"], "azureml:train:1", "train@latest", "azureml:train"):
        assert applied(f"show {reference} --json").json["version"] == "1"


def test_lock(applied: Cli) -> None:
    document = applied("lock --check --json").json
    assert document["good"] is True
    [entry] = document["locks"]
    assert set(entry) >= {"name", "path", "status", "changes"}
    assert entry["status"] == "unchanged"


def test_validate(applied: Cli) -> None:
    document = applied("validate --json").json
    assert document["summary"] == {"files": 2, "invalid": 0, "errors": 0, "warnings": 0}
    assert [item["kind"] for item in document["files"]] == ["workspace", "environment"]


def test_graph_and_export(applied: Cli) -> None:
    document = applied("graph --format json").json
    keys = {node["key"] for node in document["nodes"]}
    assert all(need in keys for node in document["nodes"] for need in node["needs"])
    assert set(document["environments"]) == {"train:1"}
    assert applied("graph --json").json == document
    assert applied("graph --json --format dot").json["text"].startswith("digraph")
    assert "@EXPLICIT" in applied("export train --format explicit --json").json["text"]


def test_export_of_the_image(applied: Cli, tmp_path: Path) -> None:
    document = applied(f"export train --format oci --json -o {tmp_path}/x.tar").json
    assert 0 < document["bytes"] <= (tmp_path / "x.tar").stat().st_size
    assert document["image"] == applied("show train --json").json["image"]


def test_store(applied: Cli) -> None:
    verify = applied("store verify --json").json
    assert verify["checked"] > 0
    assert verify["bad"] == []
    gc = applied("store gc --dry-run --json").json
    assert gc["removed"] == []
    assert gc["dry_run"] is True
    usage = applied("store usage --json").json
    assert usage["bytes"] == sum(area["bytes"] for area in usage["areas"].values())


def test_doctor(applied: Cli) -> None:
    document = applied("doctor --json").json
    assert document["good"] is True
    assert all(set(c) == {"name", "status", "summary", "hint"} for c in document["checks"])


def test_version(applied: Cli) -> None:
    assert set(applied("--version --json").json) == {"format_version", "envgraph", "python"}


@pytest.mark.parametrize(
    "line",
    [
        "show nothing", "plan nowhere.yml", "plan --nonsense", "nonsense", "run train",
        "export train --format nonsense", "store", "lock nowhere.yml", "validate nowhere.yml",
        "", "apply nowhere.yml", "-C nowhere list", "graph nothing", "run nothing -- true",
    ],
)  # fmt: skip
def test_every_error_is_one_object_on_stderr(line: str, applied: Cli) -> None:
    done = applied(f"--json {line}")
    assert done.code == 1
    [text] = done.err.splitlines()
    error = json.loads(text)
    assert set(error) == ERROR
    assert (error["type"], error["exit"]) == ("error", 1)
    assert error["diagnostics"]
    assert all(set(d) == DIAGNOSTIC for d in error["diagnostics"])
    for document in done.out.splitlines():
        json.loads(document)


def test_warnings_of_an_answer_are_in_it(demo: Cli) -> None:
    done = demo("plan --json")
    assert done.err == ""
    assert [d["severity"] for d in done.json["diagnostics"]] == ["warning"]
    assert demo("lock --json").json["format_version"] == "1"
