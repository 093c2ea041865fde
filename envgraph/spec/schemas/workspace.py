"""The schema of envgraph.yaml; defaults are those of the values themselves."""

from __future__ import annotations

from typing import Final

from envgraph.model.config import ImageOptions, WorkspaceConfig
from envgraph.model.names import MAX_NAME
from envgraph.spec import workspace_file as reader
from envgraph.spec.reading import PLATFORMS
from envgraph.spec.schemas.fields import (
    Schema,
    choice,
    described,
    mapping,
    matching,
    or_null,
    record,
    some,
    text,
)

_PLATFORM: Final[Schema] = {"enum": sorted(PLATFORMS)}
_TEXT: Final[Schema] = {"type": "string", "minLength": 1}


def schema() -> Schema:
    """All keys of envgraph.yaml."""
    default = WorkspaceConfig("", "", "")
    provider: Schema = {"$ref": "#/definitions/provider"}
    registry: Schema = {"$ref": "#/definitions/registry"}
    found = record(
        reader.KNOWN,
        {
            "workspace": text(
                "The workspace's name.", pattern=matching(reader.NAME), maxLength=MAX_NAME
            ),
            "id": text(
                "Written by init; commit it. Pins, versions and labels belong to it.",
                pattern=matching(reader.ID),
            ),
            "environments": some(
                _TEXT, "Globs of environment files, from this folder.", default.environments
            ),
            "platforms": some(_PLATFORM, "Locked together.", default.platforms),
            "virtual_packages": mapping(
                or_null(mapping(
                    or_null(text()), "Virtual package to version; null takes it away.",
                    {"pattern": matching(reader.VIRTUAL)},
                )),
                "What to solve for, by platform; never what this machine happens to have.",
                _PLATFORM,
            ),
            "registry": described(registry, "Where images, locks and shared environments go."),
            "registries": mapping(registry, "More registries, by name."),
            "builder": _builder(),
            "compute": mapping(provider, "Compute targets by name; local always exists."),
            "base_images": choice(
                reader.BASE_IMAGES, "What to do when the tag of a base has moved.",
                default.base_images,
            ),
            "channels": mapping(
                _TEXT, "Channel name to where it really is: mirrors. Pins do not change."
            ),
            "default_channels": some(
                _TEXT, "Channels of conda files that name none.", default.default_channels
            ),
            "pip_indexes": some(_TEXT, "In place of the default index; credentials by reference."),
            "secrets": mapping(
                {"type": "string", "pattern": matching(reader.SECRET)},
                "Name to env:VARIABLE or file:PATH; never in a hash, layer or log.",
            ),
            "image": _image(),
            "reserved_prefixes": some(
                _TEXT, "Names that begin so are not registered.", default.reserved_prefixes
            ),
        },
        required=["workspace"],
    )  # fmt: skip
    kind = text("The plugin's name; other keys are its options.")
    return {
        "title": "envgraph.yaml",
        "description": "A workspace of envgraph: where its environments are, what to solve for.",
        **found,
        "definitions": {
            "provider": {
                "type": "object",
                "required": ["type"],
                "properties": {"type": kind},
            },
            "registry": {
                "type": "object",
                "required": ["type"],
                "properties": {
                    "type": kind,
                    reader.TRUST_STEPS: {
                        "type": "boolean",
                        "default": True,
                        "description": "Take what it says that docker steps became.",
                    },
                },
            },
        },
    }


def _builder() -> Schema:
    own = {
        "timeout": {
            "type": "integer", "minimum": 1,
            "description": "Seconds that one step may take; no end without it.",
        },
        "reach": some(
            _TEXT,
            "Which builders may be used: local, anywhere, type:NAME, unix:///PATH,"
            " tcp://HOST:PORT, tcp://*.DOMAIN.",
            ("anywhere",),
        ),
    }  # fmt: skip
    return {
        "description": "What runs docker steps and build contexts; auto: whatever answers.",
        "anyOf": [
            text("The plugin's name."),
            {"allOf": [{"$ref": "#/definitions/provider"}], "properties": own},
        ],
    }


def _image() -> Schema:
    default = ImageOptions()
    return record(
        reader.IMAGE_KEYS,
        {
            "compression": choice(reader.COMPRESSION, "Of layers.", default.compression),
            "max_layers": {
                "type": ["integer", "string"],
                "minimum": reader.MAX_LAYERS.start,
                "maximum": reader.MAX_LAYERS.stop - 1,
                "pattern": "^[0-9]+$",
                "default": default.max_layers,
                "description": "Layers of packages at most; small packages share one.",
            },
            "bytecode": choice(reader.BYTECODE, "Whether modules are compiled.", default.bytecode),
            "default_base": text("The base of plain conda files.", default=default.default_base),
        },
        description="What images are made like; enters no lock.",
    )
