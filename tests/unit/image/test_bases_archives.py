"""Base images out of tars: `docker save` of old and new docker, and hostile tars."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.errors import EnvgraphError, InputError, IntegrityError, ResolveError
from envgraph.lock.images import ResolvedBase, open_base, resolve_base
from envgraph.model.oci import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, REF_NAME
from envgraph.testing.layouts import LayoutMaker, Squeeze, docker_archive, tar_bytes
from envgraph_store.digest import Digest

TARS = [tar_bytes({"a": b"one"}), tar_bytes({"b": b"two"})]


def resolve(path: Path, name: str = "") -> ResolvedBase:
    reference = f"docker-archive:{path.name}" + (f":{name}" if name else "")
    return resolve_base(reference, str(path), "linux-64")


@pytest.mark.parametrize(
    ("compression", "media_type"),
    [("", OCI_LAYER), ("gzip", OCI_LAYER_GZIP), ("zstd", OCI_LAYER_ZSTD)],
)
def test_layers_as_found(tmp_path: Path, compression: Squeeze, media_type: str) -> None:
    path = tmp_path / "saved.tar"
    docker_archive(path, {"ml/base:1": TARS}, compression=compression)
    base = resolve(path)
    assert [layer.media_type for layer in base.locked.layers] == [media_type] * 2
    assert [layer.diff_id for layer in base.locked.layers] == [Digest.of(raw) for raw in TARS]
    assert resolve(path).locked == base.locked
    assert open_base(base.locked, str(path), "linux-64").locked == base.locked
    for digest in base.sizes:
        with base.open(digest) as file:
            assert Digest.of(file.read()) == digest


def test_one_of_several_images(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    docker_archive(path, {"python:3.12": TARS, "ml/other:1": TARS[:1]})
    assert len(resolve(path, "docker.io/library/python:3.12").locked.layers) == 2
    assert len(resolve(path, "ml/other:1").locked.layers) == 1
    with pytest.raises(ResolveError, match="2 images") as caught:
        resolve(path)
    assert "'ml/other:1', 'python:3.12'" in caught.value.diagnostics[0].detail
    with pytest.raises(ResolveError, match="no images named 'x'"):
        resolve(path, "x")


def test_archive_that_changed_under_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    docker_archive(path, {"a:1": TARS})
    locked = resolve(path).locked
    docker_archive(path, {"a:1": TARS[:1]})
    with pytest.raises(ResolveError, match="no longer holds"):
        open_base(locked, str(path), "linux-64")


@pytest.mark.parametrize("kind", ["oci", "docker-archive"])
def test_layout_in_a_tar(tmp_path: Path, kind: str) -> None:
    """What docker 25 and later saves, and what `oci-archive:` of skopeo is."""
    layout = LayoutMaker(tmp_path / "layout")
    image = layout.add_image(TARS, compression="")
    note = {"io.containerd.image.name": "docker.io/library/python:1"}
    layout.name(replace(image.manifest, annotations=note | {REF_NAME: "1"}))
    path = tmp_path / "saved.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(layout.folder, arcname=".")
    for name in ("1", "python:1", "docker.io/library/python:1"):
        base = resolve_base(f"{kind}:saved.tar:{name}", str(path), "linux-64")
    with pytest.raises(ResolveError, match="no image named"):
        resolve_base(f"{kind}:saved.tar:python", str(path), "linux-64")
    assert base.locked.manifest == image.manifest.digest
    with base.open(image.layers[1]) as file:
        assert file.read() == TARS[1]


def test_folder_and_compressed_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder") as caught:
        resolve(tmp_path)
    assert "oci:" in caught.value.diagnostics[0].hint
    path = tmp_path / "saved.tar"
    docker_archive(path, {"a:1": TARS})
    packed = tmp_path / "saved.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="compressed") as caught:
        resolve(packed)
    assert "gunzip" in caught.value.diagnostics[0].hint


def _members(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


MANIFEST = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": ["l/layer.tar"]}]).encode()


def _with_size(size: bytes) -> bytes:
    """One member whose header says ``size``, with a right checksum."""
    header = bytearray(_members((_member("x"), b""))[:512])
    header[124:136] = size.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def _pax(records: bytes) -> bytes:
    return _members((_member("p", tarfile.XHDTYPE), records), (_member("x"), b"y"))


BAD_TARS = {
    "negative size": _with_size(b"\xff" * 11 + b"\0"),
    "size beyond the end": _with_size(b"77777777777"),
    "size is garbage": _with_size(b"9x"),
    "header of 100 MB": _pax(b"105000013 comment=" + b"x" * 105_000_000 + b"\n"),
    "pax name leads out": _pax(b"18 path=../../etc\n"),
    "pax size beyond the end": _pax(b"18 size=999999999\n"),
    "sparse": _pax(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"),
    "sparse map": _pax(b"25 GNU.sparse.map=0,10\n\n26 GNU.sparse.size=1024000\n"),
    "no tar": b"x" * 2000,
    "empty": b"",
    "no manifest": _members((_member("x"), b"")),
    "name leads out": _members((_member("../x"), b"")),
    "absolute name": _members((_member("/x"), b"")),
    "backslash": _members((_member("a\\b"), b"")),
    "member twice": _members((_member("x"), b""), (_member("./x"), b"")),
    "device": _members((_member("x", tarfile.CHRTYPE), b"")),
    "fifo": _members((_member("x", tarfile.FIFOTYPE), b"")),
    "link leads out": _members((_member("a", tarfile.SYMTYPE, "../b"), b"")),
    "link to an absolute path": _members((_member("a", tarfile.SYMTYPE, "/etc/passwd"), b"")),
    "hard link to nothing": _members((_member("a", tarfile.LNKTYPE, "b"), b"")),
    "link to itself": _members((_member("a", tarfile.SYMTYPE, "a"), b"")),
    "cut off": _members((_member("x"), b"y" * 5000))[:3000],
    "manifest is no list": _members((_member("manifest.json"), b"{}")),
    "manifest holds text": _members((_member("manifest.json"), b'["x"]')),
    "empty manifest": _members((_member("manifest.json"), b"[]")),
    "injected": _members((_member("manifest.json"), b'[], "images": []')),
    "config is missing": _members((_member("manifest.json"), MANIFEST)),
    "config leads out": _members(
        (_member("manifest.json"), MANIFEST.replace(b"c.json", b"../../etc/passwd"))
    ),
    "key twice": _members((_member("manifest.json"), b'[{"Config":"a","Config":"b"}]')),
}


@pytest.mark.parametrize("data", BAD_TARS.values(), ids=BAD_TARS.keys())
def test_hostile_tars(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "saved.tar"
    path.write_bytes(data)
    with pytest.raises(EnvgraphError) as caught:
        resolve(path)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code in ("base-image", "image-document")
    assert len(diagnostic.summary) < 500


def test_layers_shared_by_links(tmp_path: Path) -> None:
    """Docker writes a layer once, and links to it from the other image's folder."""
    raw = TARS[0]
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(raw))] * 2},
        }
    ).encode()
    layers = ["a/layer.tar", "b/layer.tar"]
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": layers}]).encode()
    path = tmp_path / "saved.tar"
    path.write_bytes(
        _members(
            (_member("manifest.json"), manifest),
            (_member("c.json"), config),
            (_member("b/layer.tar", tarfile.SYMTYPE, "../a/layer.tar"), b""),
            (_member("a/layer.tar"), raw),
        )
    )
    base = resolve(path)
    assert [layer.digest for layer in base.locked.layers] == [Digest.of(raw)] * 2


def test_layer_other_than_its_diff_id(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    docker_archive(path, {"a:1": TARS})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"one", b"eno"))
    with pytest.raises(IntegrityError, match="DiffID"):
        resolve(path)
