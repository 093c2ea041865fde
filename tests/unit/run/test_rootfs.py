"""Layers unpack as OCI says, and no entry of a hostile one leaves the folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from envgraph.errors import IntegrityError
from envgraph.image.compress import default_compression
from envgraph.model.oci import OCI_CONFIG, OCI_IMAGE_MANIFEST, OCI_LAYER, Descriptor, Manifest
from envgraph.run.rootfs import unpack
from envgraph_store.digest import Digest

Entry = tuple[str, bytes | str | None]  # file content, link target, or None for a folder


def tar(entries: Sequence[Entry], **fields: object) -> bytes:
    """A tar of the entries; a target that starts with ``=`` is a hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, bytes):
                info.size = len(content)
            elif content.startswith("="):
                info.type, info.linkname = tarfile.LNKTYPE, content[1:]
            else:
                info.type, info.linkname = tarfile.SYMTYPE, content
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def unpacked(tmp_path: Path, *layers: bytes, media_type: str = OCI_LAYER) -> Path:
    blobs = {Digest.of(layer): layer for layer in layers}
    config = Descriptor(OCI_CONFIG, Digest.of(b"{}"), 2)
    descriptors = tuple(Descriptor(media_type, Digest.of(b), len(b)) for b in layers)
    root = tmp_path / "outer" / "root"
    root.mkdir(parents=True)

    def open_blob(digest: Digest) -> BinaryIO:
        return io.BytesIO(blobs[digest])

    unpack(Manifest(OCI_IMAGE_MANIFEST, config, descriptors), open_blob, root)
    return root


def test_later_layers_win_and_whiteouts_hide(tmp_path: Path) -> None:
    lower = tar([("a/one", b"1"), ("a/two", b"2"), ("b/x", b"x"), ("c", b"file"), ("d/e/f", b"f")])
    upper = tar([("a/.wh.one", b""), ("a/two", b"new"), ("c", None), (".wh.d", b""), ("g", "a")])
    root = unpacked(tmp_path, lower, upper)
    assert (root / "a/two").read_bytes() == b"new"
    assert not (root / "a/one").exists()
    assert (root / "b/x").exists()
    assert (root / "c").is_dir()
    assert not (root / "d").exists()
    assert (root / "g").is_symlink()


def test_an_opaque_folder_keeps_what_its_own_layer_wrote(tmp_path: Path) -> None:
    lower = tar([("opt/old", b"1"), ("opt/env/old", b"2"), ("opt/env/sub/old", b"3")])
    upper = tar([("opt/env/sub/new", b"n"), ("opt/env/.wh..wh..opq", b""), ("opt/env/late", b"l")])
    root = unpacked(tmp_path, lower, upper)
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert files == ["opt/env/late", "opt/env/sub/new", "opt/old"]


def test_links_of_lower_layers_are_followed_inside_the_root(tmp_path: Path) -> None:
    lower = tar([("usr/lib", None), ("lib", "usr/lib"), ("abs", "/usr"), ("up", "../../usr")])
    upper = tar([("lib/a", b"a"), ("abs/b", b"b"), ("up/c", b"c")])
    root = unpacked(tmp_path, lower, upper)
    assert (root / "usr/lib/a").read_bytes() == b"a"
    assert (root / "usr/b").read_bytes() == b"b"
    assert (root / "usr/c").read_bytes() == b"c"
    assert [path.name for path in tmp_path.iterdir()] == ["outer"]


@pytest.mark.parametrize("name", ["zstd", "gzip"])
def test_compressed_layers(tmp_path: Path, name: str) -> None:
    compression = default_compression("zstd" if name == "zstd" else "gzip")
    layer = compression.frame(tar([("a", b"1")]))
    root = unpacked(tmp_path, layer, media_type=compression.media_type)
    assert (root / "a").read_bytes() == b"1"


def test_hard_links_modes_and_mount_points(tmp_path: Path) -> None:
    root = unpacked(tmp_path, tar([("a", b"1"), ("b", "=a")], mode=0o6777))
    assert (root / "a").samefile(root / "b")
    assert (root / "a").stat().st_mode & 0o7777 == 0o755
    assert (root / "proc").is_dir()
    assert (root / "workspace").is_dir()


def test_devices_are_left_out(tmp_path: Path) -> None:
    root = unpacked(
        tmp_path, tar([("dev/null", b"")], type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    )
    assert list((root / "dev").iterdir()) == []


@pytest.mark.parametrize(
    "entries",
    [
        [("../x", b"1")],
        [("a/../../x", b"1")],
        [("a", "=../../x")],
        [("a", "=missing")],
        [(".wh...", b"")],
        [(".wh.", b"")],
        [("a/.wh..wh.x", b"")],
        [("file", b"1"), ("file/x", b"1")],
    ],
    ids=str,
)
def test_hostile_entries_are_refused(tmp_path: Path, entries: list[Entry]) -> None:
    with pytest.raises(IntegrityError) as caught:
        unpacked(tmp_path, tar(entries))
    assert caught.value.diagnostics[0].code == "bad-layer"
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["root"]


@pytest.mark.parametrize(
    "entries",
    [
        [("/abs", b"1")],
        [("a", "/etc"), ("a/b", b"1")],
        [("a", ".."), ("a/b", b"1")],
        [("a", "../.."), ("b", "a/.."), ("b/c", b"1")],
        [("a", ".."), ("a/.wh.outer", b"")],
        [("a", ".."), ("h", "=a"), ("h/x", b"1")],
    ],
    ids=str,
)
def test_what_points_outside_stays_inside(tmp_path: Path, entries: list[Entry]) -> None:
    root = unpacked(tmp_path, tar(entries))
    assert root.is_dir()
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["root"]
    assert [path.name for path in tmp_path.iterdir()] == ["outer"]


def test_a_link_loop_and_a_cut_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        unpacked(tmp_path / "loop", tar([("a", "b"), ("b", "a"), ("a/x", b"1")]))
    with pytest.raises(IntegrityError):
        unpacked(tmp_path / "cut", tar([("a", b"x" * 4096)])[:1000])
