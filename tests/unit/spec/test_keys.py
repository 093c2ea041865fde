"""The tables of keys: what the README says is what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.model.identity import definition_digest, runtime_digest
from envgraph.spec import environment_file, judge_file, load_environment
from envgraph.spec.job_files import load_environments
from envgraph.spec.keys import ENVIRONMENT, USERS, keys_of, markdown

README = Path(environment_file.__file__).with_name("README.md")
PLAIN = "name: e\nimage: scratch\nconda_file: {channels: [c], dependencies: [a]}\n"
VALUES = {
    "version": "'7'", "description": "d", "tags": "{a: b}", "properties": "{a: b}",
    "inference_config": "{liveness_route: {port: 1, path: /}, readiness_route: {port: 1, path: /},"
    " scoring_route: {port: 1, path: /}}",
    "docker_steps": "[RUN true]", "environment_variables": "{A: b}", "platforms": "[linux-aarch64]",
    "os_type": "linux", "datastore": "azureml:d", "auto_delete_setting": "{condition: c, value: 1}",
}  # fmt: skip


def test_the_readme_holds_the_tables() -> None:
    text = README.read_text(encoding="utf-8")
    inside = text.partition("<!-- keys -->\n")[2].partition("<!-- end -->")[0]
    assert inside == markdown(), "run: python -c 'from envgraph.spec.keys import markdown; …'"


def test_every_key_of_an_environment_file_is_in_the_table() -> None:
    assert keys_of(ENVIRONMENT) == environment_file.KNOWN


@pytest.mark.parametrize("key", sorted(keys_of(ENVIRONMENT) - {"name", "image", "conda_file",
                                                               "build"}))  # fmt: skip
def test_what_the_table_says_of_an_environment_is_so(tmp_path: Path, key: str) -> None:
    def load(text: str):  # type: ignore[no-untyped-def]
        path = tmp_path / "e.yml"
        path.write_text(text)
        result = load_environment(path)
        assert result.spec is not None, result.diagnostics
        return result

    [says] = [what for keys, what in ENVIRONMENT.items() if key in keys.split(", ")]
    plain, changed = load(PLAIN).spec, load(PLAIN + f"{key}: {VALUES.get(key, 'x')}\n")
    same_definition = definition_digest(plain) == definition_digest(changed.spec)
    same_runtime = runtime_digest(plain) == runtime_digest(changed.spec)
    assert same_definition is ("part of the definition" not in says)
    assert same_runtime is ("part of the runtime" not in says)
    assert ("cloud-only" in [d.code for d in changed.diagnostics]) is ("with a warning" in says)
    if says.startswith("ignored"):
        assert changed.spec == plain


@pytest.mark.parametrize("key", sorted(
    key for keys, what in USERS.items() if what.startswith("ignored") for key in keys.split(", ")
))  # fmt: skip
def test_what_is_ignored_in_a_job_changes_no_environment(tmp_path: Path, key: str) -> None:
    def load(text: str):  # type: ignore[no-untyped-def]
        path = tmp_path / "job.yml"
        path.write_text(text)
        return load_environments(path)

    inside = "environment:\n  image: scratch\n"
    head = "" if key == "command" else "command: x\n"
    plain = load("command: x\n" + inside)
    changed = load(head + f"{key}: {'command' if key == 'type' else 'x'}\n" + inside)
    assert changed.diagnostics == ()
    assert changed.specs == plain.specs
    assert len(changed.specs) == 1


def test_a_mistyped_key_is_told(tmp_path: Path) -> None:
    path = tmp_path / "job.yml"
    path.write_text("command: x\nenviroment: azureml:train:1\nenvironment: azureml:train:1\n")
    [problem] = judge_file(path).diagnostics
    assert (problem.code, problem.severity) == ("unknown-key", "warning")
    assert "environment" in problem.hint
    assert problem.source is not None
    assert problem.source.line == 2
