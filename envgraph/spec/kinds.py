"""What kind of file a YAML tree is, judged by its keys alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from envgraph.spec.nodes import ListNode, MapNode, ScalarNode


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind: its ``name`` for programs, its ``title`` for people, and what to do with it."""

    name: str
    title: str
    hint: str = ""


ENVIRONMENT: Final = FileKind("environment", "an environment")
CONDA: Final = FileKind("conda", "a conda environment file")
UNKNOWN: Final = FileKind("unknown", "a file of an unknown kind")
JOB: Final = FileKind(
    "job", "a job", "its environment is under `environment:`; submit it with `envgraph job submit`"
)
PIPELINE: Final = FileKind("pipeline", "a pipeline job", "its environments are in its steps")
COMPONENT: Final = FileKind("component", "a component", "its environment is under `environment:`")
DEPLOYMENT: Final = FileKind(
    "deployment", "a deployment",
    "its environment is under `environment:`; use `envgraph deployment create`",
)  # fmt: skip
ENDPOINT: Final = FileKind("endpoint", "an endpoint", "it has no environment; deployments have")
COMPUTE: Final = FileKind("compute", "a compute target", "it has no environment")
MODEL: Final = FileKind("model", "a model asset", "audit the model's folder instead")
DATA: Final = FileKind("data", "a data asset or datastore", "it has no environment")
SCHEDULE: Final = FileKind("schedule", "a schedule", "its job is under `create_job:`")
ASSET: Final = FileKind(
    "asset", "an entry of the asset catalogue", "the environment is in its spec file"
)
IMAGE_CONFIG: Final = FileKind(
    "image-config", "an image configuration of the asset catalogue",
    "the environment is in spec.yaml beside it",
)  # fmt: skip
MLMODEL: Final = FileKind("mlmodel", "an MLflow model", "use `envgraph import` or `envgraph audit`")
PYTHON_ENV: Final = FileKind("python-env", "MLflow's python_env.yaml", "use `envgraph import`")
MLPROJECT: Final = FileKind("mlproject", "an MLflow project", "its conda file is the environment")
CONDA_LOCK: Final = FileKind("conda-lock", "a conda-lock lockfile", "use `envgraph import`")
PIXI_LOCK: Final = FileKind("pixi-lock", "a pixi lockfile", "use `envgraph import`")
WORKSPACE: Final = FileKind("workspace", "a workspace's settings", "name an environment file")
FLOW: Final = FileKind(
    "flow", "a prompt flow", "prompt flow makes its environment itself; name one with `image:`"
)
CLOUD: Final = FileKind("azureml", "an Azure ML file of another kind", "it has no environment")

_CLOUD_ONLY: Final = {
    "amlcompute", "computeinstance", "kubernetes_cluster", "synapsespark", "virtualmachine",
}  # fmt: skip
_CLOUD_JOBS: Final = {"finetuning", "distillation"}
"""Jobs whose environment is the service's own."""


def _text(root: MapNode, key: str) -> str:
    return (root.text(key) or "").lower()


_BY_SCHEMA: Final[tuple[tuple[str, FileKind], ...]] = (
    ("deployment", DEPLOYMENT),
    ("component", COMPONENT),
    ("endpoint", ENDPOINT),
    ("pipelinejob", PIPELINE),
    ("schedule", SCHEDULE),
    ("job", JOB),
    ("environment", ENVIRONMENT),
    ("compute", COMPUTE),
    ("datastore", DATA),
    ("data", DATA),
    ("mltable", DATA),
    ("model", MODEL),
)


def _by_schema(root: MapNode) -> FileKind | None:
    """The kind that ``$schema`` names: the last part of Azure ML's address."""
    address = _text(root, "$schema")
    schema = address.rpartition("/")[2]
    if "/promptflow/" in address:
        return FLOW if schema.startswith("flow") else CLOUD
    found = next((kind for word, kind in _BY_SCHEMA if word in schema), None)
    return CLOUD if found is None and "//azureml" in address else found


def _is_lock(root: MapNode) -> bool:
    package = root.get("package")
    return "metadata" in root and isinstance(package, ListNode)


def _is_asset(root: MapNode) -> bool:
    return "spec" in root and "type" in root and "image" not in root


def _is_environment(root: MapNode) -> bool:
    """An image, a conda file, or a build that is a context.

    Package recipes and the settings of documentation hosts have a ``build:`` too,
    without a path, in a file without a name.
    """
    if "image" in root or "conda_file" in root:
        return True
    build = root.get("build")
    if not isinstance(build, MapNode) or "name" in root:
        return build is not None
    return "path" in build or "dockerfile_path" in build


def _is_pipeline(root: MapNode, kind: str) -> bool:
    """Azure's, not the workflow of a CI service, which has ``on:`` or ``workflows:``."""
    if kind == "pipeline":
        return True
    foreign = "on" in root or "workflows" in root
    return isinstance(root.get("jobs"), MapNode) and not foreign


def _is_flow(root: MapNode) -> bool:
    return isinstance(root.get("nodes"), ListNode) and ("inputs" in root or "outputs" in root)


def kind_of_tree(root: MapNode) -> FileKind:
    """The kind of a YAML file by its top-level mapping.

    A conda file is one only without ``image``, ``build`` and ``conda_file``: with
    them it is an environment with keys that do not belong there.
    """
    if "dependencies" in root or "channels" in root:
        if "build_dependencies" in root or ("python" in root and "channels" not in root):
            return PYTHON_ENV
        if not _is_environment(root) and "type" not in root and "jobs" not in root:
            return CONDA
    by_schema = _by_schema(root)
    if by_schema is not None:
        return by_schema
    if isinstance(root.get("image"), MapNode):
        return IMAGE_CONFIG
    kind = _text(root, "type")
    for test, found in _TESTS:
        if test(root, kind):
            return found
    return UNKNOWN


_TESTS: Final[tuple[tuple[Callable[[MapNode, str], bool], FileKind], ...]] = (
    (lambda r, _: _is_lock(r), CONDA_LOCK),
    (lambda r, _: "environments" in r and "packages" in r and "version" in r, PIXI_LOCK),
    (lambda r, _: "flavors" in r or "artifact_path" in r, MLMODEL),
    (lambda r, _: "entry_points" in r, MLPROJECT),
    (lambda r, t: _is_asset(r), ASSET),
    (_is_pipeline, PIPELINE),
    (lambda r, t: t.endswith("component"), COMPONENT),
    (lambda r, _: "endpoint_name" in r or "code_configuration" in r or "scale_settings" in r,
     DEPLOYMENT),
    (lambda r, t: "create_job" in r or "create_monitor" in r, SCHEDULE),
    (lambda r, t: t in _CLOUD_JOBS, CLOUD),
    (lambda r, _: _is_flow(r), FLOW),
    (lambda r, t: t in ("command", "sweep", "spark", "automl", "parallel"), JOB),
    (lambda r, _: "command" in r and ("environment" in r or "code" in r), JOB),
    (lambda r, t: t in _CLOUD_ONLY, COMPUTE),
    (lambda r, _: "auth_mode" in r or "traffic" in r, ENDPOINT),
    (lambda r, t: t in ("uri_file", "uri_folder", "mltable") or t.startswith("azure_"), DATA),
    (lambda r, t: t in ("mlflow_model", "custom_model", "triton_model"), MODEL),
    (lambda r, _: "workspace" in r and isinstance(r.get("workspace"), ScalarNode), WORKSPACE),
    (lambda r, _: _is_environment(r), ENVIRONMENT),
)  # fmt: skip
