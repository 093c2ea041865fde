"""Environments inside jobs, pipelines, components and deployments: planned and built."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.errors import NotFoundError
from envgraph.plan.plan import Plan
from envgraph.spec import judge_file
from envgraph.spec.job_files import load_environments
from tests.exchange import Machine, good
from tests.services import Channel

INLINE = """\
    image: scratch
    conda_file:
      channels: [demo]
      dependencies: [{packages}]
"""


@pytest.fixture
def machine(tmp_path: Path, demo_channel: Channel) -> Machine:
    return Machine(tmp_path / "desk", demo_channel.url)


def write(machine: Machine, name: str, text: str) -> Path:
    path = machine.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def job(packages: str = "alpha", more: str = "") -> str:
    inline = INLINE.format(packages=packages).replace("    ", "  ", 1).replace("\n    ", "\n  ")
    return f"command: python train.py\nenvironment:\n{inline}{more}"


def plan(machine: Machine, *files: Path) -> Plan:
    with machine.open() as workspace:
        return workspace.plan(files)


def apply(machine: Machine, *files: Path) -> list[str]:
    with machine.open() as workspace:
        result = good(workspace.apply(workspace.plan(files)))
    return [str(item["version"]) for item in result.environments]


def listed(machine: Machine) -> list[str]:
    with machine.open() as workspace:
        return [record.environment for record in workspace.list_environments()]


def errors(planned: Plan) -> list[str]:
    return [d.code for d in planned.diagnostics if d.severity == "error"]


def test_an_inline_environment_is_anonymous(machine: Machine) -> None:
    [version] = apply(machine, write(machine, "job.yml", job()))
    assert listed(machine) == []
    with machine.open() as workspace:
        record = workspace.find(f"sha256:{version}")
        assert str(record.definition) == f"sha256:{version}"
        assert record.anonymous
        assert workspace.find(f"{record.environment}:{version[:12]}") == record
        assert workspace.find(record.environment) == record
        assert workspace.store.verify().bad == ()


def test_two_jobs_that_ask_for_the_same_share_one(machine: Machine) -> None:
    one = write(machine, "one.yml", job())
    other = write(machine, "other.yml", job(more="display_name: other\n"))
    assert len(apply(machine, one, other)) == 1
    assert not plan(machine, other).changes
    assert len(apply(machine, write(machine, "third.yml", job("gamma")))) == 1


STEP = """\
  {step}:
    command: python {step}.py
    environment:
      name: shared
      image: scratch
      conda_file: {{channels: [demo], dependencies: [{packages}]}}
"""


def test_steps_of_a_pipeline_may_name_the_same_one_twice(machine: Machine) -> None:
    steps = STEP.format(step="a", packages="alpha") + STEP.format(step="b", packages="alpha")
    one = write(machine, "one.yml", "type: pipeline\njobs:\n" + steps)
    other = write(machine, "other.yml", "type: pipeline\njobs:\n" + steps)
    assert apply(machine, one, other) == ["1"]
    assert not plan(machine, one).changes
    more = write(machine, "more.yml", one.read_text().replace("alpha", "gamma"))
    assert errors(plan(machine, one, more)) == ["duplicate-name"], "which of them is meant?"


def test_two_of_one_name_in_a_file_are_a_problem_and_none_is_lost(machine: Machine) -> None:
    steps = STEP.format(step="a", packages="alpha") + STEP.format(step="b", packages="gamma")
    path = write(machine, "one.yml", "type: pipeline\njobs:\n" + steps)
    [problem] = judge_file(path).diagnostics
    assert (problem.code, problem.severity) == ("duplicate-name", "error")
    assert problem.source is not None
    assert problem.source.line == 12
    assert "(line 6)" in problem.summary
    planned = plan(machine, path)
    assert errors(planned) == ["duplicate-name"]
    assert planned.environments == ()


def test_how_it_runs_is_part_of_which_anonymous_one_it_is(machine: Machine) -> None:
    plain = write(machine, "plain.yml", job())
    loud = write(machine, "loud.yml", job(more="  environment_variables: {LOUD: '1'}\n"))
    assert len(set(apply(machine, plain, loud))) == 2


def test_a_pipeline_with_a_component_a_sweep_and_a_reference(machine: Machine) -> None:
    write(
        machine, "parts/component.yml",
        "name: part\ntype: command\ncommand: echo\n"
        "environment:\n  image: scratch\n  conda_file: ../conda.yml\n",
    )  # fmt: skip
    write(machine, "conda.yml", "channels: [demo]\ndependencies: [gamma]\n")
    machine.environment("train", "beta")
    pipeline = write(
        machine, "pipeline.yml",
        "type: pipeline\njobs:\n"
        "  first:\n    type: command\n    command: echo\n    environment:\n"
        + INLINE.format(packages="alpha").replace("    ", "      ")
        + "  second:\n    type: command\n    component: ./parts/component.yml\n"
        "  third:\n    type: sweep\n    trial: file:./parts/component.yml\n"
        "  fourth:\n    type: command\n    command: echo\n    environment: azureml:train@latest\n",
    )  # fmt: skip
    planned = plan(machine, pipeline)
    assert planned.applyable, planned.diagnostics
    names = [change.target.name for change in planned.environments]
    assert len(names) == 3
    assert "train" in names
    assert len(apply(machine, pipeline)) == 3
    assert listed(machine) == ["train"]


def test_three_broken_environments_are_all_reported_and_nothing_is_registered(
    machine: Machine,
) -> None:
    text = "type: pipeline\njobs:\n"
    for name, line in (
        ("good", "image: scratch"),
        ("one", "image: 'not a reference!'"),
        ("two", "imagee: scratch"),
        ("three", "conda_file: missing.yml\n      image: scratch"),
    ):
        text += f"  {name}:\n    command: echo\n    environment:\n      {line}\n"
    planned = plan(machine, write(machine, "pipeline.yml", text))
    assert not planned.applyable
    places = {d.source.line for d in planned.diagnostics if d.source and d.severity == "error"}
    assert {10, 14, 18} <= {line for line in places if line is not None}, planned.diagnostics
    assert planned.environments == ()
    with machine.open() as workspace:
        result = workspace.apply(workspace.plan([machine.folder / "pipeline.yml"]))
        assert result.environments == ()
    assert listed(machine) == []


ARM = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/{}"
    "/environments/train/versions/1"
)


def test_references_are_looked_for_and_reported(machine: Machine) -> None:
    machine.environment("train", "alpha")
    good(machine.apply())
    text = "command: echo\nenvironment: {}\n"
    for reference, code in (
        ("azureml:train:1", None),
        ("azureml:train", None),
        ("azureml:train@latest", None),
        ("azureml:train:7", "unknown-environment"),
        ("azureml:nobody:1", "unknown-environment"),
        ("azureml:train@best", "unknown-environment"),
        ("azureml://registries/azureml/environments/sklearn/labels/latest", "unknown-registry"),
        ("azureml://registries/shared/environments/sklearn/versions/1", "unknown-name"),
        (ARM.format("desk"), None),
        (ARM.format("DESK"), None),
        (ARM.format("other"), "other-workspace"),
    ):
        path = write(machine, "job.yml", text.format(reference))
        planned = plan(machine, path)
        assert errors(planned) == ([] if code is None else [code]), reference
        if code is not None:
            [problem] = [d for d in planned.diagnostics if d.severity == "error"]
            assert problem.source is not None
            assert (problem.source.file, problem.source.line) == (str(path), 2)


def test_a_deployment_may_name_its_environment(machine: Machine) -> None:
    deployment = write(
        machine, "deployment.yml",
        "$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json\n"
        "name: blue\nendpoint_name: e\nenvironment:\n  name: serve\n  version: 3\n"
        + INLINE.format(packages="alpha").replace("    ", "  "),
    )  # fmt: skip
    assert apply(machine, deployment) == ["3"]
    assert listed(machine) == ["serve"]


def test_a_curated_asset_of_three_files(machine: Machine) -> None:
    write(machine, "asset/asset.yaml",
          "name: my-sklearn\nversion: auto\ntype: environment\nspec: spec.yaml\n"
          "extra_config: environment.yaml\n")  # fmt: skip
    write(machine, "asset/spec.yaml",
          '$schema: x/environment.schema.json\nname: "{{asset.name}}"\n'
          'version: "{{asset.version}}"\nbuild:\n  path: "{{image.context.path}}"\n'
          '  dockerfile_path: "{{image.dockerfile.path}}"\n')  # fmt: skip
    write(
        machine,
        "asset/environment.yaml",
        "image:\n  name: a/b\n  context:\n    dir: context\n    dockerfile: Dockerfile\n",
    )
    write(machine, "asset/context/Dockerfile", "FROM scratch\n")
    loaded = load_environments(machine.folder / "asset" / "asset.yaml")
    assert [d for d in loaded.diagnostics if d.severity == "error"] == []
    [spec] = loaded.specs
    assert (spec.name, spec.version) == ("my-sklearn", None)
    assert spec.build is not None
    assert spec.build.dockerfile_path == "Dockerfile"
    assert spec.build.tree is not None


def test_a_lock_moved_since_is_another_version(machine: Machine) -> None:
    path = write(machine, "job.yml", job("alpha"))
    [version] = apply(machine, path)
    [lockfile] = (machine.folder / "locks").iterdir()
    with machine.open() as workspace:
        lock = workspace.lock_of(workspace.find(f"sha256:{version}"))
    from envgraph.lock.lockfile import write_lockfile

    fewer = lock.__class__(**{**_fields(lock), "packages": lock.packages[:-1]})
    write_lockfile(lockfile, [fewer])
    [second] = apply(machine, path)
    assert second == f"{version}-2"
    assert not plan(machine, path).changes


def _fields(value: object) -> dict[str, object]:
    from dataclasses import fields

    return {item.name: getattr(value, item.name) for item in fields(value)}  # type: ignore[arg-type]


def test_what_is_not_there_is_said(machine: Machine) -> None:
    path = write(machine, "job.yml", "component: ./nowhere.yml\ntype: command\ncommand: x\n")
    loaded = load_environments(path)
    assert [d.code for d in loaded.diagnostics] == ["missing-file"]
    with machine.open() as workspace, pytest.raises(NotFoundError):
        workspace.find("sha256:" + "0" * 64)
