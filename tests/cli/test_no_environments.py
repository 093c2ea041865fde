"""A folder without environment files is never "no changes" and nothing else."""

from __future__ import annotations

import pytest

from tests.cli.conftest import TRAIN, Cli

VERBS = ("plan", "apply", "lock", "validate")
CONDA = "dependencies: [alpha]\n"


def said(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["environment.yml", "environment.yaml", "conda.yml"])
def test_without_a_workspace_file_it_is_an_error_that_names_the_file(
    verb: str, name: str, cli: Cli
) -> None:
    cli.write(name, CONDA)
    done = cli(verb)
    assert done.code == 1
    assert done.problem_code == "no-environments"
    assert f"did you mean `envgraph {verb} {name}`?" in said(done.err)
    assert "looked for environments/*.yml and environments/*.yaml in" in said(done.err)
    assert "No changes" not in done.out
    [problem] = cli(f"{verb} --json").problem["diagnostics"]
    assert (problem["code"], problem["severity"]) == ("no-environments", "error")


def test_nothing_at_all_is_an_error_that_says_how_to_begin(cli: Cli) -> None:
    for verb in VERBS:
        done = cli(verb)
        assert done.code == 1
        assert "or begin with envgraph init" in said(done.err)


@pytest.mark.parametrize("verb", VERBS)
def test_with_a_workspace_file_it_is_a_warning(verb: str, demo: Cli) -> None:
    (demo.folder / "environments/train.yml").unlink()
    for _ in range(2):
        done = demo(verb)
        assert done.code == 0
        assert "no environment file was found" in said(done.out + done.err)
    document = demo(f"{verb} --json").json
    found = document["diagnostics"] or document["files"][0]["diagnostics"]
    assert [(d["code"], d["severity"]) for d in found] == [("no-environments", "warning")]
    assert demo("plan --detailed-exitcode").code == 0
    demo.write("conda.yml", CONDA)
    name = f"-C {demo.folder.name}"
    done = demo(f"{name} {verb}", cwd=demo.folder.parent)
    assert f"did you mean `envgraph {verb} {name} conda.yml`?" in said(done.out + done.err)


def test_environments_elsewhere_are_looked_for_where_the_workspace_says(demo: Cli) -> None:
    text = (demo.folder / "envgraph.yaml").read_text()
    demo.write("envgraph.yaml", text + "environments: [envs/*/env.yml]\n")
    done = demo("plan")
    assert "looked for envs/*/env.yml in" in said(done.err)
    demo.write("envs/train/env.yml", TRAIN)
    assert "no-environments" not in demo("plan").err


def test_files_that_are_named_or_wrong_are_not_missing(demo: Cli) -> None:
    demo.write("environments/train.yml", "name: [\n")
    assert "no-environments" not in demo("plan").err
    (demo.folder / "environments/train.yml").unlink()
    demo.write("environment.yml", TRAIN)
    for verb in VERBS:
        assert "no-environments" not in demo(f"{verb} environment.yml").err
