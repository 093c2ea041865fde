"""``make demo`` does what it says, from a channel to a training run in the image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envgraph.testing.container import RUNTIMES, probe
from tests.services import missing

ROOT = Path(__file__).resolve().parents[2]


def demo(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "envgraph.testing.demo", "--folder", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.slow
def test_the_demo_runs_to_its_end(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo")
    if "pip download failed" in done.stderr:
        missing(f"no wheels: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout
    steps = [
        "$ envgraph plan",
        "$ envgraph apply",
        "No changes",
        "right on unseen points",
        "train:2",
    ]
    places = [said.index(step) for step in steps]
    assert places == sorted(places)
    assert said.count("No changes") == 1
    ran_in_image = "run train --container" in said
    assert ran_in_image or "Not run: " in said
    assert ran_in_image == any(probe(name).works for name in RUNTIMES[:2])
    assert said.count("right on unseen points") == (2 if ran_in_image else 1)


def test_the_demo_never_deletes_a_folder_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    done = demo(tmp_path)
    assert done.returncode == 1
    assert "was not made by the demo" in done.stderr
    assert (tmp_path / "mine").read_text() == "keep"
