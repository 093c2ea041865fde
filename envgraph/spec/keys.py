"""Key by key: what of an Azure ML file decides an environment, and what is left alone.

The tables in this folder's README are made of these values, and a test compares them.
A key that is in none of them is a warning with the nearest known one: a mistyped
``enviroment:`` would otherwise be a job without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from envgraph.spec.kinds import FileKind
from envgraph.spec.nodes import MapNode
from envgraph.spec.problems import nearest, place, quoted
from envgraph.spec.reading import Reading

ENVIRONMENT: Final[Mapping[str, str]] = {
    "name": "honoured: what it is registered as; no part of its hash",
    "version": "honoured: as text; counted up when it is left out",
    "description, tags": "honoured: kept, shown, may change; no part of its hash",
    "properties": "honoured: kept; no part of its hash",
    "image": "honoured: the base, by name or digest; part of the definition",
    "conda_file": "honoured: a path or inline; channels, packages and pip lines in order",
    "build": "honoured: the tree of the context and the Dockerfile's path; the images that it names"
    " are pinned in the lock. `path` may be a git repository or an archive at an address: see"
    " below. `args` is envgraph's own: values of the Dockerfile's `ARG`",
    "inference_config": "honoured: part of the runtime, in the image's config",
    "docker_steps": "honoured: envgraph's own; part of the definition. One Dockerfile instruction"
    " each, without `FROM`; `COPY` sees this file's folder",
    "environment_variables": "honoured: envgraph's own; part of the runtime",
    "platforms": "honoured: envgraph's own; instead of the workspace's",
    "os_type": "checked: images are for Linux, `windows` is refused when it is planned",
    "datastore, auto_delete_setting": "ignored with a warning: they mean a cloud's storage",
    "$schema, id, creation_context, latest_version, is_anonymous, provisioning_state":
        "ignored: the cloud writes them into files that it hands out",
}  # fmt: skip
"""An environment file. Any other key is an error."""

_SEARCHED: Final[Mapping[str, str]] = {
    "environment": "honoured: a reference, `file:…`, or an inline environment",
    "component": "followed when it is a local file; references to registered ones are not",
    "jobs": "searched: the steps of a pipeline, each with its own environment",
    "settings": "searched: newer batch deployments and pipelines keep theirs in it",
    "trial": "followed or searched: what a sweep tries",
    "task": "searched: what a parallel job or component runs",
    "create_job": "followed or searched: what a schedule starts",
}
_NOT_ENVIRONMENT: Final = "ignored: what runs, and with what; its environment is the same"
_WHERE: Final = "ignored: where and how it runs; its environment is the same"
_PAPERS: Final = "ignored: says what the file is, to people or to the cloud"

_RUNS: Final = (
    "code", "command", "inputs", "outputs", "environment_variables", "args", "entry", "conf",
    "py_files", "jars", "files", "archives", "input_data", "output_data", "append_row_to",
    "search_space", "objective", "sampling_algorithm", "early_termination", "primary_metric",
    "training", "training_data", "validation_data", "test_data", "target_column_name",
    "n_cross_validations", "featurization", "forecasting", "training_parameters", "sweep",
    "model", "code_configuration", "validation_data_size", "test_data_size",
    "cv_split_column_names",
    "weight_column_name", "log_verbosity", "create_monitor", "import_data", "job_definition",
)  # fmt: skip
_PLACES: Final = (
    "compute", "resources", "distribution", "limits", "queue_settings", "services", "identity",
    "instance_type", "instance_count", "scale_settings", "request_settings", "liveness_probe",
    "readiness_probe", "startup_probe", "model_mount_path", "app_insights_enabled",
    "data_collector", "egress_public_network_access", "mini_batch_size",
    "mini_batch_error_threshold", "error_threshold", "retry_settings", "output_action",
    "output_file_name", "max_concurrency_per_instance", "logging_level", "is_deterministic",
    "endpoint_name", "trigger", "default_deployment", "shm_size", "docker_args", "node_count",
    "dynamic_resources", "successful_task_quota",
)  # fmt: skip
_SAYS: Final = (
    "$schema", "type", "name", "version", "display_name", "description", "tags", "properties",
    "experiment_name", "parent_job_name", "id", "creation_context", "status", "auto_delete_setting",
    "provisioning_state", "is_anonymous", "latest_version", "code_path", "additional_includes",
    "intellectual_property", "flow", "promotion",
)  # fmt: skip

USERS: Final[Mapping[str, str]] = {
    **_SEARCHED,
    ", ".join(_RUNS): _NOT_ENVIRONMENT,
    ", ".join(_PLACES): _WHERE,
    ", ".join(_SAYS): _PAPERS,
}
"""Jobs, pipelines, components, sweeps, schedules and deployments, at their top."""

ASSET: Final[Mapping[str, str]] = {
    "name, version": "honoured: `{{asset.name}}`, `{{asset.version}}`; `auto` is counted up",
    "type": "checked: environments have `environment`",
    "spec": "followed: the environment file, its templates filled in",
    "extra_config": "followed: `image` gives `{{image.name}}`, `{{image.context.path}}`, "
    "`{{image.dockerfile.path}}` and `{{image.publish.hostname}}`; a `build.path` that is this "
    "repository's address, commit and context is the context beside the file",
    "test, categories, anything else": "ignored: for those who publish the catalogue",
}
"""``asset.yaml`` of the curated catalogue."""

TABLES: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("An environment file", ENVIRONMENT),
    ("A job, pipeline, component, sweep, schedule or deployment", USERS),
    ("`asset.yaml` of the curated catalogue", ASSET),
)
_KNOWN: Final = frozenset({*_SEARCHED, *_RUNS, *_PLACES, *_SAYS})


def keys_of(table: Mapping[str, str]) -> frozenset[str]:
    """Every key that a table names."""
    return frozenset(key for keys in table for key in keys.split(", "))


def check_user_keys(root: MapNode, kind: FileKind, reading: Reading, file: str) -> None:
    """A warning for each key at the top of a job or deployment that is not known."""
    for key, _ in root:
        if key.value not in _KNOWN:
            reading.problems.warn(
                "unknown-key", f"unknown key {quoted(key.value)} in {kind.title}: ignored",
                place(file, key), hint=nearest(key.value, _KNOWN),
            )  # fmt: skip


def markdown() -> str:
    """The tables as this folder's README shows them."""
    parts = []
    for title, table in TABLES:
        parts.append(f"### {title}\n\n| keys | what becomes of them |\n|---|---|\n")
        for keys, what in table.items():
            names = ", ".join(f"`{key}`" if " " not in key else key for key in keys.split(", "))
            parts.append(f"| {names} | {what} |\n")
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"
