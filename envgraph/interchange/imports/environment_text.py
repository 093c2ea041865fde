"""The environment file that an import writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./=<>!,+-]*")
_WORDS: Final = frozenset(
    {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "True", "False", "Yes", "No",
     "On", "Off", "Null", "NULL", "TRUE", "FALSE", "YES", "NO", "ON", "OFF"}
)  # fmt: skip


def environment_text(
    *,
    name: str,
    origin: str,
    channels: Sequence[str],
    conda: Sequence[tuple[str, str]],
    pip: Sequence[str],
    platforms: Sequence[str],
    variables: Mapping[str, str],
    image: str | None,
) -> str:
    """A conda environment file; with ``image``, Azure ML's form with the same inside.

    ``conda`` are (selector, requirement); ``origin`` names the file that it came from.
    Equal arguments give equal text.
    """
    lines = [
        f"# Imported from {' '.join(origin.split())}. Its pins are the lockfile in locks/;",
        "# `envgraph lock --update PACKAGE` moves one of them.",
        f"name: {_text(name)}",
    ]
    inner = _conda_lines(channels, conda, pip)
    if image is not None:
        lines += [f"image: {_text(image)}", "conda_file:", *(f"  {line}" for line in inner)]
        lines += _variables("environment_variables", variables)
    else:
        lines += [*inner, *_variables("variables", variables)]
    lines += ["platforms:", *(f"  - {_text(platform)}" for platform in platforms)]
    return "\n".join(lines) + "\n"


def _conda_lines(
    channels: Sequence[str], conda: Sequence[tuple[str, str]], pip: Sequence[str]
) -> list[str]:
    lines = ["channels:", *(f"  - {_text(channel)}" for channel in channels)] if channels else []
    if not conda and not pip:
        return [*lines, "dependencies: []"]
    lines.append("dependencies:")
    for selector, text in conda:
        lines.append(f"  - sel({selector}): {_text(text)}" if selector else f"  - {_text(text)}")
    if pip:
        lines += ["  - pip:", *(f"    - {_text(line)}" for line in pip)]
    return lines


def _variables(key: str, variables: Mapping[str, str]) -> list[str]:
    if not variables:
        return []
    return [f"{key}:", *(f"  {_text(k)}: {json.dumps(v)}" for k, v in sorted(variables.items()))]


def _text(value: str) -> str:
    """A scalar that every reader of YAML takes as this text: quoted unless it is plainly one."""
    if _PLAIN.fullmatch(value) and value not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
