"""The pins that tests install: hashed, without an index, and within pyproject's ranges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "tests/requirements.txt"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def entries() -> list[tuple[Requirement, list[str]]]:
    """Each pin with its hashes."""
    text = PINS.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for line in lines:
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        found.append((Requirement(requirement), hashes))
    return found


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        lines += extra
    return [Requirement(line) for line in [*lines, *project["build-system"]["requires"]]]


def pinned_for(python: str) -> dict[str, Requirement]:
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    return {
        canonicalize_name(requirement.name): requirement
        for requirement, _ in entries()
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


def test_every_pin_is_exact_and_hashed() -> None:
    for requirement, hashes in entries():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes)


def test_the_file_names_no_index_and_no_address() -> None:
    text = PINS.read_text()
    assert "://" not in text
    assert not re.search(r"(?m)^\s*(-i|-f|-r|-c|-e|--(?!hash=))", text)


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_fit_the_ranges_of_pyproject(python: str) -> None:
    pins = pinned_for(python)
    for requirement in declared():
        pin = pins[canonicalize_name(requirement.name)]
        (specifier,) = pin.specifier
        assert requirement.specifier.contains(specifier.version), f"{pin} is not {requirement}"


def test_every_dependency_is_bounded_on_both_sides() -> None:
    for requirement in declared():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators & {">=", "=="}, requirement
        assert operators & {"<", "=="}, requirement
