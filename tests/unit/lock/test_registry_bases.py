"""Bases in registries that lie, break off, are slow to answer or are not there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from envgraph.api.registry import ManifestBytes, RegistryError, RegistryPlugin
from envgraph.errors import EnvgraphError, IntegrityError, OfflineError, ResolveError
from envgraph.image.bases import ensure_base
from envgraph.lock.registry_bases import RegistryBases
from envgraph.model.config import WorkspaceConfig
from envgraph.model.oci import (
    DOCKER_FOREIGN,
    OCI_CONFIG,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    Descriptor,
    Platform,
)
from envgraph.model.reference import parse_registry_reference
from envgraph.plugins import Plugins
from envgraph.registry.remotes import Remotes
from envgraph.registry.retrying import Policy
from envgraph.testing.layouts import AMD64, LayoutMaker, tar_bytes
from envgraph.testing.registry.memory import MemoryOptions, MemoryRegistry, MemoryRepository
from envgraph_store import Digest, Store
from tests.bad_documents import BAD_MANIFESTS, BAD_TEXTS
from tests.bases import HOST, IMAGE, REPOSITORY, TARS, upload

REFERENCE = parse_registry_reference(IMAGE)


class Odd(MemoryRegistry):
    """A registry whose answers can be bent: by kind of call, then by what was asked for."""

    def __init__(self) -> None:
        super().__init__(HOST)
        self.manifests: dict[str, Callable[[ManifestBytes], ManifestBytes]] = {}
        self.bodies: dict[Digest, list[BinaryIO | Exception]] = {}
        self.failing: list[Exception] = []

    def repository(self, name: str) -> MemoryRepository:
        return _OddRepository(self, name)


class _OddRepository(MemoryRepository):
    def __init__(self, registry: Odd, name: str) -> None:
        super().__init__(registry, name)
        self.odd = registry

    def get_manifest(self, reference: str) -> ManifestBytes:
        if self.odd.failing:
            self.odd.calls.append(f"failed {reference}")
            raise self.odd.failing[0]
        found = super().get_manifest(reference)
        return self.odd.manifests.get(reference, lambda same: same)(found)

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        prepared = self.odd.bodies.get(digest)
        if not prepared:
            with super().open_blob(digest, size, offset) as body:
                yield body
            return
        self.odd.calls.append(f"open_blob {self.name} {digest} {offset}")
        body_or_error = prepared.pop(0)
        if isinstance(body_or_error, Exception):
            raise body_or_error
        yield body_or_error


@pytest.fixture
def registry() -> Odd:
    return Odd()


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "made")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as found:
        yield found


def bases_of(registry: MemoryRegistry, *, offline: bool = False) -> RegistryBases:
    @contextmanager
    def opened(options: object, context: object) -> Iterator[MemoryRegistry]:
        yield registry

    plugin = RegistryPlugin(
        "odd", "", MemoryOptions, opened, for_host=lambda host, near: MemoryOptions(host)
    )
    policy = Policy(3, sleep=lambda seconds: None)
    remotes = Remotes(
        WorkspaceConfig(name="w", id="w", root="/nowhere"),
        offline=offline,
        plugins=Plugins((), registries=[plugin]),
        policy=policy,
    )
    return RegistryBases(lambda: remotes)


def put_raw(registry: MemoryRegistry, data: bytes, media_type: str, tag: str = "1") -> Digest:
    """A manifest that the registry would have refused."""
    repository = registry.repository(REPOSITORY)
    digest = Digest.of(data)
    here = repository._make()
    here.manifests[digest] = ManifestBytes(media_type, data, digest)
    here.tags[tag] = digest
    return digest


def refused(registry: MemoryRegistry, reference: str = IMAGE) -> EnvgraphError:
    with pytest.raises(EnvgraphError) as caught:
        bases_of(registry).resolve(parse_registry_reference(reference), AMD64)
    [diagnostic] = caught.value.diagnostics
    assert "\n" not in diagnostic.summary
    assert len(diagnostic.summary) < 500
    return caught.value


@pytest.mark.parametrize("name", sorted(BAD_MANIFESTS.keys() - {"size is another"}))
def test_bad_manifests(registry: Odd, layout: LayoutMaker, name: str) -> None:
    """But for a layer's size, which is proven when the layer comes."""
    image = layout.add_image(TARS)
    upload(layout, image.manifest, registry, "good")
    good = registry.contents[REPOSITORY].manifests[image.manifest.digest].data
    document = BAD_MANIFESTS[name](json.loads(good))
    put_raw(registry, json.dumps(document).encode(), OCI_IMAGE_MANIFEST)
    assert refused(registry).diagnostics[0].code in ("image-document", "base-artifact")


@pytest.mark.parametrize("edit", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
@pytest.mark.parametrize("where", ["manifest", "config", "index"])
def test_bad_texts(
    registry: Odd, layout: LayoutMaker, where: str, edit: Callable[[bytes], bytes]
) -> None:
    image = layout.add_image(TARS)
    upload(layout, image.manifest, registry, "good")
    here = registry.contents[REPOSITORY]
    manifest = here.manifests[image.manifest.digest].data
    if where == "manifest":
        put_raw(registry, edit(manifest), OCI_IMAGE_MANIFEST)
    elif where == "config":
        data = edit(here.blobs[image.config])
        config = Descriptor(OCI_CONFIG, Digest.of(data), len(data))
        here.blobs[config.digest] = data
        document = json.loads(manifest) | {"config": config.to_json()}
        put_raw(registry, json.dumps(document).encode(), OCI_IMAGE_MANIFEST)
    else:
        index = {"schemaVersion": 2, "manifests": [image.manifest.to_json()]}
        put_raw(registry, edit(json.dumps(index).encode()), OCI_IMAGE_INDEX)
    assert refused(registry).diagnostics[0].code == "image-document"


def test_a_manifest_whose_header_says_another_type(registry: Odd, layout: LayoutMaker) -> None:
    image = layout.add_image(TARS)
    upload(layout, image.manifest, registry, "1")
    data = registry.contents[REPOSITORY].manifests[image.manifest.digest].data
    put_raw(registry, data, OCI_IMAGE_INDEX)
    assert "what names it says" in str(refused(registry))


def test_other_bytes_than_the_digest_that_was_asked_for(registry: Odd, layout: LayoutMaker) -> None:
    image, other = layout.add_image(TARS), layout.add_image(TARS[:1])
    upload(layout, image.manifest, registry, "1")
    upload(layout, other.manifest, registry, "2")
    text = str(image.manifest.digest)
    lie = registry.contents[REPOSITORY].manifests[other.manifest.digest]
    registry.manifests[text] = lambda found: lie
    assert isinstance(refused(registry, f"{HOST}/{REPOSITORY}@{text}"), IntegrityError)
    registry.manifests[text] = lambda found: ManifestBytes(
        found.media_type, found.data + b" ", found.digest
    )
    assert isinstance(refused(registry, f"{HOST}/{REPOSITORY}@{text}"), IntegrityError)


def test_a_digest_beats_the_tag_beside_it(registry: Odd, layout: LayoutMaker) -> None:
    image, other = layout.add_image(TARS), layout.add_image(TARS[:1])
    upload(layout, image.manifest, registry, "2")
    upload(layout, other.manifest, registry, "1")
    both = parse_registry_reference(f"{IMAGE}@{image.manifest.digest}")
    assert (both.tag, both.digest) == ("1", str(image.manifest.digest))
    bases = bases_of(registry)
    assert bases.resolve(both, AMD64).locked.manifest == image.manifest.digest
    assert bases.meant_now(both) == image.manifest.digest


@pytest.mark.parametrize("delta", [-1, 1])
def test_an_index_that_lies_about_a_length(registry: Odd, layout: LayoutMaker, delta: int) -> None:
    image = layout.add_image(TARS)
    entry = image.manifest.to_json() | {"platform": AMD64.to_json()}
    entry["size"] = image.manifest.size + delta
    index = {"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX, "manifests": [entry]}
    upload(layout, layout.add_document(index, OCI_IMAGE_INDEX), registry, "1")
    assert isinstance(refused(registry), IntegrityError)


def test_a_config_that_is_too_large_is_not_read(registry: Odd, layout: LayoutMaker) -> None:
    image = layout.add_image(TARS)
    upload(layout, image.manifest, registry, "1")
    document = json.loads(registry.contents[REPOSITORY].manifests[image.manifest.digest].data)
    document["config"]["size"] = 5 << 20
    put_raw(registry, json.dumps(document).encode(), OCI_IMAGE_MANIFEST)
    registry.calls.clear()
    refused(registry)
    assert not any(call.startswith("open_blob") for call in registry.calls)


def test_the_first_of_several_for_a_platform(registry: Odd, layout: LayoutMaker) -> None:
    """As the image spec has it; attestations and other platforms are passed over."""
    one, two = layout.add_image(TARS), layout.add_image(TARS[:1])
    arm = layout.add_image(TARS, platform=Platform("linux", "arm64"))
    note = {"vnd.docker.reference.type": "attestation-manifest"}
    entries = [
        two.manifest.to_json() | {"platform": AMD64.to_json(), "annotations": note},
        arm.manifest.to_json() | {"platform": {"os": "linux", "architecture": "arm64"}},
        one.manifest.to_json() | {"platform": AMD64.to_json()},
        two.manifest.to_json() | {"platform": AMD64.to_json()},
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX, "manifests": entries}
    upload(layout, layout.add_document(index, OCI_IMAGE_INDEX), registry, "1")
    found = bases_of(registry).resolve(REFERENCE, AMD64).locked
    assert found.manifest == one.manifest.digest
    assert found.index == Digest.of(
        registry.contents[REPOSITORY].manifests[found.index or Digest.of(b"")].data
    )


def test_an_index_without_platforms_is_judged_by_configs(
    registry: Odd, layout: LayoutMaker
) -> None:
    arm = layout.add_image(TARS, platform=Platform("linux", "arm64"))
    amd = layout.add_image(TARS[:1])
    entries = [arm.manifest.to_json(), amd.manifest.to_json()]
    index = {"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX, "manifests": entries}
    upload(layout, layout.add_document(index, OCI_IMAGE_INDEX), registry, "1")
    assert bases_of(registry).resolve(REFERENCE, AMD64).locked.manifest == amd.manifest.digest


def test_foreign_layers_are_noted_and_their_addresses_not_followed(
    registry: Odd, layout: LayoutMaker, store: Store
) -> None:
    image = layout.add_image(TARS, docker=True)
    upload(layout, image.manifest, registry, "1")
    here = registry.contents[REPOSITORY]
    document = json.loads(here.manifests[image.manifest.digest].data)
    document["layers"][0] |= {
        "mediaType": DOCKER_FOREIGN + ".gzip",
        "urls": ["http://169.254.169.254/layer"],
    }
    put_raw(registry, json.dumps(document).encode(), document["mediaType"])
    bases = bases_of(registry)
    found = bases.resolve(REFERENCE, AMD64)
    [remark] = found.remarks
    assert (remark.code, remark.severity) == ("foreign-layers", "warning")
    del here.blobs[image.layers[0]]
    with pytest.raises(ResolveError, match="no longer holds"):
        ensure_base(store, [found.locked], bases)


def test_a_registry_that_is_down_is_waited_for_once(registry: Odd) -> None:
    registry.failing = [RegistryError("no answer", code="registry-down", retryable=True)]
    bases = bases_of(registry)
    for tag in ("1", "2", "3"):
        with pytest.raises(RegistryError, match="no answer") as caught:
            bases.resolve(parse_registry_reference(f"{HOST}/{REPOSITORY}:{tag}"), AMD64)
        [diagnostic] = caught.value.diagnostics
        assert diagnostic.code == "registry-down"
        assert f"{REPOSITORY}:{tag}" in diagnostic.summary
        assert "goes on working" in diagnostic.hint
    assert registry.calls == ["failed 1"] * 3, "three tries, for the first tag only"


def test_denied_says_how_to_log_in(registry: Odd) -> None:
    registry.failing = [RegistryError("401", code="registry-denied")]
    assert f"envgraph registry login {HOST}" in refused(registry).diagnostics[0].hint
    assert registry.calls == ["failed 1"]


def test_offline_asks_nobody(registry: Odd) -> None:
    with pytest.raises(OfflineError, match="--offline"):
        bases_of(registry, offline=True).resolve(REFERENCE, AMD64)
    assert registry.calls == []


def test_a_layer_that_breaks_off_is_resumed(
    registry: Odd, layout: LayoutMaker, store: Store
) -> None:
    image = layout.add_image([tar_bytes({"big": bytes(range(256)) * 4096})])
    upload(layout, image.manifest, registry, "1")
    bases = bases_of(registry)
    locked = bases.resolve(REFERENCE, AMD64).locked
    [digest] = image.layers
    data = registry.contents[REPOSITORY].blobs[digest]
    registry.bodies[digest] = [io.BytesIO(data[:1000])]
    registry.calls.clear()
    assert ensure_base(store, [locked], bases) == (digest,)
    assert registry.calls == [
        f"open_blob {REPOSITORY} {digest} 0",
        f"open_blob {REPOSITORY} {digest} 1000",
    ]
    assert store.blobs.read(digest) == data


@pytest.mark.parametrize("fault", ["flipped", "longer", "short for ever", "html"])
def test_a_layer_that_is_wrong_is_not_kept(
    registry: Odd, layout: LayoutMaker, store: Store, fault: str
) -> None:
    image = layout.add_image(TARS)
    upload(layout, image.manifest, registry, "1")
    bases = bases_of(registry)
    locked = bases.resolve(REFERENCE, AMD64).locked
    digest = image.layers[0]
    data = registry.contents[REPOSITORY].blobs[digest]
    bent = {
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "longer": data + b"x",
        "short for ever": b"",
        "html": b"<html>" * 1000,
    }[fault]
    registry.bodies[digest] = [io.BytesIO(bent) for _ in range(3)]
    kind = RegistryError if fault == "short for ever" else IntegrityError
    with pytest.raises(kind):
        ensure_base(store, [locked], bases)
    assert not store.blobs.has(digest)
    assert not [path for path in (store.root / "stage").rglob("*") if path.is_file()]
    registry.bodies.clear()
    bases.forget()
    assert set(ensure_base(store, [locked], bases)) == set(image.layers)


def test_a_layer_whose_size_the_manifest_got_wrong(
    registry: Odd, layout: LayoutMaker, store: Store
) -> None:
    image = layout.add_image(TARS[:1])
    upload(layout, image.manifest, registry, "1")
    document = json.loads(registry.contents[REPOSITORY].manifests[image.manifest.digest].data)
    document["layers"][0]["size"] += 1
    put_raw(registry, json.dumps(document).encode(), OCI_IMAGE_MANIFEST)
    bases = bases_of(registry)
    locked = bases.resolve(REFERENCE, AMD64).locked
    with pytest.raises(EnvgraphError):
        ensure_base(store, [locked], bases)
    assert not store.blobs.has(image.layers[0])


def test_what_was_fetched_before_an_error_stays(
    registry: Odd, layout: LayoutMaker, store: Store
) -> None:
    image = layout.add_image(TARS)
    upload(layout, image.manifest, registry, "1")
    bases = bases_of(registry)
    locked = bases.resolve(REFERENCE, AMD64).locked
    registry.bodies[image.layers[1]] = [RegistryError("500") for _ in range(3)]
    with pytest.raises(RegistryError):
        ensure_base(store, [locked], bases)
    assert store.blobs.has(image.layers[0])
    registry.bodies.clear()
    assert ensure_base(store, [locked], bases) == (image.layers[1],)


def test_a_locked_base_whose_documents_are_others(registry: Odd, layout: LayoutMaker) -> None:
    from dataclasses import replace

    image = layout.add_image(TARS)
    upload(layout, image.manifest, registry, "1")
    bases = bases_of(registry)
    locked = bases.resolve(REFERENCE, AMD64).locked
    assert bases.find(REFERENCE, locked, AMD64).locked == locked
    other = replace(locked, layers=locked.layers[:1])
    with pytest.raises(IntegrityError, match="not the one of the lock"):
        bases.find(REFERENCE, other, AMD64)
