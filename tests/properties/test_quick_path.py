"""The quick answer of ``plan`` is the full answer, whatever happened in between."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envgraph.refresh import quick
from envgraph.workspace import Workspace
from tests.desk import Desk
from tests.services import Channel

ACTIONS = (
    "apply", "edit", "reorder", "comment", "another", "remove", "drop lock", "touch", "settings",
    "gc", "lose a layer", "requirements", "new folder",
)  # fmt: skip


@pytest.fixture
def no_racy_window() -> Iterator[None]:
    """Trust files of this moment: the test itself waits for the clock's next tick."""
    before, quick.RACY_NS = quick.RACY_NS, 0
    yield
    quick.RACY_NS = before


def next_tick(folder: Path) -> None:
    """Return when a new file would get a later time than any before it."""
    probe = folder / "tick"
    probe.write_text("")
    first = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == first:
        probe.write_text("")
    probe.unlink()


def answers(desk: Desk, *, memo: bool) -> dict[str, Any] | None:
    """What ``plan --json`` answers by the quick path (None: no answer) or the full one."""
    os.environ["ENVGRAPH_STORE"] = str(desk.store)
    out = io.StringIO()
    if memo:
        with contextlib.redirect_stdout(out):
            code = quick.answer(["plan", "--json", "-C", str(desk.folder)])
        return None if code is None else json.loads(out.getvalue())
    with Workspace.open(desk.folder, store=desk.store) as workspace:
        plan = workspace.plan()
        document = plan.to_json()
        workspace.remember_nothing_to_do(plan, human="", answer=json.dumps(document))
    return document


ZSTD = b"\x28\xb5\x2f\xfd"


def act(desk: Desk, action: str, count: int) -> None:
    environments = desk.folder / "environments"
    train = environments / "train.yml"
    if action == "apply":
        with Workspace.open(desk.folder, store=desk.store) as workspace:
            workspace.apply(workspace.plan(), parallelism=1)
    elif action == "edit":
        desk.environment("train", f"alpha={('1.0', '1.1', '2.0')[count % 3]}", "gamma")
    elif action == "reorder":
        desk.environment("train", *(("alpha", "gamma") if count % 2 else ("gamma", "alpha")))
    elif action == "comment" and train.exists():
        train.write_text(train.read_text() + f"# {count}\n")
    elif action == "another":
        desk.environment(f"more{count % 2}", "settings")
    elif action == "remove" and count % 2:
        (environments / "more1.yml").unlink(missing_ok=True)
    elif action == "drop lock":
        desk.lockfile("train").unlink(missing_ok=True)
    elif action == "touch" and train.exists():
        os.utime(train, ns=(count, count))
    elif action == "settings":
        desk.settings(image={"bytecode": "none", "max_layers": 60 + count % 2})
    elif action == "new folder":
        desk.settings(environments=["environments/*.yml", "extra/*.yml"])
        (desk.folder / "extra").mkdir(exist_ok=True)
        (desk.folder / "extra" / "x.yml").write_text(
            f"name: x{count % 2}\nchannels: [demo]\ndependencies: [settings]\n"
        )
    elif action == "gc" and desk.store.exists():
        with Workspace.open(desk.folder, store=desk.store) as workspace:
            workspace.store.gc(grace_seconds=0)
    elif action == "lose a layer" and desk.store.exists():
        with Workspace.open(desk.folder, store=desk.store) as workspace:
            # Not any blob: records hold the time, so which one is the n-th is chance, and
            # without one of its history an environment cannot be planned at all.
            paths = map(workspace.store.blobs.path, sorted(workspace.store.blobs.digests()))
            layers = [path for path in paths if path.read_bytes()[:4] == ZSTD]
            if layers:
                layers[count % len(layers)].unlink()
            workspace.store.verify(repair=True)
    elif action == "requirements":
        (desk.folder / "unrelated.txt").write_text(str(count))


@settings(
    max_examples=int(os.environ.get("ENVGRAPH_EXAMPLES", "6")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5)), min_size=4, max_size=9)
)
def test_quick_answer_equals_full_answer(
    steps: list[tuple[str, int]], demo_channel: Channel, no_racy_window: None
) -> None:
    root = Path(tempfile.mkdtemp(prefix="quick-"))
    try:
        desk = Desk(root / "desk", demo_channel.url)
        desk.environment("train", "alpha", "gamma")
        act(desk, "apply", 0)
        for action, count in steps:
            next_tick(root)
            act(desk, action, count)
            next_tick(root)
            quickly = answers(desk, memo=True)
            fully = answers(desk, memo=False)
            assert quickly is None or quickly == fully, (action, count)
    finally:
        shutil.rmtree(root)


def test_the_quick_path_is_taken_when_nothing_happened(
    tmp_path: Path, demo_channel: Channel, no_racy_window: None
) -> None:
    desk = Desk(tmp_path / "desk", demo_channel.url)
    desk.environment("train", "alpha")
    act(desk, "apply", 0)
    next_tick(tmp_path)
    assert answers(desk, memo=True) is None
    fully = answers(desk, memo=False)
    assert answers(desk, memo=True) == fully


def test_a_file_of_the_last_two_seconds_is_not_trusted(
    tmp_path: Path, demo_channel: Channel
) -> None:
    desk = Desk(tmp_path / "desk", demo_channel.url)
    desk.environment("train", "alpha")
    act(desk, "apply", 0)
    answers(desk, memo=False)
    assert quick.RACY_NS == 2_000_000_000
    assert answers(desk, memo=True) is None
