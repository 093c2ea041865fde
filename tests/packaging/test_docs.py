"""Every page's links lead somewhere, and the commands that pages show exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from envgraph.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]


def pages() -> list[Path]:
    skipped = {".venv", ".demo", ".bench", ".pytest_cache"}
    found = [p for p in ROOT.rglob("*.md") if not skipped & set(p.relative_to(ROOT).parts)]
    return sorted(found)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    local = [target.split("#")[0] for target in targets if "://" not in target]
    broken = [target for target in local if target and not (page.parent / target).exists()]
    # Only `make bench` writes the figures; a checkout may not have them yet.
    assert [target for target in broken if not target.endswith("RESULTS.md")] == []


def test_the_readme_names_make_targets_and_verbs_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for target in set(re.findall(r"`make (\w+)`|^make (\w+)", text, re.MULTILINE)):
        name = "".join(target)
        done = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, name
    code = "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL))
    shown = set(re.findall(r"^(?:\$ )?envgraph ([a-z]+)", code, re.MULTILINE))
    assert shown
    assert shown <= set(VERBS)
