"""Images that are not what was asked for: servers that say OK and do something else."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import BuilderError, Digest, Platform
from envgraph_buildkit.exported import read_blobs, read_tar

AMD64 = Platform("linux", "amd64")
LAYER = b"\0" * 1024

Files = dict[str, bytes]


def blob(files: Files, data: bytes, kind: str = "") -> dict[str, Any]:
    digest = Digest.of(data)
    files[f"blobs/sha256/{digest.hex}"] = data
    return {"digest": str(digest), "size": len(data), "mediaType": kind}


def image(files: Files, **changes: Any) -> dict[str, Any]:
    layer = blob(files, LAYER)
    config = {
        "os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(LAYER))]},
    } | changes  # fmt: skip
    manifest = {"config": blob(files, json.dumps(config).encode()), "layers": [layer]}
    return blob(files, json.dumps(manifest).encode())


def packed(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def layout(change: Callable[[Files], None] = lambda files: None, **config: Any) -> Files:
    files: Files = {}
    entry = image(files, **config)
    files["index.json"] = json.dumps({"manifests": [entry]}).encode()
    change(files)
    return files


def test_a_good_one(tmp_path: Path) -> None:
    with read_tar(packed(tmp_path / "t", layout()), AMD64) as found:
        [(name, diff_id)] = found.members
        assert diff_id == Digest.of(LAYER)
        with found.open(name) as stream:
            assert stream.read() == LAYER


def spoil(files: Files) -> None:
    """A config that reads well, under another one's digest."""
    for name in files:
        files[name] = files[name].replace(b'"type": "layers"', b'"type": "layerz"')


@pytest.mark.parametrize(
    "files",
    [
        layout(architecture="arm64"),
        layout(os="windows"),
        layout(rootfs={"type": "layers", "diff_ids": []}),
        layout(rootfs=None),
        layout(spoil),
        layout(lambda files: files.update({"index.json": b'{"manifests": []}'})),
        layout(lambda files: files.update({"index.json": b"[]"})),
        layout(lambda files: files.update({"index.json": b"{"})),
        layout(lambda files: [files.pop(name) for name in list(files)[1:3]] and None),
        {"manifest.json": b"[]"},
        {"manifest.json": b'[{"Config": "0123.json", "Layers": []}]', "0123.json": b"{}"},
        {"something": b"else"},
    ],
)
def test_another_image_is_told(files: Files, tmp_path: Path) -> None:
    with pytest.raises(BuilderError) as caught, read_tar(packed(tmp_path / "t", files), AMD64):
        pass
    assert caught.value.code == "builder-answer"


def test_no_tar(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"x" * 2000)
    with pytest.raises(BuilderError), read_tar(tmp_path / "t", AMD64):
        pass


def test_blobs_that_were_not_sent(tmp_path: Path) -> None:
    files: Files = {}
    entry = image(files)
    for name, data in files.items():
        if data != LAYER:
            (tmp_path / name.rpartition("/")[2]).write_bytes(data)
    with (
        read_blobs(tmp_path, entry["digest"], AMD64) as found,
        pytest.raises(BuilderError, match="was not sent"),
        found.open(found.members[0][0]),
    ):
        pass
    with pytest.raises(BuilderError), read_blobs(tmp_path, str(Digest.of(b"x")), AMD64):
        pass
    with pytest.raises(BuilderError), read_blobs(tmp_path, "../../etc/passwd", AMD64):
        pass
