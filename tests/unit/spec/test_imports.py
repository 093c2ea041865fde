"""Naming this package's functions costs no YAML parser: the quick path imports it."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"yaml", "pathspec", "packaging", "difflib", "networkx", "rattler", "rich", "zstandard"}


def test_nothing_heavy_is_imported_before_a_file_is_read() -> None:
    code = (
        "import sys\n"
        "from envgraph.spec import load_environment, load_workspace, discover\n"
        "from envgraph.model import identity, names\n"
        "print(*sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & {name.partition(".")[0] for name in run.stdout.split()} == set()
