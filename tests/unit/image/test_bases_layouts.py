"""Base images out of OCI layouts: names, platforms, types, and hostile documents."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph.errors import (
    EnvgraphError,
    InputError,
    IntegrityError,
    PlatformError,
    ResolveError,
)
from envgraph.lock.images import ResolvedBase, open_base, resolve_base
from envgraph.model.locked import LockedBase
from envgraph.model.oci import (
    OCI_CONFIG,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER_GZIP,
    Descriptor,
    Platform,
)
from envgraph.testing.layouts import AMD64, LayoutMaker, Squeeze, tar_bytes
from envgraph_store.digest import Digest
from tests.bad_documents import BAD_MANIFESTS, BAD_TEXTS, Edit

ARM64 = Platform("linux", "arm64", "v8")
TARS = [tar_bytes({"a": b"one"}), tar_bytes({"b": b"two"})]


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "base")


def resolve(layout: LayoutMaker, name: str = "", platform: str = "linux-64") -> ResolvedBase:
    reference = "oci:base" + (f":{name}" if name else "")
    return resolve_base(reference, str(layout.folder), platform)


def test_scratch_has_nothing() -> None:
    base = resolve_base("scratch", None, "linux-64")
    assert base.locked.is_scratch
    assert not base.sizes


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_every_kind_of_layer(layout: LayoutMaker, docker: bool, compression: Squeeze) -> None:
    image = layout.add_image(TARS, compression=compression, docker=docker)
    layout.name(image.manifest, "v1")
    base = resolve(layout, "v1")
    assert base.locked.manifest == image.manifest.digest
    assert base.locked.config == image.config
    assert tuple(layer.digest for layer in base.locked.layers) == image.layers
    assert tuple(layer.diff_id for layer in base.locked.layers) == image.diff_ids
    assert set(base.sizes) == {image.manifest.digest, image.config, *image.layers}
    for digest, size in base.sizes.items():
        with base.open(digest) as file:
            data = file.read()
        assert (Digest.of(data), len(data)) == (digest, size)


@pytest.mark.parametrize("docker", [False, True])
def test_index_is_resolved_for_each_platform(layout: LayoutMaker, docker: bool) -> None:
    images = {
        AMD64: layout.add_image(TARS, docker=docker),
        ARM64: layout.add_image(TARS[:1], platform=ARM64, docker=docker),
    }
    layout.name(layout.add_index(images, docker=docker), "v1")
    assert resolve(layout).locked.manifest == images[AMD64].manifest.digest
    aarch64 = resolve(layout, "v1", "linux-aarch64").locked
    assert aarch64.manifest == images[ARM64].manifest.digest
    with pytest.raises(ResolveError, match="no image for linux/s390x"):
        resolve(layout, "v1", "linux-s390x")


def test_attestations_are_no_images(layout: LayoutMaker) -> None:
    image = layout.add_image(TARS)
    attestation = layout.add_image(TARS[:1], platform=Platform("unknown", "unknown"))
    entries = [
        image.manifest.to_json() | {"platform": AMD64.to_json()},
        attestation.manifest.to_json()
        | {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX, "manifests": entries}
    layout.name(layout.add_document(index, OCI_IMAGE_INDEX))
    assert resolve(layout).locked.manifest == image.manifest.digest


def test_one_of_several_names(layout: LayoutMaker) -> None:
    one, two = layout.add_image(TARS), layout.add_image(TARS[:1])
    layout.name(one.manifest, "one")
    layout.name(two.manifest, "ml/two:1")
    assert resolve(layout, "ml/two:1").locked.manifest == two.manifest.digest
    with pytest.raises(ResolveError, match="2 images") as caught:
        resolve(layout)
    assert "'one', 'ml/two:1'" in caught.value.diagnostics[0].detail
    with pytest.raises(ResolveError, match="no image named 'three'"):
        resolve(layout, "three")


def test_a_locked_base_is_found_by_digest(layout: LayoutMaker) -> None:
    old = layout.add_image(TARS)
    layout.name(old.manifest, "v1")
    locked = resolve(layout).locked
    new = layout.add_image(TARS[:1])
    layout._entries.clear()
    layout.name(new.manifest, "v1")
    assert resolve(layout).locked != locked
    assert open_base(locked, str(layout.folder), "linux-64").locked == locked
    (layout.folder / "blobs/sha256" / old.manifest.digest.hex).unlink()
    with pytest.raises(ResolveError, match="no longer holds"):
        open_base(locked, str(layout.folder), "linux-64")


@pytest.mark.parametrize("index", [0, 1, 2, 3])
@pytest.mark.parametrize("damage", [b"x", None], ids=["longer", "flipped"])
def test_damaged_blobs_are_refused(layout: LayoutMaker, index: int, damage: bytes | None) -> None:
    image = layout.add_image(TARS)
    layout.name(image.manifest)
    good = resolve(layout)
    digest = (image.manifest.digest, image.config, *image.layers)[index]
    path = layout.folder / "blobs/sha256" / digest.hex
    data = path.read_bytes()
    path.write_bytes(data + damage if damage else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="wrong"), good.open(digest) as file:
        file.read()
    if index < 2 or damage:
        with pytest.raises(IntegrityError):
            resolve(layout)


def test_missing_layer_and_missing_places(layout: LayoutMaker, tmp_path: Path) -> None:
    image = layout.add_image(TARS)
    layout.name(image.manifest)
    (layout.folder / "blobs/sha256" / image.layers[0].hex).unlink()
    with pytest.raises(InputError, match="is not there"):
        resolve(layout)
    with pytest.raises(InputError, match="is not there"):
        resolve_base("oci:gone", str(tmp_path / "gone"), "linux-64")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="oci-layout is not there"):
        resolve_base("oci:empty", str(tmp_path / "empty"), "linux-64")


def test_blob_that_leads_out_of_the_layout(layout: LayoutMaker, tmp_path: Path) -> None:
    image = layout.add_image(TARS)
    layout.name(image.manifest)
    blob = layout.folder / "blobs/sha256" / image.layers[0].hex
    blob.rename(tmp_path / "outside")
    blob.symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="is not there"):
        resolve(layout)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(InputError, match="is not there"):
        resolve(layout)


def test_another_platform_than_the_lock(layout: LayoutMaker) -> None:
    image = layout.add_image(TARS, platform=ARM64)
    layout.name(image.manifest, platform=AMD64.to_json())
    with pytest.raises(ResolveError, match="for linux/arm64/v8, not for linux/amd64"):
        resolve(layout)
    with pytest.raises(PlatformError, match="Linux"):
        resolve(layout, platform="osx-arm64")


def test_registry_reference_says_what_to_do() -> None:
    with pytest.raises(ResolveError) as caught:
        resolve_base("python:3.12", None, "linux-64")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "no-registry"
    assert "skopeo copy --all docker://docker.io/library/python:3.12 oci:bases/python" in (
        diagnostic.hint
    )
    with pytest.raises(InputError, match="lower case"):
        resolve_base("Python", None, "linux-64")


def test_a_registry_can_be_plugged_in() -> None:
    class Fake:
        def resolve(self, reference: object, platform: Platform) -> ResolvedBase:
            assert str(reference) == "docker.io/library/python:latest"
            assert platform == AMD64
            return resolve_base("scratch", None, "linux-64")

        def find(self, reference: object, base: LockedBase, platform: Platform) -> ResolvedBase:
            return ResolvedBase(base, title=str(reference))

    assert resolve_base("python", None, "linux-64", registry=Fake()).locked.is_scratch
    locked = LockedBase("docker.io/library/python:latest", Digest.of(b"manifest"))
    assert open_base(locked, None, "linux-64", registry=Fake()).locked == locked
    with pytest.raises(ResolveError, match="no registry plugin"):
        open_base(locked, None, "linux-64")


@pytest.mark.parametrize("edit", BAD_MANIFESTS.values(), ids=BAD_MANIFESTS.keys())
def test_bad_manifests(layout: LayoutMaker, edit: Edit) -> None:
    image = layout.add_image(TARS)
    path = layout.folder / "blobs/sha256" / image.manifest.digest.hex
    document = edit(json.loads(path.read_bytes()))
    layout.name(layout.add_document(document, OCI_IMAGE_MANIFEST))
    _refused(layout)


@pytest.mark.parametrize("edit", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
@pytest.mark.parametrize("where", ["manifest", "config", "index.json", "oci-layout"])
def test_bad_texts(layout: LayoutMaker, where: str, edit: Callable[[bytes], bytes]) -> None:
    image = layout.add_image(TARS)
    blobs = layout.folder / "blobs/sha256"
    if where == "manifest":
        data = edit((blobs / image.manifest.digest.hex).read_bytes())
        layout.name(Descriptor(OCI_IMAGE_MANIFEST, layout.add_blob(data), len(data)))
    elif where == "config":
        data = edit((blobs / image.config.hex).read_bytes())
        config = Descriptor(OCI_CONFIG, layout.add_blob(data), len(data))
        manifest = json.loads((blobs / image.manifest.digest.hex).read_bytes())
        document = manifest | {"config": config.to_json()}
        layout.name(layout.add_document(document, OCI_IMAGE_MANIFEST))
    else:
        layout.name(image.manifest)
        path = layout.folder / where
        path.write_bytes(edit(path.read_bytes()))
    _refused(layout)


def test_indexes_in_a_circle_or_too_deep(layout: LayoutMaker) -> None:
    image = layout.add_image(TARS)
    entry = image.manifest
    for _ in range(6):
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_INDEX,
            "manifests": [entry.to_json()],
        }
        entry = layout.add_document(index, OCI_IMAGE_INDEX)
    layout.name(entry)
    with pytest.raises(IntegrityError, match="nested"):
        resolve(layout)


def test_layer_that_claims_no_compression(layout: LayoutMaker) -> None:
    image = layout.add_image(TARS[:1])
    blobs = layout.folder / "blobs/sha256"
    manifest = json.loads((blobs / image.manifest.digest.hex).read_bytes())
    plain = manifest["layers"][0] | {"mediaType": OCI_LAYER_GZIP.removesuffix("+gzip")}
    layout.name(layout.add_document(manifest | {"layers": [plain]}, OCI_IMAGE_MANIFEST))
    with pytest.raises(IntegrityError, match="another DiffID"):
        resolve(layout)


def _refused(layout: LayoutMaker) -> None:
    with pytest.raises(EnvgraphError) as caught:
        resolve(layout)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code in ("image-document", "base-image", "base-platform")
    assert "\n" not in diagnostic.summary
    assert len(diagnostic.summary) < 500
