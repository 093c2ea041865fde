"""Addresses at which nothing can lie are errors of the file that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.errors import InputError
from envgraph.lock.lockread import read_document
from envgraph.spec import load_environment, load_workspace
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("channels: ['https://[x/y']", "channel", "Invalid IPv6 URL"),
        ("channels: ['https://h:99999/y']", "channel", "Port out of range"),
        ("dependencies: ['https://[x/y::python']", "channel", "Invalid IPv6 URL"),
        ("dependencies: [{pip: ['a @ https://[x/a.whl']}]", "pip-requirement", "Invalid IPv6"),
        ("dependencies: [{pip: ['git+https://[x/a.git']}]", "pip-requirement", "Invalid IPv6"),
        ("dependencies: [{pip: ['http:///a.whl']}]", "pip-requirement", "names no host"),
        ("dependencies: [{pip: ['--index-url https://[x/s']}]", "pip-option", "Invalid IPv6"),
    ],
)
def test_in_an_environment_file(tmp_path: Path, line: str, code: str, said: str) -> None:
    path = tmp_path / "a.yml"
    path.write_text(f"name: a\n{line}\n" + ("dependencies: [a]\n" if "dep" not in line else ""))
    errors = [d for d in load_environment(path).diagnostics if d.severity == "error"]
    assert [d.code for d in errors] == [code]
    assert said in errors[0].summary
    assert errors[0].source is not None
    assert errors[0].source.line == 2


def test_in_the_workspace_file(tmp_path: Path) -> None:
    (tmp_path / "envgraph.yaml").write_text(
        "workspace: a\nchannels: {x: 'https://[x'}\npip_indexes: ['https://h:0x1/']\n"
    )
    _, problems = load_workspace(tmp_path)
    assert sorted(d.code for d in problems) == ["address", "channel"]


def test_in_a_lockfile() -> None:
    text = TARGETS["lockfile"].seeds[0].decode().replace("https://x/", "https://[x/")
    with pytest.raises(InputError, match="is no address"):
        read_document(text, "a.conda-lock.yml")


def test_a_variable_may_still_make_it_one(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("name: a\nchannels: ['https://${HOST}:${PORT}/y']\ndependencies: [a]\n")
    assert not [d for d in load_environment(path).diagnostics if d.severity == "error"]
