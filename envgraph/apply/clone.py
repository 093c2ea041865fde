"""A new environment from an existing version: its file written from definition and runtime.

The file says where it comes from (the property ``envgraph.parent``), which the first
version of the new environment records. As long as nothing of the definition is changed
the lockfile is written, too, so that the clone has the very same packages. What no store
keeps (files that docker steps copy, local projects, build contexts) is refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from envgraph.errors import EnvgraphError, InputError, UsageError
from envgraph.lock.find import lock_sources, lockfile_path
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest
from envgraph.model.locked import LockedEnvironment
from envgraph.model.names import escape_name, name_problem, reserved_prefix, shown
from envgraph.model.records import PARENT_PROPERTY, VersionRecord
from envgraph.model.spec import EnvironmentSpec
from envgraph_store import Digest

SETTABLE: Final = ("image", "version", "description")
SETTABLE_MAPS: Final = ("tags", "properties", "environment_variables")


@dataclass(frozen=True, slots=True)
class Clone:
    """What was written. ``lockfile`` is None where the definition was changed."""

    name: str
    parent: str
    file: Path
    lockfile: Path | None


def clone_document(
    record: VersionRecord,
    definition: Mapping[str, Any],
    runtime: Mapping[str, Any],
    *,
    name: str,
    parent: str,
    changes: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The environment file of a clone, as a value.

    ``changes`` are keys and values of ``--set``. InputError with everything that the
    version needs and that cannot be written into a file; UsageError for an unknown key.
    """
    missing = list(_not_kept(definition))
    if missing:
        raise InputError(
            f"{record.environment}:{record.version} cannot be cloned from its record",
            code="clone-files",
            detail=f"it needs {'; '.join(missing)}, which no store keeps",
            hint="copy its environment file and change the name",
        )
    properties = {**record.properties, PARENT_PROPERTY: parent}
    document: dict[str, Any] = {
        "name": name,
        "description": record.description,
        "tags": dict(record.tags),
        "properties": properties,
    }
    build = definition["build"]
    if build is not None:
        document["build"] = {
            "path": build["address"],
            "dockerfile_path": build["dockerfile_path"],
            **({"args": dict(build["arguments"])} if build.get("arguments") else {}),
        }
    else:
        document["image"] = definition["base"] or "scratch"
    document["docker_steps"] = [step["instruction"] for step in definition["steps"]]
    if definition["conda"] is not None:
        document["conda_file"] = _conda(definition["conda"])
    document["environment_variables"] = dict(runtime.get("environment_variables") or {})
    document["inference_config"] = runtime.get("inference_config")
    for key, value in changes:
        _set(document, key, value)
    return {key: value for key, value in document.items() if value}


def _not_kept(definition: Mapping[str, Any]) -> list[str]:
    found = []
    build = definition["build"]
    if build is not None and build["address"] is None:
        found.append(f"its build context (with {build['dockerfile_path']})")
    for step in definition["steps"]:
        found += [f"the file {item['path']!r} of a docker step" for item in step["inputs"]]
    for line in (definition["conda"] or {}).get("pip", ()):
        if line["kind"] == "project":
            found.append(f"the local project {line['text']!r}")
        elif line["kind"] == "constraint":
            found.append(f"the constraint {line['text']!r} of a -c file")
    return found


def _conda(conda: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if conda["channels"] is not None:
        found["channels"] = list(conda["channels"])
    dependencies: list[Any] = [
        {f"sel({item['selector']})": item["text"]} if item["selector"] else item["text"]
        for item in conda["dependencies"]
    ]
    if conda["pip"]:
        dependencies.append({"pip": [_pip(line) for line in conda["pip"]]})
    return found | {"dependencies": dependencies}


def _pip(line: Mapping[str, Any]) -> str:
    text = f"-e {line['text']}" if line["editable"] else str(line["text"])
    return " ".join([text, *(f"--hash={item}" for item in line["hashes"])])


def _set(document: dict[str, Any], key: str, value: str) -> None:
    """An empty value takes the key away."""
    head, dot, rest = key.partition(".")
    if not dot and head in SETTABLE:
        if head == "image" and "image" not in document:
            raise UsageError("--set image: this environment is built from a context, not an image")
        document[head] = value
        return
    if dot and rest and head in SETTABLE_MAPS:
        if head == "properties" and rest == PARENT_PROPERTY:
            raise UsageError(f"--set {key}: the parent is what the clone was made from")
        if value:
            document[head][rest] = value
        else:
            document[head].pop(rest, None)
        return
    known = ", ".join([*SETTABLE, *(f"{name}.KEY" for name in SETTABLE_MAPS)])
    raise UsageError(
        f"--set {key!r}: a clone has no such key to set",
        code="unknown-key",
        hint=f"one of {known}; packages are changed in the file that clone writes",
    )


def check_name(
    name: str, config: WorkspaceConfig, record: VersionRecord, taken: Mapping[str, str]
) -> None:
    """Refuse a name that a new environment cannot have: bad, reserved or taken.

    ``taken`` says by name where it is.
    """
    problem = name_problem(name)
    if problem is not None:
        raise InputError(f"{shown(name)} is no name: {problem}", code="bad-name")
    if name == record.environment and record.kind == "curated":
        raise InputError(
            f"a changed {name!r} needs a name of its own: this one is curated",
            code="curated",
            hint=f"for example {'my-' + name!r}",
        )
    prefix = reserved_prefix(name, config.reserved_prefixes)
    if prefix is not None:
        raise InputError(
            f"the name {name!r} begins with the reserved prefix {prefix!r}",
            code="reserved-prefix",
            detail="such names are for curated environments",
            hint=f"choose another name, for example {'my-' + name!r}",
        )
    if name in taken:
        raise EnvgraphError(
            f"there is an environment {name!r} already ({taken[name]})",
            code="name-taken",
            hint=f"choose another name; `envgraph edit {name}` changes that one",
        )


def write_clone(
    config: WorkspaceConfig,
    document: Mapping[str, Any],
    record: VersionRecord,
    locks: Mapping[str, LockedEnvironment],
    parent: str,
) -> Clone:
    """Write the environment file, and the lockfile where the definition is the parent's.

    InputError when the file is there already, cannot be written, or (after ``--set``) is
    not a good environment file: nothing is left of it then.
    """
    from envgraph.spec import load_environment

    name = str(document["name"])
    path = file_of(config, name)
    text = document_text(document, config, locks)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise InputError(
            f"{path} is there already",
            code="file-exists",
            hint="nothing was changed; choose another name",
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be written", code="unwritable", detail=error.strerror or str(error)
        ) from None
    try:
        loaded = load_environment(path, config)
        problems = [d for d in loaded.diagnostics if d.severity == "error"]
        if loaded.spec is None or problems:
            raise InputError(problems)
        lockfile = _write_lock(config, loaded.spec, record, locks)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Clone(name, parent, path, lockfile)


def document_text(
    document: Mapping[str, Any], config: WorkspaceConfig, locks: Mapping[str, LockedEnvironment]
) -> str:
    """The environment file as text; it names its platforms where the workspace has others."""
    import yaml

    own = dict(document)
    if tuple(locks) != config.platforms:
        own["platforms"] = list(locks)
    return yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=100)


def file_of(config: WorkspaceConfig, name: str) -> Path:
    """Where the file of a new environment goes."""
    return _folder(config) / f"{_file_stem(name)}.yml"


def lock_of_parent(
    config: WorkspaceConfig,
    file: Path,
    record: VersionRecord,
    locks: Mapping[str, LockedEnvironment],
) -> Path | None:
    """Write the lockfile with the parent's packages, where the file asks for the same."""
    from envgraph.spec import load_environment

    spec = load_environment(file, config).spec
    return None if spec is None else _write_lock(config, spec, record, locks)


def _file_stem(name: str) -> str:
    """The name, escaped; of a name too long for a file name its beginning and its hash."""
    text = escape_name(name)
    if "/" not in text:
        return text
    return f"{text[:100].rstrip('%')}-{Digest.of(name.encode()).hex[:32]}"


def _folder(config: WorkspaceConfig) -> Path:
    """Where the workspace's first pattern finds environment files."""
    pattern = next((p for p in config.environments if p.endswith((".yml", "*"))), "environments/*")
    parts = []
    for part in Path(pattern).parent.parts:
        if any(c in part for c in "*?["):
            break
        parts.append(part)
    return Path(config.root, *parts)


def _write_lock(
    config: WorkspaceConfig,
    spec: EnvironmentSpec,
    record: VersionRecord,
    locks: Mapping[str, LockedEnvironment],
) -> Path | None:
    """The parent's packages under the clone's own pin keys; None where they are not asked for."""
    from envgraph.lock.contract import pin_key_of
    from envgraph.lock.lockfile import write_lockfile

    definition = definition_digest(spec)
    if definition != record.definition:
        return None
    path = lockfile_path(config.root, spec.name)
    pinned = [
        replace(lock, pin_key=pin_key_of(spec, platform, config, definition))
        for platform, lock in locks.items()
    ]
    if os.path.lexists(path):
        raise InputError(
            f"{path} is there already", code="file-exists", hint="remove it, or choose another name"
        )
    write_lockfile(path, pinned, sources=lock_sources(spec, path))
    return path
