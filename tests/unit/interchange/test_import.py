"""Locks of other tools: read whole, checked against the archives, found again by the next plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.apply.importing import Imported, ImportQuestion
from envgraph.errors import FetchError, InputError, IntegrityError
from envgraph.interchange.condalock import conda_lock
from envgraph.interchange.explicit import explicit
from envgraph.model.locked import LockedEnvironment
from tests.exchange import PACKAGES, Machine, good
from tests.services import Channel


@pytest.fixture
def giver(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", name="giver")
    machine.environment("train", *PACKAGES)
    good(machine.apply())
    return machine


@pytest.fixture
def taker(tmp_path: Path, demo_channel: Channel) -> Machine:
    return Machine(tmp_path / "taker", demo_channel.url, id="bbbb0002", name="taker")


def locked(machine: Machine, name: str = "train") -> LockedEnvironment:
    with machine.open(offline=True) as workspace:
        return workspace.lock_of(workspace.find(name))


def take(machine: Machine, file: Path, name: str | None = None) -> Imported:
    with machine.open() as workspace:
        return workspace.importer.run(ImportQuestion(file, name))


def files(machine: Machine) -> list[str]:
    return sorted(
        str(path.relative_to(machine.folder))
        for path in machine.folder.rglob("*")
        if path.is_file() and path.name != "envgraph.yaml"
    )


def same_packages(one: LockedEnvironment, other: LockedEnvironment) -> bool:
    def bytes_of(lock: LockedEnvironment) -> list[tuple[str, ...]]:
        return [(p.manager, p.name, p.version, p.build, p.sha256.hex) for p in lock.packages]

    return bytes_of(one) == bytes_of(other)


def settled(machine: Machine) -> None:
    """The plan needs no solve: the channel may be gone."""
    machine.settings(channels={"demo": "file:///nowhere"})
    plan = machine.plan(offline=True)
    assert plan.applyable, plan.diagnostics
    assert plan.summary["resolve"] == 0


def test_our_own_lockfile_keeps_every_package(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    lock = locked(giver)
    file = tmp_path / "train.conda-lock.yml"
    file.write_text(conda_lock([lock]).text)
    done = take(taker, file)
    assert done.name == "train"
    assert done.fetched == 0
    settled(taker)
    taker.settings()
    good(taker.apply())
    mine = locked(taker)
    assert mine.packages == lock.packages


def foreign(text: str) -> str:
    """The lockfile as conda-lock would have written it: without what envgraph adds."""
    head, _, _ = text.partition("  custom_metadata:")
    tail = text[text.index("\npackage:") :]
    return head.rstrip() + tail


def test_a_foreign_conda_lock_is_completed_from_the_archives(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    lock = locked(giver)
    file = tmp_path / "conda-lock.yml"
    file.write_text(foreign(conda_lock([lock]).text))
    assert "envgraph" not in file.read_text().partition("package:")[2]
    done = take(taker, file, "again")
    assert done.fetched == len(lock.packages)
    assert done.bytes == sum(p.size for p in lock.packages)
    settled(taker)
    good(taker.apply(offline=True))  # every archive is here already
    mine = locked(taker, "again")
    assert same_packages(mine, lock)
    for ours, theirs in zip(mine.packages, lock.packages, strict=True):
        assert (ours.noarch, ours.size, ours.md5) == (theirs.noarch, theirs.size, theirs.md5)
        assert set(ours.depends) == set(theirs.depends)
    with giver.open() as one, taker.open() as other:
        assert one.find("train").image == other.find("again").image


@pytest.mark.parametrize("hashed", ["sha256", "md5", "none"])
def test_an_explicit_list(giver: Machine, taker: Machine, tmp_path: Path, hashed: str) -> None:
    lock = locked(giver)
    text = explicit(lock, "train:1").text
    for package in lock.packages:
        mark = f"#sha256:{package.sha256.hex}"
        assert mark in text
        if hashed != "sha256":
            text = text.replace(mark, f"#{package.md5}" if hashed == "md5" else "")
    file = tmp_path / "train.txt"
    file.write_text(text)
    done = take(taker, file)
    assert done.packages == {"linux-64": len(lock.packages)}
    settled(taker)
    good(taker.apply(offline=True))
    assert same_packages(locked(taker), lock)


def test_a_wrong_md5_imports_nothing(giver: Machine, taker: Machine, tmp_path: Path) -> None:
    lock = locked(giver)
    lines = ["# platform: linux-64", "@EXPLICIT"]
    lines += [f"{p.url}#{'0' * 32}" for p in lock.packages[:2]]
    lines += [f"{p.url}#{p.md5}" for p in lock.packages[2:]]
    file = tmp_path / "train.txt"
    file.write_text("\n".join(lines))
    with pytest.raises(IntegrityError) as caught:
        take(taker, file)
    assert [d.code for d in caught.value.diagnostics] == ["wrong-hash"] * 2
    assert files(taker) == []


def test_an_archive_that_is_gone_is_named(giver: Machine, taker: Machine, tmp_path: Path) -> None:
    [first, *_] = locked(giver).packages
    file = tmp_path / "train.txt"
    file.write_text(f"@EXPLICIT\n{first.url.replace(first.name, 'absent')}\n")
    with pytest.raises(FetchError, match="absent"):
        take(taker, file)
    assert files(taker) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("version: 1000\nmetadata: {}\npackage: []\n", "lock-version"),
        ("version: true\nmetadata: {}\npackage: []\n", "lock-version"),
        ("version: 1\nmetadata: []\npackage: []\n", "lock-format"),
        ("@EXPLICIT\nnumpy\n", "explicit-line"),
        ("@EXPLICIT\nhttps://x.org/c/noarch/a-1-0.conda#12\n", "explicit-line"),
        (
            "@EXPLICIT\nhttps://x.org/c/osx-64/a-1-0.conda\nhttps://x.org/c/win-64/b-1-0.conda\n",
            "explicit-platform",
        ),
        ("@EXPLICIT\nhttps://x.org/c/osx-64/a-1-0.conda\n", "import-platform"),
        ("hello\n", "import-kind"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name(
    taker: Machine, tmp_path: Path, text: str, code: str
) -> None:
    file = tmp_path / "some.txt"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        take(taker, file)
    assert caught.value.diagnostics[0].code == code
    assert files(taker) == []


def test_nothing_is_overwritten(giver: Machine, taker: Machine, tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text(explicit(locked(giver), "train").text)
    taker.environment("train", "alpha")
    before = files(taker)
    with pytest.raises(InputError) as caught:
        take(taker, file)
    assert caught.value.diagnostics[0].code == "exists"
    assert files(taker) == before
