"""What is asked of a builder: nothing where nothing changed, and nothing twice.

Calls are counted at grpc's channel, connections and bytes on a socket before dockerd's.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.buildkit import forget, opened
from tests.built import BuiltDesk
from tests.counting import methods
from tests.daemons import Daemon
from tests.services import make_demo_channel
from tests.wire import Traffic, Wire

pytestmark = [pytest.mark.services, pytest.mark.slow]

SHARING = 8
LARGE = 3_000_000


@dataclass(slots=True)
class Counted:
    """A desk whose builder is BuildKit behind a counting socket."""

    built: BuiltDesk
    wire: Wire
    notes: Path

    def run(self, *words: str) -> tuple[Counter[str], Traffic]:
        """One command that must succeed: its calls, and what went over the wire."""
        desk = self.built.desk
        self.notes.unlink(missing_ok=True)
        self.wire.look()
        done = subprocess.run(
            [sys.executable, "-m", "tests.counting", str(self.notes), *words, "--offline"],
            cwd=desk.folder,
            env=desk.environ({"PYTHONPATH": str(Path(__file__).parents[2])}),
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return methods(self.notes), self.wire.look()

    def apply(self) -> tuple[Counter[str], Traffic]:
        """``apply``."""
        return self.run("apply", "--auto-approve")


@pytest.fixture
def counted(tmp_path: Path, current_dockerd: Daemon) -> Iterator[Counted]:
    channel = make_demo_channel(tmp_path / "channel")
    make_base(tmp_path / "base")
    built = BuiltDesk.make(tmp_path / "desk", channel.url, tmp_path / "base", tmp_path / "none")
    with (
        tempfile.TemporaryDirectory(prefix="eg-", dir="/tmp") as short,
        Wire(current_dockerd.address, Path(short)) as wire,
    ):
        built.settings(builder={"type": "buildkit", "address": wire.address})
        yield Counted(built, wire, tmp_path / "calls")


def large(path: Path, seed: str) -> None:
    """A file that compression cannot make small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(seed).randbytes(LARGE))


def test_nothing_changed_asks_nothing(counted: Counted) -> None:
    built = counted.built
    built.steps("steps", "RUN echo once > /once", "ENV A=1")
    built.context("context", "FROM scratch\nCOPY app /app\n", {"app/main.py": "print()\n"})
    calls, traffic = counted.apply()
    assert calls["Solve"] == 3
    assert traffic.connections > 0
    for lost in ((), ("memo",)):
        for words in (("plan",), ("plan", "--no-memo"), ("apply", "--auto-approve")):
            for name in lost:
                shutil.rmtree(built.desk.store / name, ignore_errors=True)
            calls, traffic = counted.run(*words)
            assert (calls.total(), traffic.connections) == (0, 0), (words, lost)
            assert not counted.notes.exists(), "grpc was not even imported"


def test_one_changed_file_moves_its_own_layer_alone(counted: Counted) -> None:
    built = counted.built
    folder = built.context(
        "context", "FROM scratch\nCOPY data /data\nCOPY app /app\n",
        {"app/main.py": "print(1)\n", ".dockerignore": "Dockerfile\n"},
    )  # fmt: skip
    large(folder / "data/large.bin", str(folder))
    _, traffic = counted.apply()
    assert traffic.sent > LARGE
    assert traffic.received > LARGE
    _, first = built.image("context")
    (folder / "app/main.py").write_text("print(2)\n")
    calls, traffic = counted.apply()
    assert calls["Solve"] == 1
    assert traffic.sent + traffic.received < LARGE / 10
    _, second = built.image("context")
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, False]
    # the memo is a record in the store; without it the layer comes again, and is the same
    (folder / "app/main.py").write_text("print(3)\n")
    for path in (built.desk.store / "actions").glob("knownlayer1*"):
        path.unlink()
    _, traffic = counted.apply()
    assert traffic.received > LARGE
    _, third = built.image("context")
    assert third[0] == second[0]


def test_the_step_before_is_not_sent_back(counted: Counted, current_dockerd: Daemon) -> None:
    built = counted.built
    large(built.desk.folder / "environments/data/large.bin", str(built.desk.folder))
    steps = ["RUN echo a > /a", "COPY data /data", "RUN cat /a > /b"]
    built.settings(
        builder={"type": "buildkit", "address": counted.wire.address, "lend_layers": True}
    )
    built.steps("train", *steps)
    _, traffic = counted.apply()
    assert LARGE < traffic.received < 2 * LARGE
    _, first = built.image("train")

    steps.append("RUN wc -c /data/large.bin > /count")
    built.steps("train", *steps)
    calls, traffic = counted.apply()
    assert calls["Solve"] == 1
    assert traffic.sent + traffic.received < LARGE / 10

    with opened(current_dockerd.address) as builder:
        forget(builder)
    steps.append("RUN cat /count /b > /both")
    built.steps("train", *steps)
    calls, traffic = counted.apply()
    assert calls["Solve"] == 2, "BuildKit had lost its own layers: it was given the host's"
    assert traffic.sent > LARGE
    assert traffic.received < LARGE / 10

    steps.append("RUN cat /both > /last")
    built.steps("train", *steps)
    calls, traffic = counted.apply()
    assert calls["Solve"] == 1, "and it is known that it has these now"
    assert traffic.sent + traffic.received < LARGE / 10
    _, last = built.image("train")
    assert last[: len(first)] == first
    assert len(last) == len(first) + 3


def test_a_step_that_reads_times_gives_the_same_layer_wherever_it_runs(
    counted: Counted, current_dockerd: Daemon
) -> None:
    """A layer may not depend on whether BuildKit built the step before, or was given it."""
    built = counted.built
    steps = ["RUN echo a > /a", "RUN stat -c %Y /a > /time"]
    built.steps("train", *steps)
    counted.apply()
    _, there = built.image("train")
    with opened(current_dockerd.address) as builder:
        forget(builder)
    built.steps("other", steps[0], "RUN stat -c %Y /a >/time")
    counted.apply()
    _, given = built.image("other")
    assert there[2].name == given[2].name


@pytest.mark.parametrize("builder", ["buildkit", "buildah"])
def test_a_shared_prefix_runs_once(tmp_path: Path, current_dockerd: Daemon, builder: str) -> None:
    channel = make_demo_channel(tmp_path / "channel")
    make_base(tmp_path / "base")
    storage = tmp_path / "storage"
    built = BuiltDesk.make(tmp_path / "desk", channel.url, tmp_path / "base", storage)
    if builder == "buildkit":
        built.settings(builder={"type": "buildkit", "address": current_dockerd.address})
    count = f"--mount=type=cache,id={uuid.uuid4().hex},target=/count"
    prefix = [
        f"RUN {count} echo first >> /count/runs && echo a > /a",
        "ENV SHARED=yes",
        f"RUN {count} echo second >> /count/runs && cat /a > /b",
    ]
    for number in range(SHARING):
        built.steps(f"e{number}", *prefix, f"RUN echo {number} $SHARED > /own")
    built.desk.apply("--offline", "--parallelism", str(SHARING))
    built.steps("reader", f"RUN {count} cat /count/runs > /read")
    built.desk.apply("--offline")
    _, layers = built.image("reader")
    assert read(layers[-1], "read").split() == ["first", "second"]
    shared = {tuple(path.name for path in built.image(f"e{n}")[1][:-1]) for n in range(SHARING)}
    assert len(shared) == 1


def read(layer: Path, name: str) -> str:
    """A file in a zstd layer."""
    import io
    import tarfile

    import zstandard

    data = zstandard.ZstdDecompressor().stream_reader(
        layer.read_bytes(), read_across_frames=True
    ).readall()  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = tar.extractfile(name)
        assert found is not None
        return found.read().decode()
