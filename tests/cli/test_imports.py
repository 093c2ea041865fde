"""Starting is light: a verb imports its own module and what it needs, no other verb's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envgraph.cli import verbs

HEAVY = {
    "argparse", "asyncio", "conda_lock", "diskcache", "importlib.metadata", "logging", "networkx",
    "pluggy", "pydantic", "rattler", "rich", "sqlite3", "ssl", "uv", "yaml", "zstandard",
}  # fmt: skip
CODE = """
import sys
from envgraph.cli.run import run_command
code, _ = run_command(sys.argv[1:])
sys.stderr.write("MODULES " + " ".join(sorted(sys.modules)))
sys.exit(code)
"""


SHARED = {"rebase": ("apply", "drift")}
"""What a verb takes from others beside ``plan`` and ``show``."""


def imported(folder: Path, *words: str, code: int = 0) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == code, done.stderr
    return set(done.stderr.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize("verb", sorted(verbs.VERBS))
def test_help_of_a_verb_imports_only_that_verb(verb: str, tmp_path: Path) -> None:
    modules = imported(tmp_path, verb, "--help")
    own = {m for m in modules if m.startswith("envgraph.cli.commands.")}
    allowed = {verbs.module_of(name) for name in (verb, "plan", "show", *SHARED.get(verb, ()))}
    assert verbs.module_of(verb) in own
    assert own <= allowed
    assert not modules & HEAVY


def test_an_error_of_the_command_line_imports_nothing_heavy(tmp_path: Path) -> None:
    modules = imported(tmp_path, "plan", "--nonsense", code=1)
    assert not modules & HEAVY
    assert "envgraph.workspace" not in modules


def test_init_needs_no_parser_and_no_store(tmp_path: Path) -> None:
    modules = imported(tmp_path, "init")
    assert not modules & HEAVY
    assert "envgraph_store.store" not in modules


def test_validate_needs_no_solver_no_store_and_no_graph(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("dependencies: [python]\n")
    modules = imported(tmp_path, "validate", "environment.yml")
    assert "yaml" in modules
    assert not modules & (HEAVY - {"yaml"})
    assert not {m for m in modules if m.startswith(("envgraph.conda", "envgraph.apply"))}
