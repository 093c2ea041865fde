"""Verbs with their flags, on a small workspace: what they do and what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envgraph.cli.run import run_command
from envgraph.run import container
from envgraph_store import Store
from tests.cli.conftest import TRAIN, Cli


def test_files_are_found_from_the_workspace_folder_and_from_here(demo: Cli) -> None:
    elsewhere = demo.folder.parent
    inside = demo(f"-C {demo.folder} validate environments/train.yml", cwd=elsewhere)
    assert inside.code == 0, inside.err
    name = demo.folder.name
    outside = demo(f"validate -C {name} {name}/environments/train.yml", cwd=elsewhere)
    assert outside.code == 0, outside.err
    assert demo(f"plan -C {name}", cwd=elsewhere).code == 0


def test_the_store_flag_wins_over_the_variable(demo: Cli, tmp_path: Path) -> None:
    demo(f"apply --quiet --store {tmp_path}/other")
    assert demo("list").out == ""
    assert "train" in demo(f"--store {tmp_path}/other list").out
    assert "train" in demo("list", ENVGRAPH_STORE=f"{tmp_path}/other").out


def test_detailed_exitcode(demo: Cli) -> None:
    assert demo("plan").code == 0
    assert demo("plan --detailed-exitcode").code == 2
    assert demo("plan --detailed-exitcode --json").code == 2
    assert demo("apply --quiet").code == 0
    assert demo("plan --detailed-exitcode").code == 0
    demo.write("environments/bad.yml", "name: bad\nimage: 3x:y:z\n")
    assert demo("plan --detailed-exitcode").code == 1
    assert demo("plan").code == 1


def test_plan_changes_nothing(demo: Cli) -> None:
    demo("plan")
    assert not (demo.folder / "locks").exists()
    assert demo("list --json").json["environments"] == []


def test_target_and_replace(demo: Cli) -> None:
    demo.write("environments/other.yml", TRAIN.replace("name: train", "name: other"))
    [only] = demo("plan --json --target other").json["environments"]
    assert only["name"] == "other"
    demo("apply --quiet")
    steps = demo("plan --json --replace beta").json["steps"]
    assert {step["name"] for step in steps if step["kind"] == "conda-package"} == {"beta"}
    wrong = demo("plan --replace bta")
    assert wrong.code == 1
    assert "did you mean beta?" in wrong.err
    assert demo("apply --target nowhere").code == 1


def test_two_applies_exclude_each_other(demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- alpha"))
    with (
        Store.open(Path(demo.environment["ENVGRAPH_STORE"])) as store,
        store.file_lock("workspace-12345678", purpose="the test's own apply"),
    ):
        done = demo("apply --lock-timeout 0")
        assert done.code == 11
        assert f"process {os.getpid()}" in " ".join(done.err.split())
        assert "the test's own apply" in " ".join(done.err.split())
        done = demo("apply --lock-timeout 0 --json")
        assert done.code == 11
        assert done.problem["exit"] == 11
        assert done.problem["diagnostics"][0]["code"] == "locked"
        assert demo("plan").code == 0
    assert demo("apply").code == 0


def test_an_update_of_a_package_that_no_lock_holds_is_an_error(demo: Cli) -> None:
    demo.write("environments/other.yml", TRAIN.replace("train", "other").replace("beta", "gamma"))
    assert demo("lock --update beta gamma").code == 0
    done = demo("lock --update beta,btea")
    assert done.code == 1
    assert "no lock here holds a package that is named 'btea'" in " ".join(done.err.split())


def test_a_store_that_others_may_write_to_is_refused(demo: Cli) -> None:
    demo("apply --quiet")
    folder = Path(demo.environment["ENVGRAPH_STORE"])
    folder.chmod(0o777)
    done = demo("list")
    assert done.code == 1
    assert "store-unsafe" in done.err
    assert demo("doctor").code == 1


def test_a_store_of_a_newer_version_is_refused(demo: Cli) -> None:
    demo("apply --quiet")
    marker = Path(demo.environment["ENVGRAPH_STORE"]) / "envgraph-store.json"
    document = json.loads(marker.read_text())
    number = next(key for key, value in document.items() if isinstance(value, int))
    marker.chmod(0o644)
    marker.write_text(json.dumps({**document, number: 999}))
    done = demo("plan --no-memo")
    assert done.code == 1
    assert "newer" in done.err


def test_run_passes_arguments_exit_code_and_streams(demo: Cli) -> None:
    demo.write("script.sh", 'echo "$MODE $SETTINGS_MODE $1"; cat; exit 9\n')
    assert demo("apply --quiet").code == 0
    done = subprocess.run(
        [
            sys.executable,
            *["-m", "envgraph", "run", "train", "--", "/bin/sh", "script.sh", "--json"],
        ],
        cwd=demo.folder,
        env=demo.environment,
        input="input",
        capture_output=True,
        text=True,
    )
    assert done.stdout == "fast fast --json\ninput"
    assert done.returncode == 9


def test_run_fetches_archives_that_the_store_lost(demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    for archive in (Path(demo.environment["ENVGRAPH_STORE"]) / "packages").iterdir():
        archive.unlink()
    done = demo("run train -- true")
    assert done.code == 0, done.err
    assert "fetching beta 1.0" in done.err


@pytest.mark.parametrize("verb", ["run train -v -- /bin/true", "shell train -v"])
def test_an_edited_prefix_stays_until_it_is_renewed(verb: str, demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    done = demo(verb)
    assert done.code == 0, done.err
    [prefix] = (demo.folder.parent / "home/.cache/envgraph/prefixes").glob("*/conda-meta/..")
    assert f"prefix {prefix.resolve()} (made now)" in done.err
    (prefix / "mine").write_text("edited")
    again = demo(verb)
    assert f"prefix {prefix.resolve()} (made before; --renew makes it anew)" in again.err
    assert (prefix / "mine").exists()
    renewed = demo(verb.replace("-v", "-v --renew"))
    assert renewed.code == 0
    assert "(made now)" in renewed.err
    assert not (prefix / "mine").exists()
    assert "prefix" not in demo(verb.replace("-v", "")).err


@pytest.mark.parametrize("flags", [(), ("--renew",)])
def test_renew_of_an_unpacked_image(
    flags: tuple[str, ...], demo: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert demo("apply --quiet").code == 0
    asked: list[bool] = []
    monkeypatch.setattr(container, "find_runtime", lambda: "none")
    monkeypatch.setattr(container, "prepare_image", lambda *_, renew, **__: asked.append(renew))
    monkeypatch.setattr(container, "run_in_image", lambda *_, **__: 7)
    words = ["run", "train", "--container", *flags, "-C", str(demo.folder), "--", "true"]
    assert run_command([*words[:3], "--store", demo.environment["ENVGRAPH_STORE"], *words[3:]]) == (
        7,
        False,
    )
    assert asked == [bool(flags)]


def test_what_is_said_of_an_environment_that_is_refused_is_true(demo: Cli) -> None:
    given = TRAIN.replace("image: scratch", 'image: scratch\nversion: "1"')
    demo.write("environments/train.yml", given)
    assert demo("apply --quiet").code == 0
    demo.write("environments/train.yml", given.replace("- beta", "- alpha"))
    for verb in ("plan", "apply"):
        done = demo(verb)
        assert (done.code, done.out) == (1, "Nothing could be planned: see the errors.\n")
        assert "version-taken" in done.err
    demo.write("environments/other.yml", TRAIN.replace("name: train", "name: other"))
    done = demo("plan")
    assert done.code == 1
    assert "train" not in done.out
    assert done.out.endswith("Apply would do this and no more: what has errors is left out.\n")
    assert demo("apply --quiet").code == 1
    done = demo("plan")
    assert done.code == 1
    assert done.out == "No changes. 1 environment is up to date.\nWhat has errors is left out.\n"


def test_only_the_lockfile_is_missing(demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    (demo.folder / "locks/train.conda-lock.yml").unlink()
    assert "= train:1  registered; its lockfile will be written\n" in demo("plan").out
    assert demo("apply --quiet").code == 0
    assert (demo.folder / "locks/train.conda-lock.yml").is_file()
    assert demo("plan").out == "No changes. 1 environment is up to date.\n"


def test_a_new_image_of_a_version_is_no_row_of_its_own(demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- alpha"))
    assert demo("apply --quiet").code == 0
    text = (demo.folder / "envgraph.yaml").read_text()
    demo.write("envgraph.yaml", text.replace("{bytecode: none}", "{compression: gzip}"))
    assert demo("apply --quiet").code == 0
    records = demo("list --all --json").json["environments"]
    assert [(r["version"], r["sequence"]) for r in records] == [("1", 1), ("2", 2), ("2", 3)]
    assert records[1]["image"] != records[2]["image"]
    rows = [line.split() for line in demo("list --all").out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["train", "1"], ["train", "2"]]
    assert records[2]["image"].startswith(f"sha256:{rows[1][3]}")
    [newest] = demo("list --json").json["environments"]
    assert newest == records[2]


def test_run_of_a_command_that_is_not_there(demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    done = demo("run train -- nonesuch")
    assert done.code == 1
    assert "nonesuch: no such command in the environment" in done.err


def test_svg_needs_graphviz(demo: Cli, tmp_path: Path) -> None:
    assert demo("apply --quiet").code == 0
    done = demo("graph --format svg", PATH="/nowhere")
    assert done.code == 1
    assert "no-graphviz" in done.err
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "dot").write_text("#!/bin/sh\necho '<svg/>'\n")
    (fake / "dot").chmod(0o755)
    assert demo("graph --format svg", PATH=f"{fake}:/usr/bin:/bin").out == "<svg/>\n"
    (fake / "dot").write_text("#!/bin/sh\necho bad input >&2; exit 1\n")
    done = demo("graph --format svg", PATH=f"{fake}:/usr/bin:/bin")
    assert done.code == 1
    assert "bad input" in done.err


@pytest.mark.parametrize(
    "line",
    ["plan --out DIR/x.plan", "graph -o DIR/x", "export train -f explicit -o DIR/x",
     "export train -f oci -o DIR/x/y"],
)  # fmt: skip
def test_a_file_that_cannot_be_written_is_one_clear_error(line: str, demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    done = demo(line.replace("DIR", "nowhere"))
    assert done.code == 1
    assert "error: " in done.err
    assert "bug" not in done.err


def test_names_that_are_not_text(demo: Cli) -> None:
    done = demo("show \udcff")
    assert done.code == 1
    assert "not text in UTF-8" in done.err


def test_init_keeps_what_is_there(cli: Cli) -> None:
    cli.write("environments/example.yml", "name: mine\nimage: scratch\n")
    done = cli("init --json")
    assert done.code == 0
    assert "environments/example.yml" not in done.json["created"]
    assert (cli.folder / "environments/example.yml").read_text().startswith("name: mine")
    assert cli("init --json").problem["diagnostics"][0]["code"] == "workspace-exists"


def test_init_writes_a_workspace_that_validates_and_schemas_that_are_json(cli: Cli) -> None:
    assert cli("init new/place").code == 0
    folder = cli.folder / "new/place"
    assert cli("validate", cwd=folder).out == "2 files: no problems.\n"
    for schema in (folder / ".envgraph/schema").iterdir():
        assert json.loads(schema.read_text())["$schema"]


def test_init_writes_the_schemas_of_this_version_over_others(cli: Cli) -> None:
    assert cli("init").code == 0
    assert cli("init --schemas").out == "The schemas are those of this version.\n"
    old = cli.folder / ".envgraph/schema/workspace.json"
    now = old.read_text()
    old.write_text("{}")
    assert cli("init --schemas --json").json["created"] == [".envgraph/schema/workspace.json"]
    assert old.read_text() == now
    assert cli("init --schemas --name x").code == 1


def test_init_gives_every_workspace_its_own_id(cli: Cli) -> None:
    for name in ("a", "b"):
        assert cli(f"init {name}").code == 0
    first, second = ((cli.folder / n / "envgraph.yaml").read_text() for n in ("a", "b"))
    assert first.splitlines()[2] != second.splitlines()[2]
    assert cli("init c --name Not_Good").code == 1


def test_validate_takes_folders_and_globs(demo: Cli) -> None:
    demo.write("deep/er/env.yaml", TRAIN)
    demo.write("deep/.git/env.yaml", "not: [valid")
    assert demo("validate deep").out == "1 file: no problems.\n"
    assert demo("validate **/*.yaml").code == 1
    assert demo("validate deep/e*/*.yaml --json").json["summary"]["files"] == 1
    assert demo("validate nothing-*.yml").problem_code == "no-files"


def test_validate_judges_files_from_the_wild(cli: Cli, corpus: Path) -> None:
    done = cli(f"validate --json {corpus}")
    assert done.code == 1
    document = done.json
    assert document["summary"]["files"] == len(document["files"]) > 500
    assert {f["valid"] for f in document["files"]} == {True, False}
    for file in document["files"]:
        assert file["kind"]
        assert file["valid"] is not any(d["severity"] == "error" for d in file["diagnostics"])
        assert all(d["code"] and d["summary"] for d in file["diagnostics"])
    assert "bug" not in {d["code"] for d in done.problem["diagnostics"]}


def test_validate_of_odd_files_ends_and_says_why(cli: Cli) -> None:
    os.mkfifo(cli.folder / "fifo.yml")
    (cli.folder / "loop.yml").symlink_to("loop.yml")
    (cli.folder / "bytes.yml").write_bytes(bytes(range(256)))
    cli.write("deep.yml", "a: " + "[" * 20_000)
    cli.write("escape.yml", 'name: "evil\\e[31m"\nimage: scratch\n')
    done = cli("validate .")
    assert done.code == 1
    assert "5 files: 0 valid, 5 with errors" in done.out
    assert "\x1b" not in done.out
