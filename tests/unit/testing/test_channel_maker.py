from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import msgpack
import pytest
import zstandard

from envgraph.testing.channel import (
    PLACEHOLDER,
    ChannelMaker,
    File,
    Link,
    Package,
    make_package,
    synthetic_repodata,
)
from envgraph.testing.channel.indexing import Record, index_with_rattler
from envgraph.testing.channel.msgpack import pack
from tests.services import Channel


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def members(data: bytes, part: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.startswith(part))
        tar = zstandard.ZstdDecompressor().decompress(archive.read(name))
    found = {}
    with tarfile.open(fileobj=BytesIO(tar)) as opened:
        for member in opened:
            handle = opened.extractfile(member) if member.isfile() else None
            found[member.name] = (member, handle.read() if handle else b"")
    return found


def sample() -> Package:
    return make_package(
        "sample",
        files={
            "bin/run": File(f"#!{PLACEHOLDER}/bin/sh\n", executable=True),
            "lib/data.bin": b"\0\1" + PLACEHOLDER.encode() + b"/lib\0",
            "lib/link": Link("../bin/run"),
            "share/plain": "text",
        },
        depends=["other >=1"],
        license="MIT",
    )


def test_the_placeholder_is_as_long_as_conda_builds() -> None:
    assert len(PLACEHOLDER) == 255


def test_a_package_says_what_it_holds() -> None:
    data = sample().to_bytes()
    info = members(data, "info-")
    paths = {row["_path"]: row for row in json.loads(info["info/paths.json"][1])["paths"]}
    assert paths["bin/run"]["file_mode"] == "text"
    assert paths["lib/data.bin"]["file_mode"] == "binary"
    assert paths["lib/data.bin"]["prefix_placeholder"] == PLACEHOLDER
    assert paths["lib/link"]["path_type"] == "softlink"
    assert paths["lib/link"]["sha256"] == paths["bin/run"]["sha256"]
    assert "file_mode" not in paths["share/plain"]
    payload = members(data, "pkg-")
    assert payload["bin/run"][0].mode == 0o755
    assert payload["share/plain"][0].mode == 0o644
    assert payload["lib/link"][0].linkname == "../bin/run"
    assert {member.uid for member, _ in payload.values()} == {0}


@pytest.mark.parametrize("archive_format", ["conda", "tar.bz2"])
def test_equal_packages_give_equal_bytes(archive_format: str) -> None:
    assert sample().to_bytes(archive_format) == sample().to_bytes(archive_format)  # type: ignore[arg-type]


def test_a_channel_made_twice_is_the_same_to_the_last_byte(
    demo_channel: Channel, tmp_path: Path
) -> None:
    from tests.services import make_demo_channel

    again = make_demo_channel(tmp_path / "again")
    assert tree(again.folder) == tree(demo_channel.folder)


def test_the_index_says_what_rattlers_own_indexer_says(
    demo_channel: Channel, tmp_path: Path
) -> None:
    for path in demo_channel.folder.glob("*/*"):
        if path.name.endswith((".conda", ".tar.bz2")):
            copy = tmp_path / path.relative_to(demo_channel.folder)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    index_with_rattler(tmp_path)
    for subdir in ("noarch", "linux-64"):
        ours = json.loads((demo_channel.folder / subdir / "repodata.json").read_text())
        theirs = json.loads((tmp_path / subdir / "repodata.json").read_text())
        for section in ("packages", "packages.conda"):
            for record in theirs[section].values():
                del record["indexed_timestamp"]
            assert ours[section] == theirs[section]


def test_records_can_be_changed_and_dropped(tmp_path: Path) -> None:
    def patch(name: str, record: Record) -> Record | None:
        record.pop("sha256")
        return None if name.startswith("gone") else record

    ChannelMaker(tmp_path).add(make_package("gone"), make_package("kept")).index(patch=patch)
    index = json.loads((tmp_path / "linux-64" / "repodata.json").read_text())
    assert list(index["packages.conda"]) == ["kept-1.0-0.conda"]
    assert "sha256" not in index["packages.conda"]["kept-1.0-0.conda"]


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 127, 128, 255, 256, 65535, 65536, 1 << 32, (1 << 64) - 1, -1, -32,
        -33, -(1 << 63), "", "a" * 31, "a" * 32, "a" * 255, "é" * 40000, b"", b"x" * 300,
        b"x" * 70000, [], [1] * 15, [1] * 16, [0] * 70000, {}, {str(i): i for i in range(16)},
        {"a": [None, {"b": b"c"}]},
    ],
)  # fmt: skip
def test_messagepack_is_read_by_others(value: object) -> None:
    assert msgpack.unpackb(pack(value)) == value


def test_messagepack_refuses_what_it_cannot_say() -> None:
    with pytest.raises(TypeError, match="float"):
        pack(1.5)
    with pytest.raises(ValueError, match="64 bits"):
        pack(1 << 64)


def test_a_synthetic_channel_has_as_many_records_as_asked(tmp_path: Path) -> None:
    channel = synthetic_repodata(tmp_path / "a", 10_000)
    again = synthetic_repodata(tmp_path / "b", 10_000)
    assert channel.records == 10_000
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert channel.specs(20) == again.specs(20)
    assert len(set(channel.specs(20))) == 20
