"""Start, trace and judge workers. ``ENVGRAPH_FAULT_ROUNDS=20`` makes the runs 20 times longer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import envgraph_store
from envgraph_store import Digest, Store, files
from tests.faults.store.worker import MANY, OBJECTS, content, work
from tests.services import missing, require_root, require_tool

ROUNDS = max(1, int(os.environ.get("ENVGRAPH_FAULT_ROUNDS", "1")))
WORKER = Path(__file__).with_name("worker.py")


class Worker:
    """A worker process that is ready, and starts to work at :meth:`go`."""

    def __init__(self, kind: str, root: Path, *more: str, prefix: tuple[str, ...] = ()) -> None:
        library = str(Path(envgraph_store.__file__).parents[1])
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-S", "-B", str(WORKER), kind, str(root), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": library},
        )
        self.tracer: subprocess.Popen[bytes] | None = None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready\n", self.process.communicate()

    def trace(self, calls: str, inject: str, log: Path) -> None:
        """Let strace inject a fault into the system calls that ``calls`` names."""
        self.log = log
        strace = require_tool("strace")
        self.tracer = subprocess.Popen(
            [strace, "-qq", "-o", str(log), "-p", str(self.process.pid),
             "-e", f"trace={calls}", "-e", f"inject={calls}:{inject}"],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        status = Path(f"/proc/{self.process.pid}/status")
        while "TracerPid:\t0\n" in status.read_text():
            if self.tracer.poll() is not None:
                assert self.tracer.stderr is not None
                said = self.tracer.stderr.read().decode()
                self.process.kill()
                self.process.communicate()
                missing(f"strace cannot attach: {said.strip()}")

    def go(self) -> list[str]:
        """Work to the end, whatever it is; return the lines that were said."""
        out, err = self.process.communicate("go\n")
        if self.tracer is not None:
            self.tracer.communicate()
        assert "Traceback" not in err, err
        return out.splitlines()

    def was_hit(self) -> bool:
        """Whether the fault was injected, after :meth:`go`."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "INJECTED" in text or "killed by SIGKILL" in text

    def acks(self, count: int) -> list[str]:
        """Begin to work, and return after so many acks, while it goes on."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        said = [self.process.stdout.readline() for _ in range(count)]
        assert all(line.startswith("ack ") for line in said), self.process.communicate()
        return [line.split()[1] for line in said]

    def kill(self) -> list[str]:
        """Kill it; return the acks that it still said."""
        self.process.kill()
        out, _ = self.process.communicate()
        lines = [line.split() for line in out.splitlines()]
        return [line[1] for line in lines if len(line) == 2 and line[0] == "ack"]


def assert_kept(store: Store, name: str, *, action: bool = True, ref: bool = True) -> None:
    """Everything that a worker's transaction of that name acknowledged is there and right."""
    contents = [content(name, number) for number in range(MANY)]
    digests = [Digest.of(data) for data in contents]
    for count in (OBJECTS, MANY):
        if store.packages.has(digests[count - 1]):
            break
    else:
        pytest.fail(f"the package of {name} is gone")
    for digest, data in zip(digests[: count - 1], contents, strict=False):
        assert store.blobs.read(digest) == data
    assert store.packages.read(digests[count - 1]) == contents[count - 1]
    expected = {"objects": [str(digest) for digest in digests[:count]]}
    if action:
        assert store.actions.get(name) == expected
    if ref:
        found = store.refs.get(name)
        assert found is not None
        assert found.value == expected


def assert_whole(root: Path) -> None:
    """Nothing in the store is bad, and a collection leaves no trace of what was killed."""
    with Store.open(root) as store:
        assert store.verify().bad == ()
        store.gc()
        assert not list((root / "stage").iterdir())
        assert not list((root / "quarantine").iterdir())


def numbers(step: int = 1) -> Iterator[int]:
    """Which call to hit: 1, 2, 4, 7, 11, … or, in long runs, every one."""
    number = 1
    while True:
        yield number
        number += 1 if ROUNDS > 1 else step
        step += 1


def work_here(kind: str, root: Path) -> None:
    """What a worker does, in this process."""
    with Store.open(root, disk=Unsynced()) as store:
        work(kind, store)


class Unsynced(files.Disk):
    """For the second, undisturbed run: it need not wait for the disk."""

    def sync_file(self, fd: int) -> None:
        """Do nothing."""

    def sync_folder(self, fd: int) -> None:
        """Do nothing."""

    def sync_everything(self, fd: int) -> bool:
        """Do nothing."""
        return True


def scratch() -> Path | None:
    """A folder in memory, if there is one: other programs do not disturb it."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) else None


class Volume:
    """A file system of its own, in a file, that can lose its power."""

    def __init__(self, kind: str, folder: Path) -> None:
        require_root()
        self.xfs_io = require_tool("xfs_io")
        self.image = folder / "image"
        self.mount_point = folder / "mnt"
        self.mount_point.mkdir()
        with self.image.open("wb") as file:
            file.truncate({"ext4": 64 << 20, "xfs": 320 << 20}[kind])
        subprocess.run([require_tool(f"mkfs.{kind}"), "-q", self.image], check=True)
        self.mount()

    def mount(self) -> None:
        """Mount it, as after a start of the machine."""
        command = ["mount", "-o", "loop", str(self.image), str(self.mount_point)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            missing(f"cannot mount: {done.stderr.strip()}")

    def cut(self) -> None:
        """Lose power: nothing that is not on the disk yet will ever be."""
        subprocess.run([self.xfs_io, "-x", "-c", "shutdown", self.mount_point], check=True)

    def unmount(self) -> None:
        """Take it away, once nobody uses it.

        A container that another test starts at this moment has its own copy of the mount, and
        a file system that was cut off lives on in it: so this waits until the device is gone.
        """
        subprocess.run(["umount", self.mount_point], check=True)
        until = time.monotonic() + 120
        while self._attached() and time.monotonic() < until:
            time.sleep(0.02)

    def _attached(self) -> bool:
        found = subprocess.run(
            [require_tool("losetup"), "-j", self.image], capture_output=True, check=True
        )
        return bool(found.stdout)


@contextmanager
def place(otherwise: Path) -> Iterator[Path]:
    """A new folder of :func:`scratch`, or of ``otherwise``; removed at the end."""
    folder = (scratch() or otherwise) / f"envgraph-{os.getpid()}-{os.urandom(4).hex()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def volume(kind: str, folder: Path) -> Iterator[Volume]:
    """A mounted :class:`Volume`, removed at the end."""
    with place(folder) as chosen:
        made = Volume(kind, chosen)
        try:
            yield made
        finally:
            made.unmount()
