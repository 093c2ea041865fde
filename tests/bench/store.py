"""The store: take in an image's blobs durably, take them in again, verify them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.bench import ROOT, Bench, envgraph, environment, remove
from tests.bench.children import command
from tests.bench.measure import Contender, Sample, Table, process, race
from tests.bench.science import science_of

CP = "cp -a"
GIT = ["-c", "core.fsync=none", "-c", "gc.auto=0"]


def run(bench: Bench) -> Iterator[Table]:
    """Three tables over the same files: the blobs of the scientific environment's image."""
    home = bench.folder("ingest")
    blobs = home / "blobs"
    source = science_of(bench).full / "blobs/sha256"
    shutil.copytree(source, blobs, copy_function=shutil.copyfile)
    paths = list(blobs.iterdir())
    size = sum(path.stat().st_size for path in paths)
    about = f"{len(paths)} blobs, {size / 1e6:.0f} MB, in the page cache."
    places = _Places(bench, home, blobs)
    yield race(
        Table(
            "Store, first ingest",
            f"{about} envgraph is durable when it returns, and so is `cp -a` with `sync -f`; the "
            "others are not.",
            CP,
        ),
        places.first(),
        bench.rounds,
    )
    yield race(
        Table("Store, the same again", f"{about} Nothing changed.", "envgraph store"),
        places.again(),
        bench.rounds,
    )
    yield race(
        Table(
            "Store, verify", f"{about} Every byte is read and compared with its hash.", "hashlib"
        ),
        places.verify(),
        bench.rounds,
    )


class _Places:
    """Where each contender puts the files."""

    def __init__(self, bench: Bench, home: Path, blobs: Path) -> None:
        self._home, self._blobs = home, blobs
        self._store, self._copy = home / "store", home / "copy"
        self._git_folder, self._restic_folder = home / "git", home / "restic"
        self._git = bench.find("git", "git add")
        self._restic = bench.find("restic", "restic backup")

    def first(self) -> list[Contender]:
        found = [
            Contender(CP, self._cp, lambda: _gone(self._copy)),
            Contender("cp -a, sync -f", lambda: self._cp(sync=True), lambda: _gone(self._copy)),
            Contender("envgraph store", self._ingest, lambda: _gone(self._store)),
        ]
        if self._git:
            found.append(Contender("git add", self._git_add, self._git_init))
        if self._restic:
            found.append(Contender("restic backup", self._restic_backup, self._restic_init))
        return found

    def again(self) -> list[Contender]:
        found = [
            Contender("envgraph store", self._ingest),
            Contender("cp -au", lambda: process(["cp", "-au", f"{self._blobs}/.", self._copy])),
        ]
        if self._git:
            found.append(Contender("git add", self._git_add))
        if self._restic:
            found.append(Contender("restic backup", self._restic_backup))
        return found

    def verify(self) -> list[Contender]:
        env = environment(self._store)
        found = [
            Contender("hashlib", lambda: process(command("hash", self._blobs), env=env, cwd=ROOT)),
            Contender(
                "envgraph store verify",
                lambda: envgraph("store", "verify", store=self._store, cwd=self._home),
            ),
        ]
        if self._git:
            git = self._git
            words = [git, *GIT, "fsck", "--full", "--no-progress"]
            found.append(Contender("git fsck", lambda: process(words, cwd=self._git_folder)))
        if self._restic:
            found.append(Contender("restic check", self._restic_check))
        return found

    def _cp(self, *, sync: bool = False) -> Sample:
        script = 'cp -a "$0" "$1"' + (' && sync -f "$1"' if sync else "")
        return process(["sh", "-c", script, self._blobs, self._copy])

    def _ingest(self) -> Sample:
        words = command("ingest", self._store, self._blobs)
        return process(words, env=environment(self._store), cwd=ROOT)

    def _git_init(self) -> None:
        _gone(self._git_folder)
        assert self._git
        process([self._git, "init", "-q", self._git_folder])

    def _git_add(self) -> Sample:
        assert self._git
        words = [self._git, *GIT, f"--git-dir={self._git_folder}/.git", "--work-tree=."]
        return process([*words, "add", "."], cwd=self._blobs)

    def _restic_env(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_REPOSITORY": str(self._restic_folder),
            "HOME": str(self._home),
        }

    def _restic_init(self) -> None:
        _gone(self._restic_folder)
        assert self._restic
        process([self._restic, "init", "-q"], env=self._restic_env())

    def _restic_backup(self) -> Sample:
        assert self._restic
        return process([self._restic, "backup", "-q", self._blobs], env=self._restic_env())

    def _restic_check(self) -> Sample:
        assert self._restic
        return process([self._restic, "check", "-q", "--read-data"], env=self._restic_env())


def _gone(path: Path) -> None:
    if path.exists():
        remove(path)
