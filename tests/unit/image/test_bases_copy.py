"""Copying a base proves digest, size and DiffID."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.errors import IntegrityError
from envgraph.image.bases import copy_base, copy_blob
from envgraph.lock.images import ResolvedBase, resolve_base
from envgraph.model.locked import BaseLayer
from envgraph.model.oci import OCI_IMAGE_MANIFEST, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD
from envgraph.testing.layouts import LayoutMaker, Squeeze, squeeze, tar_bytes
from envgraph_store import Store
from envgraph_store.digest import Digest

RAW = tar_bytes({"a": b"one" * 1000})


def base_of(folder: Path, tars: list[bytes], compression: Squeeze) -> ResolvedBase:
    layout = LayoutMaker(folder)
    layout.name(layout.add_image(tars, compression=compression).manifest)
    return resolve_base("oci:x", str(folder), "linux-64")


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_into_a_store(tmp_path: Path, compression: Squeeze) -> None:
    base = base_of(tmp_path / "base", [RAW, tar_bytes({})], compression)
    with Store.open(tmp_path / "store") as store:
        with store.transaction() as batch:
            copied = copy_base(
                base,
                store.blobs.has,
                lambda digest, size: batch.writer("blobs", expect=digest, size=size),
            )
            batch.commit()
        assert set(copied) == set(base.sizes)
        assert all(len(store.blobs.read(d)) == size for d, size in base.sizes.items())
        assert copy_base(base, store.blobs.has, _no_writer) == ()


def _no_writer(digest: Digest, size: int) -> io.BytesIO:
    raise AssertionError("nothing is to be copied")


TYPES = {"": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_a_wrong_diff_id(compression: Squeeze) -> None:
    blob = squeeze(RAW, compression)
    layer = BaseLayer(TYPES[compression], Digest.of(blob), len(blob), Digest.of(b"other"))
    with pytest.raises(IntegrityError, match="its config says"):
        copy_blob(io.BytesIO(blob), lambda data: None, layer, "base")
    written = bytearray()
    copy_blob(io.BytesIO(blob), written.extend, replace(layer, diff_id=Digest.of(RAW)), "base")
    assert bytes(written) == blob


BROKEN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip cut": ("gzip", lambda: gzip.compress(RAW)[:-20]),
    "gzip garbage": ("gzip", lambda: gzip.compress(RAW) + b"garbage!"),
    "gzip not": ("gzip", lambda: RAW),
    "gzip checksum": ("gzip", lambda: gzip.compress(RAW)[:-8] + bytes(8)),
    "zstd cut": ("zstd", lambda: squeeze(RAW, "zstd")[:-5]),
    "zstd garbage": ("zstd", lambda: squeeze(RAW, "zstd") + b"garbage!"),
    "zstd not": ("zstd", lambda: RAW),
}


@pytest.mark.parametrize(("compression", "make"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_compression(compression: str, make: Callable[[], bytes]) -> None:
    blob = make()
    layer = BaseLayer(TYPES[compression], Digest.of(blob), len(blob), Digest.of(RAW))
    with pytest.raises(IntegrityError, match="the layer sha256:"):
        copy_blob(io.BytesIO(blob), lambda data: None, layer, "base")


def test_bombs_end_early() -> None:
    """2 GiB of zeros in 200 KiB: refused after the first GiB, a piece at a time."""
    from envgraph.image.compress import default_compression

    zeros = bytes(1 << 23)
    frame = default_compression("zstd").frame(zeros)
    blob = frame * 256
    layer = BaseLayer(OCI_LAYER_ZSTD, Digest.of(blob), len(blob), Digest.of(b""))
    assert len(blob) < 1 << 20
    with pytest.raises(IntegrityError, match="unpacks to more than 1073741824 bytes"):
        copy_blob(io.BytesIO(blob), lambda data: None, layer, "base")


def test_a_window_of_two_gib_is_refused() -> None:
    header = bytes.fromhex("28b52ffd") + b"\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00"
    layer = BaseLayer(OCI_LAYER_ZSTD, Digest.of(header), len(header), Digest.of(b""))
    with pytest.raises(IntegrityError):
        copy_blob(io.BytesIO(header), lambda data: None, layer, "base")


def test_nothing_of_a_wrong_base_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    base = base_of(folder, [RAW], "gzip")
    blobs = folder / "blobs/sha256"
    manifest = json.loads((blobs / str(base.locked.manifest).split(":")[1]).read_bytes())
    config = json.loads((blobs / manifest["config"]["digest"].split(":")[1]).read_bytes())
    config["rootfs"]["diff_ids"] = [str(Digest.of(b"lie"))]
    layout = LayoutMaker(tmp_path / "lying")
    for path in blobs.iterdir():
        (layout.folder / "blobs/sha256" / path.name).write_bytes(path.read_bytes())
    descriptor = layout.add_document(config, manifest["config"]["mediaType"])
    lying = manifest | {"config": descriptor.to_json()}
    layout.name(layout.add_document(lying, OCI_IMAGE_MANIFEST))
    resolved = resolve_base("oci:x", str(layout.folder), "linux-64")
    with Store.open(tmp_path / "store") as store:
        with store.transaction() as batch, pytest.raises(IntegrityError, match="unpacks to"):
            copy_base(
                resolved,
                store.blobs.has,
                lambda digest, size: batch.writer("blobs", expect=digest, size=size),
            )
        assert list(store.blobs.digests()) == []
