"""The schema of environment files: Azure ML's YAML, or a plain conda environment file."""

from __future__ import annotations

from typing import Final

from envgraph.model.names import MAX_NAME
from envgraph.spec import conda_file
from envgraph.spec import environment_file as azure
from envgraph.spec.build_arguments import NAME
from envgraph.spec.build_section import BUILD
from envgraph.spec.reading import PLATFORMS, READ_ONLY
from envgraph.spec.schemas.fields import (
    Schema,
    choice,
    mapping,
    matching,
    or_null,
    record,
    some,
    text,
)

_PLATFORM: Final[Schema] = {"enum": sorted(PLATFORMS)}
_ANY_TEXT: Final = or_null(text())
_NO_NAME: Final = r"^[^/:@\u0000-\u001f\u007f]+$"


def schema() -> Schema:
    """Which of the two shapes a file has is judged by its keys, as the reader does."""
    return {
        "title": "Environment",
        "description": "An Azure ML environment file as envgraph reads it, or a plain conda "
        "environment.yml.",
        "type": "object",
        "if": {
            "anyOf": [{"required": ["dependencies"]}, {"required": ["channels"]}],
            "not": {"anyOf": [{"required": [key]} for key in ("image", "build", "conda_file")]},
        },
        "then": {"$ref": "#/definitions/conda"},
        "else": {"$ref": "#/definitions/environment"},
        "definitions": {
            "environment": _environment(),
            "conda": _conda(),
            "route": record(
                azure.ROUTE,
                {
                    "port": {"type": ["integer", "string"], "minimum": 1, "maximum": 65535,
                             "pattern": "^[0-9]{1,5}$"},
                    "path": text(),
                },
                required=["port", "path"],
            ),
        },
    }  # fmt: skip


def _environment() -> Schema:
    found = record(
        azure.KNOWN,
        {
            **{key: {} for key in sorted(READ_ONLY)},
            "name": text("The environment's name.", minLength=1, maxLength=MAX_NAME,
                         pattern=_NO_NAME),
            "version": text("Left out, it is counted up.", minLength=1),
            "description": text("For people; enters no hash."),
            "tags": mapping({}, "For people; they enter no hash."),
            "properties": mapping({}, "For programs; they enter no hash."),
            "image": {
                "type": "string",
                "description": "The base image: HOST/NAME:TAG, oci:PATH[:NAME], "
                "docker-archive:PATH or scratch. A tag is pinned when it is first used.",
            },
            "conda_file": {
                "description": "The path of a conda file from this file's folder, or its content.",
                "anyOf": [{"type": "string"}, {"$ref": "#/definitions/conda"}],
            },
            "build": record(
                BUILD,
                {
                    "path": text(
                        "The folder, from this file's folder; a git repository "
                        "(https://HOST/REPO.git#REF:FOLDER, git@HOST:REPO.git, git+https://…); "
                        "or an archive (https://HOST/context.tar.gz). Addresses are pinned."
                    ),
                    "dockerfile_path": text("From that folder.", default="Dockerfile"),
                    "args": mapping(
                        text(), "Values of the Dockerfile's ARG; no place for secrets.",
                        {"pattern": matching(NAME)},
                    ),
                },
                required=["path"],
                description="A Docker build context, in place of an image.",
            ),
            "docker_steps": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Dockerfile instructions on the image, below the packages.",
            },
            "environment_variables": mapping(
                _ANY_TEXT, "Set in the image and by run.", {"pattern": "^[^=]+$"}
            ),
            "inference_config": record(
                azure.ROUTES,
                {name: {"$ref": "#/definitions/route"} for name in azure.ROUTES},
                required=azure.ROUTES,
                description="Routes of a server in the image: all three, or none.",
            ),
            "platforms": some(_PLATFORM, "Locked together; default: the workspace's."),
            "os_type": choice(azure.OS_TYPES, "Images are for Linux.", "linux"),
            "datastore": {"description": "Means something in the cloud only: ignored."},
            "auto_delete_setting": record(
                azure.AUTO_DELETE,
                {"condition": {}, "value": {}},
                description="Means something in the cloud only: ignored.",
            ),
        },
        required=["name"],
    )  # fmt: skip
    return {**found, "anyOf": [{"required": ["image"]}, {"required": ["build"]}]}


def _conda() -> Schema:
    ignored = {
        key: {"description": f"Belongs to {tool}: ignored."}
        for key, tool in conda_file.OTHER_TOOLS.items()
    }
    return record(
        conda_file.KNOWN | ignored.keys(),
        {
            "name": text("The environment's name; default: the file's."),
            "channels": some(
                text(), "In order: names, addresses, and paths from this file's folder."
            ),
            "dependencies": {
                "type": "array",
                "items": {"anyOf": [text(), _section()]},
                "description": "Packages: NAME, NAME=1.2, NAME >=1.2,<2, CHANNEL::NAME; "
                "and one section `pip:`.",
            },
            "variables": mapping(_ANY_TEXT, "Environment variables."),
            "platforms": some(_PLATFORM, "Locked together."),
            "platform": some(_PLATFORM, "Locked together."),
            "prefix": {"description": "Where conda had it: ignored."},
            "category": {"description": "conda-lock's: ignored."},
            **ignored,
        },
        required=["dependencies"],
    )


def _section() -> Schema:
    """``pip:`` or mamba's ``sel(linux):`` among the dependencies."""
    return {
        "type": "object",
        "properties": {
            "pip": {
                "type": ["array", "null"],
                "items": text(),
                "description": "Lines of a requirements file.",
            }
        },
        "patternProperties": {"^sel\\(": text()},
        "additionalProperties": False,
    }
