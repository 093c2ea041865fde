"""Any file is recognised, and judged with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.model.config import WorkspaceConfig
from envgraph.spec import judge_file, load_environment

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
        ("ci.yml", "name: ci\non: push\njobs: {a: {steps: []}}\n", "unknown", "invalid"),
        ("ci.yml", "version: 2.1\njobs: {a: {steps: []}}\nworkflows: {}\n", "unknown", "invalid"),
        ("recipe.yaml", "package: {name: a}\nbuild: {number: 0}\n", "unknown", "invalid"),
        (".readthedocs.yaml", "version: 2\nbuild: {os: u}\n", "unknown", "invalid"),
        ("e.yml", "name: a\nbuild: {number: 0}\n", "environment", "invalid"),
        ("e.yml", "build: .\n", "environment", "invalid"),
        ("f.yaml", "inputs: {}\nnodes: [{name: a}]\nenvironment: {x: r.txt}\n", "flow",
         "recognised"),
        ("w.yml", "$schema: https://azuremlschemas.azureedge.net/latest/workspace.schema.json\n",
         "azureml", "recognised"),
        ("t.yml", "type: finetuning\nmodel: {}\n", "azureml", "recognised"),
        ("m.yml", "name: a\ntrigger: {}\ncreate_monitor: {}\n", "schedule", "recognised"),
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


def test_a_prompt_flow_among_components_is_left_alone(tmp_path: Path) -> None:
    flow = "nodes: [{name: a}]\noutputs: {}\nenvironment: {python_requirements_txt: r.txt}\n"
    (tmp_path / "flow.dag.yaml").write_text(flow)
    path = tmp_path / "p.yml"
    path.write_text("type: pipeline\njobs:\n  a:\n    component: ./flow.dag.yaml\n")
    judged = judge_file(path)
    assert [(d.code, d.severity) for d in judged.diagnostics] == [("flow-environment", "warning")]
    assert judged.diagnostics[0].source is not None
    assert judged.diagnostics[0].source.line == 4


def test_a_reserved_name_inside_a_job_is_a_warning_as_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "j.yml"
    path.write_text(JOB.format(environment="{name: azureml-Mine, image: x}"))
    [problem] = judge_file(path, WorkspaceConfig("w", "1", str(tmp_path))).diagnostics
    assert (problem.code, problem.severity) == ("reserved-prefix", "warning")
    free = WorkspaceConfig("w", "1", str(tmp_path), reserved_prefixes=())
    assert judge_file(path, free).diagnostics == ()


def test_an_environment_by_name_and_version_is_told_to_be_a_reference(tmp_path: Path) -> None:
    path = tmp_path / "j.yml"
    path.write_text(JOB.format(environment="{name: a, version: 1}"))
    [problem] = judge_file(path).diagnostics
    assert problem.code == "no-image"
    assert "azureml:NAME:VERSION" in problem.hint


def test_a_foreign_file_is_one_problem_where_an_environment_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "ci.yml"
    path.write_text("name: ci\non: push\nconcurrency: 1\njobs: {a: {steps: []}}\n")
    assert [d.code for d in load_environment(path).diagnostics] == ["unknown-kind"]
    path.write_text("name: a\nimag: x\n")
    assert "unknown-key" in [d.code for d in load_environment(path).diagnostics]


ASSET = {
    "asset.yaml": "name: a\nversion: {version}\ntype: environment\nspec: spec.yaml\n"
    "extra_config: environment.yaml\n",
    "environment.yaml": "image:\n  name: c/d\n  context: {dir: context}\n"
    "  publish: {location: mcr}\n",
    "context/Dockerfile": "FROM scratch\n",
}


def asset(folder: Path, version: str, spec: str) -> Path:
    (folder / "context").mkdir()
    for name, text in ASSET.items():
        (folder / name).write_text(text.replace("{version}", version))
    path = folder / "spec.yaml"
    path.write_text('name: "{{asset.name}}"\nversion: "{{asset.version}}"\n' + spec)
    return path


IMAGE = 'image: "{{image.publish.hostname}}/{{image.name}}:{{asset.version}}"\n'


def test_an_asset_knows_where_its_image_is_published(tmp_path: Path) -> None:
    loaded = load_environment(asset(tmp_path, "7", IMAGE))
    assert loaded.spec is not None
    assert (loaded.spec.image, loaded.spec.version) == ("mcr.microsoft.com/c/d:7", "7")


def test_a_version_that_is_counted_up_is_no_tag(tmp_path: Path) -> None:
    loaded = load_environment(asset(tmp_path, "auto", IMAGE))
    [problem] = loaded.diagnostics
    assert (problem.code, problem.source and problem.source.line) == ("template", 3)
    assert "asset.version" in problem.summary


def test_a_context_at_this_repository_is_the_one_beside_the_file(tmp_path: Path) -> None:
    here = "{{asset.repo.url}}#{{asset.repo.commit_hash}}:{{asset.repo.build_context.path}}"
    loaded = load_environment(asset(tmp_path, "auto", f'build:\n  path: "{here}"\n'))
    assert loaded.spec is not None, loaded.diagnostics
    assert loaded.spec.build is not None
    assert loaded.spec.build.tree is not None
    assert loaded.spec.version is None
