"""Any file is recognised, and judged with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.model.config import WorkspaceConfig
from envgraph.spec import judge_file

JOB = "command: python x.py\nenvironment: {environment}\ncompute: local\n"


@pytest.mark.parametrize(
    ("name", "text", "kind", "verdict"),
    [
        ("e.yml", "name: a\nimage: x\n", "environment", "valid"),
        ("e.yml", "name: a\nimage: x\nfoo: 1\n", "environment", "invalid"),
        ("e.yml", "dependencies: [a]\n", "conda", "valid"),
        ("e.yml", "name: a\nimage: x\ndependencies: [a]\n", "environment", "invalid"),
        ("j.yml", JOB.format(environment="azureml:a:1"), "job", "recognised"),
        ("j.yml", JOB.format(environment="azureml:a/b"), "job", "invalid"),
        ("j.yml", JOB.format(environment="{image: x}"), "job", "recognised"),
        ("j.yml", JOB.format(environment="{image: x, imag: y}"), "job", "invalid"),
        ("j.yml", JOB.format(environment="file:gone.yml"), "job", "invalid"),
        ("j.yml", JOB.format(environment="[a]"), "job", "invalid"),
        ("j.yml", JOB.format(environment=""), "job", "invalid"),
        ("j.yml", JOB.format(environment="${{parent.inputs.e}}"), "job", "recognised"),
        ("j.yml", JOB.format(environment="{image: 'x/${{i}}'}"), "job", "invalid"),
        ("j.yml", "command: echo ${{inputs.x}}\nenvironment: azureml:a:1\n", "job", "recognised"),
        ("p.yml", "type: pipeline\njobs: {a: {environment: 'azureml:a:1'}}\n", "pipeline",
         "recognised"),
        ("p.yml", "jobs: {a: {inputs: {environment: [1]}}}\n", "pipeline", "recognised"),
        ("s.yml", "type: sweep\ntrial: {environment: 'azureml:a/b'}\n", "job", "invalid"),
        ("d.yml", "name: a\nendpoint_name: e\nenvironment: {image: x}\n", "deployment",
         "recognised"),
        ("d.yml", "endpoint_name: e\nenvironment:\n  image: {{x}}/y:1\n", "deployment", "invalid"),
        ("c.yml", "type: command_component\nenvironment: azureml:a:1\n", "component", "recognised"),
        ("a.yaml", "name: a\ntype: environment\nspec: spec.yaml\n", "asset", "invalid"),
        ("i.yaml", "image: {name: a, os: linux}\n", "image-config", "recognised"),
        ("MLmodel", "flavors: {python_function: {env: conda.yaml}}\n", "mlmodel", "recognised"),
        ("MLmodel", "import os\nfrom x import y\n\nclass A:\n    pass\n", "script", "recognised"),
        ("python_env.yaml", "python: 3.9.1\nbuild_dependencies: [pip]\ndependencies: [-r r.txt]\n",
         "python-env", "recognised"),
        ("requirements.txt", "six\n", "requirements", "valid"),
        ("requirements-dev.txt", "six=1\n", "requirements", "invalid"),
        ("l.lock", "# a\n@EXPLICIT\nhttps://h/a-1-0.conda#" + "0" * 32 + "\n", "explicit-lock",
         "recognised"),
        ("l.txt", "@EXPLICIT\nnonsense\n", "explicit-lock", "invalid"),
        ("conda-lock.yml", "version: 1\nmetadata:\n  content_hash: {}\npackage: []\n", "conda-lock",
         "recognised"),
        ("conda-lock.yml", "version: 1000\nmetadata:\n  content_hash: {}\n", "conda-lock",
         "invalid"),
        ("pixi.lock", "version: 6\nenvironments: {}\npackages: []\n", "pixi-lock", "recognised"),
        ("pixi.lock", "version: 99\nenvironments: {}\npackages: []\n", "pixi-lock", "invalid"),
        ("pixi.toml", "[project]\n", "pixi-manifest", "recognised"),
        ("pyproject.toml", "[project]\nname = 'x'\n", "pyproject", "recognised"),
        ("pyproject.toml", "[project\n", "unknown", "invalid"),
        ("envgraph.yaml", "workspace: a\n", "workspace", "valid"),
        ("envgraph.yaml", "workspace: a\nplatfrom: x\n", "workspace", "invalid"),
        ("other.yaml", "workspace: a\n", "workspace", "valid"),
        ("x.yml", "a: b\n", "unknown", "invalid"),
        ("x.yml", "- a\n", "unknown", "invalid"),
        ("x.yml", "a: {{b}}-{{c}}\n", "unknown", "invalid"),
        ("x.bin", "a: b\n", "unknown", "unknown"),
    ],
)  # fmt: skip
def test_kinds(tmp_path: Path, name: str, text: str, kind: str, verdict: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    judged = judge_file(path)
    assert (judged.kind, judged.verdict) == (kind, verdict), judged.diagnostics
    assert judged.title
    for d in judged.diagnostics:
        assert d.source is not None
        assert d.source.file


def test_environments_of_a_job_are_found(tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    (tmp_path / "e.yml").write_text("name: x\nimage: y\n")
    path.write_text(
        "type: pipeline\njobs:\n  a: {environment: 'azureml:a@latest'}\n"
        "  b:\n    task: {environment: {image: z}}\n"
        "  c: {component: {environment: 'file:./e.yml'}}\n"
    )
    judged = judge_file(path)
    assert judged.note == "3 environments found"
    assert [use.where for use in judged.environments] == [
        "jobs.a.environment", "jobs.b.task.environment", "jobs.c.component.environment",
    ]  # fmt: skip
    first, second, third = judged.environments
    assert first.reference is not None
    assert first.reference.label == "latest"
    assert second.inline is not None
    assert second.inline.image == "docker.io/library/z:latest"
    assert third.inline is not None
    assert third.inline.name == "x"
    assert str(tmp_path / "e.yml") in judged.inputs


def test_a_reserved_name_can_be_read_and_is_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    path.write_text("name: azureml-x\nimage: y\n")
    judged = judge_file(path)
    assert judged.verdict == "valid"
    assert [d.code for d in judged.diagnostics] == ["reserved-prefix"]
    config = WorkspaceConfig("w", "1", str(tmp_path), reserved_prefixes=())
    assert judge_file(path, config).diagnostics == ()


def test_a_base_that_is_not_there_is_only_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    path.write_text("name: x\nimage: oci:base\n")
    judged = judge_file(path)
    assert judged.verdict == "valid"
    [warning] = judged.diagnostics
    assert (warning.code, warning.severity) == ("missing-image", "warning")
    assert warning.source is not None
    assert (warning.source.line, warning.source.column) == (2, 8)
    (tmp_path / "base").mkdir()
    assert judge_file(path).diagnostics == ()
    job = tmp_path / "j.yml"
    job.write_text(JOB.format(environment="{image: 'docker-archive:gone.tar'}"))
    assert [d.code for d in judge_file(job).diagnostics] == ["missing-image"]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    judged = judge_file(tmp_path / "gone.yml")
    assert (judged.kind, judged.verdict) == ("unreadable", "invalid")
    assert judge_file(tmp_path).diagnostics[0].code == "not-a-file"
