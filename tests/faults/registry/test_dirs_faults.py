"""kill -9 and failing system calls at any moment: a registry in a folder stays whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.api import Digest, Repository
from envgraph.model.oci import read_object
from envgraph.testing.registry.material import push
from envgraph_dirs.registry import DirsRegistry
from tests.contract.test_dirs_folder import indexed
from tests.faults.registry.worker import LAYER, NAME, WORK, begin
from tests.faults.store.tools import Worker, numbers, place


class Pusher(Worker):
    """A worker of ``worker.py`` beside this file, with every package at hand."""

    def __init__(self, kind: str, root: Path) -> None:
        script = Path(__file__).with_name("worker.py")
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(script), kind, str(root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.tracer = None
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with place(tmp_path) as chosen:
        yield chosen


def prepare(kind: str, root: Path) -> None:
    """What is there before the worker begins."""
    registry = DirsRegistry(root)
    if kind == "move":
        begin(registry.repository(NAME))
    if kind == "mount":
        push(registry.repository("layers"), LAYER)


def assert_whole(root: Path) -> None:
    """Every file that has a digest's name has its bytes; every tag means a whole manifest."""
    for path in root.rglob("blobs/sha256/*"):
        assert Digest.of(path.read_bytes()).hex == path.name
    repository = DirsRegistry(root).repository(NAME)
    for tag in repository.tags():
        if repository.resolve(tag) is None:
            continue
        manifest = repository.get_manifest(tag)
        document = read_object(manifest.data, tag)
        parts = [document["config"], *document["layers"]]
        assert not repository.missing(Digest(part["digest"]) for part in parts)


def assert_finished(kind: str, root: Path) -> None:
    """The work, done once more by somebody else, ends as if nothing had been."""
    repository: Repository = DirsRegistry(root).repository(NAME)
    expected = WORK[kind](repository)
    assert repository.get_manifest("1.0").data == expected
    tags = {"begin": {"1.0"}, "mount": {"1.0"}, "move": {"1.0", "report"}}[kind]
    assert set(repository.tags()) == tags == set(indexed(root))
    assert not repository.missing([Digest.of(LAYER)])
    assert_whole(root)


CALLS = ["/^mkdir", "/^rename", "/^link", "/^unlink", "/^fsync", "write", "/^fchmod"]


@pytest.mark.services
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", WORK)
def test_killed_at_every_system_call(folder: Path, kind: str, call: str) -> None:
    root = folder / "registry"
    hits = 0
    for number in numbers(2):
        prepare(kind, root)
        worker = Pusher(kind, root)
        worker.trace(call, f"signal=KILL:when={number}", folder / "log")
        said = worker.go()
        killed = worker.process.returncode == -9
        assert killed or said[-1] == "done"
        hits += killed
        if root.exists():
            assert_whole(root)
        assert_finished(kind, root)
        shutil.rmtree(root)
        if not killed:
            break
    assert hits or (kind, call) in {
        ("begin", "/^link"), ("begin", "/^unlink"), ("move", "/^link"), ("mount", "/^unlink"),
    }  # fmt: skip


FAULTS = [
    ("write", "ENOSPC"), ("write", "EIO"), ("write", "EINTR"), ("/^fsync", "EIO"),
    ("/^rename", "EROFS"), ("/^rename", "ESTALE"), ("/^mkdir", "ENOSPC"), ("/^link", "EXDEV"),
    ("/^link", "EMLINK"), ("/^open", "EMFILE"), ("/^open", "ESTALE"), ("/^getdents", "EIO"),
    ("/^unlink", "EIO"), ("/^read", "EINTR"),
]  # fmt: skip


@pytest.mark.services
@pytest.mark.parametrize(("call", "fault"), FAULTS)
@pytest.mark.parametrize("kind", ["mount", "move"])
def test_a_failing_call_is_a_refusal(folder: Path, kind: str, call: str, fault: str) -> None:
    root = folder / "registry"
    for number in numbers(3):
        prepare(kind, root)
        worker = Pusher(kind, root)
        worker.trace(call, f"error={fault}:when={number}", folder / "log")
        said = worker.go()
        assert said, worker.process.returncode
        assert said[-1] == "done"
        refused = said[0].startswith("refused ")
        assert not refused or fault not in {"EINTR", "EXDEV", "EMLINK"}, said
        assert_whole(root)
        if (root / NAME / "_new").exists() and call != "/^unlink":
            assert os.listdir(root / NAME / "_new") == []  # noqa: PTH208
        assert_finished(kind, root)
        shutil.rmtree(root)
        if not worker.was_hit():
            assert not refused
            break


@pytest.mark.services
@pytest.mark.parametrize("fault", ["EIO", "ESTALE", "EINTR"])
@pytest.mark.parametrize("call", ["readv", "/^open"])
def test_a_reader_goes_on_after_a_passing_failure(folder: Path, call: str, fault: str) -> None:
    """A file of a shared file system that fails once is read to its end."""
    root = folder / "registry"
    begin(DirsRegistry(root).repository(NAME))
    for number in numbers(1):
        worker = Pusher("fetch", root)
        worker.trace(call, f"error={fault}:when={number}", folder / "log")
        assert worker.go() == ["done"]
        if not worker.was_hit():
            assert number > 1
            break


@pytest.mark.services
def test_a_reader_gives_up_on_a_lasting_failure(folder: Path) -> None:
    root = folder / "registry"
    begin(DirsRegistry(root).repository(NAME))
    worker = Pusher("fetch", root)
    worker.trace("readv", "error=EIO:when=2+", folder / "log")
    assert worker.go() == ["refused registry-down", "done"]


def test_many_processes_push_to_one_repository(folder: Path) -> None:
    """Each moves the same tags; the end is what one of them left, and the index says the same."""
    root = folder / "registry"
    workers = [Pusher(kind, root) for kind in ("begin", "move", "begin", "move", "begin", "move")]
    for worker in workers:
        assert worker.process.stdin is not None
        worker.process.stdin.write("go\n")
        worker.process.stdin.flush()
    for worker in workers:
        out, err = worker.process.communicate()
        assert err == ""
        assert out.endswith("done\n")
    assert_whole(root)
    repository = DirsRegistry(root).repository(NAME)
    assert set(indexed(root)) == set(repository.tags())
    for tag, digest in indexed(root).items():
        assert str(repository.get_manifest(tag).digest) == digest
