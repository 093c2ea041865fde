"""Exported layouts: what is in them, that they are whole or not there, and a golden one."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.errors import EnvgraphError, InputError, IntegrityError
from envgraph.image.oci_export import export_oci
from envgraph.lock.images import resolve_base
from envgraph.model.oci import OCI_IMAGE_MANIFEST
from envgraph.testing.layouts import AMD64, LayoutMaker, MadeImage, Squeeze, tar_bytes
from envgraph_store import Store, StoreError
from envgraph_store.digest import Digest

TARS = [tar_bytes({"a": b"one"}), tar_bytes({"b": b"two"})]


class Kept:
    """A store that holds one made image."""

    def __init__(self, folder: Path, compression: Squeeze = "zstd") -> None:
        self.layout = LayoutMaker(folder / "made")
        self.image: MadeImage = self.layout.add_image(TARS, compression=compression)
        self.store = Store.open(folder / "store")
        with self.store.transaction() as batch:
            for path in (self.layout.folder / "blobs/sha256").iterdir():
                batch.add_file(path)
            batch.commit()

    @property
    def digest(self) -> Digest:
        return self.image.manifest.digest


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    with made.store:
        yield made


def _names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def _tar(kept: Kept, *names: str, docker: bool = True) -> dict[str, bytes]:
    out = io.BytesIO()
    total = export_oci(kept.store.blobs, kept.digest, names, out, docker=docker)
    out.seek(0)
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=out) as archive:
        for member in archive:
            assert (member.uid, member.gid, member.mtime) == (0, 0, 315_532_800)
            assert member.mode == (0o755 if member.isdir() else 0o644)
            if (file := archive.extractfile(member)) is not None:
                files[member.name] = file.read()
    assert total == sum(len(data) for data in files.values())
    return files


def test_every_blob_is_what_its_name_says(kept: Kept) -> None:
    files = _tar(kept, "ml/x:1")
    blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
    assert all(name == f"blobs/sha256/{Digest.of(data).hex}" for name, data in blobs.items())
    assert set(files) - set(blobs) == {"index.json", "manifest.json", "oci-layout"}
    [image] = json.loads(files["manifest.json"])
    assert image["Config"] == f"blobs/sha256/{kept.image.config.hex}"
    assert image["RepoTags"] == ["ml/x:1"]
    assert [files[name] for name in image["Layers"]] == TARS


def test_without_docker_each_blob_is_there_once(kept: Kept) -> None:
    files = _tar(kept, docker=False)
    assert "manifest.json" not in files
    assert sum(name.startswith("blobs/") for name in files) == 4


def test_gzip_layers_are_there_once(tmp_path: Path) -> None:
    made = Kept(tmp_path, "gzip")
    with made.store:
        files = _tar(made, "x")
    assert sum(name.startswith("blobs/") for name in files) == 4
    [image] = json.loads(files["manifest.json"])
    assert image["Layers"] == [f"blobs/sha256/{digest.hex}" for digest in made.image.layers]


def test_names(kept: Kept) -> None:
    files = _tar(kept, "python:3.12", "ml/x:1", "ml/x:1", "Not A Docker Name")
    entries = json.loads(files["index.json"])["manifests"]
    assert [entry["annotations"] for entry in entries] == [
        {"org.opencontainers.image.ref.name": "Not A Docker Name"},
        {
            "org.opencontainers.image.ref.name": "ml/x:1",
            "io.containerd.image.name": "docker.io/ml/x:1",
        },
        {
            "org.opencontainers.image.ref.name": "python:3.12",
            "io.containerd.image.name": "docker.io/library/python:3.12",
        },
    ]
    [image] = json.loads(files["manifest.json"])
    assert image["RepoTags"] == ["ml/x:1", "python:3.12"]
    [unnamed] = json.loads(_tar(kept)["index.json"])["manifests"]
    assert "annotations" not in unnamed


def test_folder_tar_and_stream_hold_the_same(kept: Kept, tmp_path: Path) -> None:
    files = _tar(kept, "x")
    export_oci(kept.store.blobs, kept.digest, ["x"], tmp_path / "image")
    assert {n: (tmp_path / "image" / n).read_bytes() for n in _names(tmp_path / "image")} == files
    export_oci(kept.store.blobs, kept.digest, ["x"], tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        assert {m.name for m in archive if m.isfile()} == set(files)
    for place in ("image", "image.tar"):
        base = resolve_base("oci:image:x", str(tmp_path / place), "linux-64")
        assert base.locked.manifest == kept.digest
    assert {p.name for p in tmp_path.iterdir()} == {"image", "image.tar", "made", "store"}


def test_modes_do_not_depend_on_the_umask(kept: Kept, tmp_path: Path) -> None:
    import os

    old = os.umask(0o077)
    try:
        export_oci(kept.store.blobs, kept.digest, ["x"], tmp_path / "image")
        export_oci(kept.store.blobs, kept.digest, ["x"], tmp_path / "image.tar")
    finally:
        os.umask(old)
    for path in [tmp_path / "image", tmp_path / "image.tar", *(tmp_path / "image").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)


def test_an_empty_folder_is_taken_and_a_full_one_is_not(kept: Kept, tmp_path: Path) -> None:
    target = tmp_path / "image"
    target.mkdir()
    export_oci(kept.store.blobs, kept.digest, ["x"], target)
    before = _names(target)
    with pytest.raises(InputError, match="is there already"):
        export_oci(kept.store.blobs, kept.digest, ["y"], target)
    assert _names(target) == before
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is there already"):
        export_oci(kept.store.blobs, kept.digest, ["y"], tmp_path / "file")


@pytest.mark.parametrize("place", ["gone/image", "gone/image.tar"])
def test_no_folder_to_write_to(kept: Kept, tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        export_oci(kept.store.blobs, kept.digest, [], tmp_path / place)


@pytest.mark.parametrize("place", ["image", "image.tar"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_damaged_layer_leaves_nothing(
    kept: Kept, tmp_path: Path, place: str, victim: int
) -> None:
    path = kept.store.blobs.path(kept.image.layers[victim])
    path.chmod(0o644)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    (tmp_path / "image.tar").write_bytes(b"old")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises((StoreError, EnvgraphError)):
        export_oci(kept.store.blobs, kept.digest, ["x"], tmp_path / place)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert (tmp_path / "image.tar").read_bytes() == b"old"


def test_a_layer_that_is_not_its_diff_id(tmp_path: Path) -> None:
    made = Kept(tmp_path)
    blobs = made.layout.folder / "blobs/sha256"
    manifest = json.loads((blobs / made.digest.hex).read_bytes())
    layers = [manifest["layers"][1], manifest["layers"][0]]
    swapped = made.layout.add_document(manifest | {"layers": layers}, OCI_IMAGE_MANIFEST)
    with made.store:
        with made.store.transaction() as batch:
            batch.add_file(blobs / swapped.digest.hex)
            batch.commit()
        with pytest.raises(IntegrityError, match="does not unpack to"):
            export_oci(made.store.blobs, swapped.digest, [], io.BytesIO())
        with pytest.raises(IntegrityError):
            export_oci(made.store.blobs, made.image.layers[0], [], io.BytesIO())


def test_an_index_shows_docker_one_platform(kept: Kept) -> None:
    from envgraph.image.manifest import image_index

    data = image_index([(kept.image.manifest, "linux-64")])
    with kept.store.transaction() as batch:
        digest = batch.add_bytes(data)
        batch.commit()
    out = io.BytesIO()
    export_oci(kept.store.blobs, digest, ["x"], out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        [entry] = json.loads(index.read())["manifests"]
    assert entry["digest"] == str(digest)
    assert AMD64.to_json() == json.loads(data)["manifests"][0]["platform"]
