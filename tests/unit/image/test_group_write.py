"""Joined layers: nothing is recompressed, the raw archive is one clean tar."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Literal

import pytest
import zstandard

from envgraph.errors import IntegrityError
from envgraph.image.collisions import SharedPath, find_shared_paths
from envgraph.image.compress import default_compression
from envgraph.image.content import LayerContent
from envgraph.image.fixedlayers import write_files_layer, write_root_layer
from envgraph.image.group import write_group
from envgraph.image.keys import group_key, root_layer_key
from envgraph.image.layer import write_conda_layer
from envgraph.image.options import LayerOptions
from envgraph.model.canonical import NodeKey
from envgraph.model.locked import LockedPackage
from envgraph.testing.channel import make_package
from envgraph_store.digest import Digest

Kind = Literal["zstd", "gzip"]


def options(kind: Kind = "zstd") -> LayerOptions:
    return LayerOptions(compression=default_compression(kind))


def layer(
    name: str, files: dict[str, str | bytes], kind: Kind = "zstd"
) -> tuple[LayerContent, bytes]:
    data = make_package(name, files=files).to_bytes()
    locked = LockedPackage("conda", name, "1.0", "0", "linux-64", Digest.of(data), "c")
    out: list[bytes] = []
    content = write_conda_layer(io.BytesIO(data), locked, options(kind), out.append)
    return content, b"".join(out)


def raw(blob: bytes) -> bytes:
    if blob[:2] == b"\x1f\x8b":
        return gzip.decompress(blob)
    return zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True).read()


def joined(members: list[tuple[LayerContent, bytes]], kind: Kind) -> tuple[LayerContent, bytes]:
    out: list[bytes] = []
    opened = [(content, io.BytesIO(blob)) for content, blob in members]
    content = write_group(opened, options(kind), out.append)
    return content, b"".join(out)


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
def test_members_are_copied_and_hashed_as_one(kind: Kind) -> None:
    members = [
        layer("a", {"lib/a/x": "1" * 100, "etc/conda/env_vars.d/a.json": '{"A": "1"}'}, kind),
        layer("b", {"lib/b/x": b"2" * 3_000_000, "lib/y": "3"}, kind),
        layer("c", {}, kind),
    ]
    content, blob = joined(members, kind)
    assert len(blob) == content.size
    whole = raw(blob)
    assert content.diff_id == Digest.of(whole)
    assert content.raw_size == len(whole)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    assert sorted(names) == sorted(
        ["opt", "opt/env"]
        + [f"opt/env/{path}" for path in content.paths]
        + [f"opt/env/{path}" for path in content.directories]
    )
    assert content.files == sum(member.files for member, _ in members)
    assert content.env_vars == {"A": "1"}
    tail = len(options(kind).compression.frame(bytes(1024)))
    for member, data in members:
        assert data[member.head_size : member.size - tail] in blob


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
def test_one_member_alone_is_its_own_layer(kind: Kind) -> None:
    member = layer("a", {"lib/a/x": "1" * 100}, kind)
    assert joined([member], kind) == member


def test_a_member_that_is_not_what_its_record_says() -> None:
    content, blob = layer("a", {"lib/a/x": b"1" * 100})
    other, other_blob = layer("b", {"lib/a/x": b"1" * 99_000})
    with pytest.raises(IntegrityError):
        joined([(content, other_blob)], "zstd")
    with pytest.raises(IntegrityError):
        joined([(content, blob[:-30])], "zstd")
    with pytest.raises(IntegrityError):
        joined([(other, blob)], "zstd")
    with pytest.raises(IntegrityError):
        joined([(content, blob)], "gzip")


def test_group_keys_are_about_members_and_order() -> None:
    a, b = (NodeKey("envkey1:" + c * 64) for c in "ab")
    keys = {
        group_key([a, b], options()),
        group_key([b, a], options()),
        group_key([a], options()),
        group_key([a, b], options("gzip")),
    }
    assert len(keys) == 4


def test_paths_of_two_owners_are_found() -> None:
    a, _ = layer("a", {"lib/x": "1", "lib/y": "1", "share": "file"})
    b, _ = layer("b", {"lib/x": "2", "share/doc": "1"})
    c, _ = layer("c", {"lib/x": "3"})
    assert find_shared_paths([("a", a), ("b", b), ("c", c)]) == (
        SharedPath("lib/x", ("a", "b", "c")),
        SharedPath("share", ("a", "b"), as_folder=True),
    )
    assert find_shared_paths([("a", a)]) == ()


def test_the_root_layer_hides_the_base() -> None:
    out: list[bytes] = []
    content = write_root_layer(options(), out.append)
    with tarfile.open(fileobj=io.BytesIO(raw(b"".join(out)))) as tar:
        assert [(m.name, m.mode, m.isdir()) for m in tar] == [
            ("opt", 0o755, True),
            ("opt/env", 0o755, True),
            ("opt/env/conda-meta", 0o755, True),
            ("opt/env/.wh..wh..opq", 0o644, False),
            ("opt/env/conda-meta/history", 0o644, False),
        ]
    assert content.diff_id == Digest.of(raw(b"".join(out)))
    assert root_layer_key(options()) != root_layer_key(options("gzip"))


def test_a_layer_of_files_marks_scripts_executable() -> None:
    out: list[bytes] = []
    files = {"etc/envgraph/run": b"#!/bin/sh\n", "etc/envgraph/data": b"x"}
    content = write_files_layer(files, options(), out.append)
    assert content.paths == tuple(sorted(files))
    with tarfile.open(fileobj=io.BytesIO(raw(b"".join(out)))) as tar:
        assert tar.getmember("opt/env/etc/envgraph/run").mode == 0o755
        assert tar.getmember("opt/env/etc/envgraph/data").mode == 0o644
