"""One file with versions in it: written the same each time, and trusted in nothing."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from envgraph.errors import EnvgraphError
from tests.exchange import PACKAGES, Machine, good
from tests.services import Channel


@pytest.fixture
def giver(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", name="giver")
    machine.environment("train", *PACKAGES)
    machine.environment("my score", "alpha", "settings")
    good(machine.apply())
    return machine


@pytest.fixture
def taker(tmp_path: Path, giver: Machine) -> Machine:
    return Machine(tmp_path / "taker", "file:///nowhere", id="bbbb0002", name="taker")


def bundle(machine: Machine, path: Path, *references: str, packages: bool = False) -> Path:
    with machine.open(offline=True) as workspace:
        workspace.traffic.bundle(references, path, packages=packages)
    return path


def test_a_bundle_needs_no_network_and_no_channel(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    file = bundle(giver, tmp_path / "two.tar", "train", "my score", packages=True)
    giver.registry.calls.clear()
    with taker.open(offline=True) as workspace:
        pulled = workspace.traffic.unbundle(file)
        assert sorted(p.record.environment for p in pulled) == ["my score", "train"]
        assert all(p.registered and p.bytes_moved >= 0 for p in pulled)
        for name in ("train", "my score"):
            record = workspace.find(name)
            lock = workspace.lock_of(record)
            assert not workspace.store.packages.missing(p.sha256 for p in lock.packages)
            with giver.open() as other:
                assert other.find(name).image == record.image
        assert workspace.store.verify().bad == ()
        again = workspace.traffic.unbundle(file)
        assert [p.bytes_moved for p in again] == [0, 0]
        assert [p.record for p in again] == [p.record for p in pulled]
    assert giver.registry.calls == []


def test_equal_versions_give_equal_files(giver: Machine, tmp_path: Path) -> None:
    one = bundle(giver, tmp_path / "one.tar", "train", "my score")
    other = bundle(giver, tmp_path / "other.tar", "my score", "train", "train")
    assert one.read_bytes() == other.read_bytes()


def test_several_versions_of_one_environment(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    giver.environment("train", "alpha=1.0")
    good(giver.apply())
    file = bundle(giver, tmp_path / "two.tar", "train:1", "train:2")
    with taker.open() as workspace:
        workspace.traffic.unbundle(file)
        listed = workspace.list_environments(all=True)
        assert sorted((r.version, r.sequence) for r in listed) == [("1", 1), ("2", 2)]
        assert workspace.find("train:1").image != workspace.find("train:2").image


Members = dict[str, bytes]


def members(file: Path) -> Members:
    with tarfile.open(file) as archive:
        found = {m.name: archive.extractfile(m) for m in archive if m.isreg()}
        return {name: body.read() for name, body in found.items() if body is not None}


def made_anew(parts: Members) -> set[str]:
    """An image's config and its entrypoint's layer: made from lock and layers, not taken."""
    [entry] = [
        entry
        for entry in json.loads(parts["index.json"])["manifests"]
        if "catalogue" not in entry["annotations"]["org.opencontainers.image.ref.name"]
    ]
    manifest = json.loads(parts["blobs/sha256/" + entry["digest"].removeprefix("sha256:")])
    named = [manifest["config"], manifest["layers"][-1]]
    return {item["digest"].removeprefix("sha256:") for item in named}


def written(path: Path, parts: Members, *, more: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in more:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def refused(taker: Machine, file: Path) -> str:
    shutil.rmtree(taker.store, ignore_errors=True)  # whole blobs of an earlier try would be used
    with taker.open() as workspace:
        with pytest.raises(EnvgraphError) as error:
            workspace.traffic.unbundle(file)
        assert workspace.list_environments() == []
        assert not list((taker.store / "actions").iterdir())
    return error.value.diagnostics[0].code


def test_damaged_and_hostile_files_are_refused_and_nothing_is_kept(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    good_file = bundle(giver, tmp_path / "good.tar", "train")
    parts = members(good_file)
    data = good_file.read_bytes()
    bad = tmp_path / "bad.tar"
    codes = set()
    for name, content in parts.items():  # each blob in turn: changed, cut, gone
        if name.removeprefix("blobs/sha256/") in made_anew(parts):
            continue
        for change in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], None):
            changed = {n: c for n, c in parts.items() if n != name}
            if change is not None:
                changed[name] = change
            codes.add(refused(taker, written(bad, changed)))
    assert codes <= {
        "bundle", "registry-digest", "registry-down", "registry-record", "not-found",
        "image-document",
    }, codes  # fmt: skip
    for size in (0, 100, 512, 1024, len(data) // 2, len(data) - 1500):
        bad.write_bytes(data[:size])
        refused(taker, bad)
    for name in ("../x", "/x", "blobs/../../x", "a\\b"):
        info = tarfile.TarInfo(name)
        info.size = 1
        assert refused(taker, written(bad, parts, more=(info,))) == "bundle"
    for kind in (tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
        info = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
        info.type = kind
        info.linkname = "/etc/passwd"
        assert refused(taker, written(bad, parts, more=(info,))) == "bundle"
    info = tarfile.TarInfo("index.json")
    info.size = 2
    assert refused(taker, written(bad, parts, more=(info,))) == "bundle"
    bad.write_bytes(b"")
    assert refused(taker, bad) == "bundle"
    assert refused(taker, tmp_path / "nowhere.tar") == "no-bundle"
    with taker.open() as workspace:
        assert len(workspace.traffic.unbundle(good_file)) == 1


def test_what_is_lost_here_is_said_and_no_file_is_left(giver: Machine, tmp_path: Path) -> None:
    shutil.rmtree(giver.store / "packages")
    with giver.open() as workspace, pytest.raises(EnvgraphError, match="archive of"):
        workspace.traffic.bundle(["train"], tmp_path / "x.tar", packages=True)
    assert not (tmp_path / "x.tar").exists()
