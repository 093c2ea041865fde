"""Arguments that docker sets by the platform (``TARGETARCH`` …), and texts that use them."""

from __future__ import annotations

import re
from typing import Final

from envgraph.model.oci import Platform, oci_platform
from envgraph.model.reference import parse_registry_reference
from envgraph.model.spec import NamedImage

VARIABLE: Final = re.compile(
    r"\\\$|\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+])([^{}]*))?\})"
)
"""``$NAME``, ``${NAME}``, ``${NAME:-WORD}`` of a Dockerfile."""

_PLATFORM_NAMES: Final = ("PLATFORM", "OS", "ARCH", "VARIANT")


def platform_arguments(platform: str) -> dict[str, str]:
    """``TARGETARCH`` and the others that docker sets, for a conda platform."""
    found = oci_platform(platform)
    if found is None:
        return {}
    text = f"{found.os}/{found.architecture}" + (f"/{found.variant}" if found.variant else "")
    values = dict(
        zip(_PLATFORM_NAMES, (text, found.os, found.architecture, found.variant), strict=True)
    )
    return {f"{side}{name}": v for side in ("TARGET", "BUILD") for name, v in values.items()}


def platform_of(text: str) -> Platform | None:
    """``linux/arm64/v8`` as a value; None when it is none."""
    parts = text.lower().split("/")
    if len(parts) not in (2, 3) or not all(parts):
        return None
    return Platform(*parts)


def image_for(image: NamedImage, platform: str) -> tuple[str, str]:
    """The text and the reference of an image on a platform; BadReferenceError when it is none."""
    return named_text(image.text, platform), image.reference or str(
        parse_registry_reference(named_text(image.text, platform))
    )


def named_text(text: str, platform: str) -> str:
    """The text after the platform's arguments were put in."""
    values = platform_arguments(platform)
    return VARIABLE.sub(lambda m: values.get(m[1] or m[2] or "", m[0]), text)


def is_of_platform(name: str) -> bool:
    """Whether docker itself sets the argument."""
    return any(name == side + what for side in ("TARGET", "BUILD") for what in _PLATFORM_NAMES)
