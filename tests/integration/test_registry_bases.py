"""Environments on bases in registries: pinned once, offline afterwards, layers only when needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from envgraph.errors import IntegrityError, OfflineError, ResolveError
from envgraph.image.oci_export import export_oci
from envgraph.model.oci import Platform
from envgraph.run.container import prepare_image
from envgraph.testing.layouts import AMD64, LayoutMaker, MadeImage
from envgraph_store import Digest
from tests.bases import HOST, IMAGE, REPOSITORY, SETTINGS, TARS, BaseDesk, upload
from tests.services import Channel, require_tool

ARM64 = Platform("linux", "arm64", "v8")


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel, monkeypatch: pytest.MonkeyPatch) -> BaseDesk:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return BaseDesk(tmp_path / "desk", demo_channel.url)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "made")


@pytest.fixture
def base(desk: BaseDesk, layout: LayoutMaker) -> MadeImage:
    made = layout.add_image(TARS, config=SETTINGS)
    upload(layout, made.manifest, desk.registry, "1")
    desk.calls()
    return made


def problems(desk: BaseDesk, *, offline: bool = False) -> dict[str, str]:
    """Code and summary of the errors of a plan."""
    with desk.workspace(offline=offline) as workspace:
        found = workspace.plan().diagnostics
    return {d.code: f"{d.summary}\n{d.detail}\n{d.hint}" for d in found if d.severity == "error"}


def test_pinned_once_and_built_without_a_layer(desk: BaseDesk, base: MadeImage) -> None:
    desk.use()
    [image] = desk.apply_here().values()
    calls = desk.calls()
    assert [call.split()[0] for call in calls] == ["get_manifest", "open_blob"]
    assert calls[1].split()[2] == str(base.config)
    manifest = json.loads((desk.store / "blobs/sha256" / Digest(image).hex).read_bytes())
    assert [layer["digest"] for layer in manifest["layers"][:2]] == [str(d) for d in base.layers]
    assert desk.blobs() >= {base.manifest.digest.hex, base.config.hex}
    assert not desk.blobs() & {digest.hex for digest in base.layers}
    with desk.workspace() as workspace:
        lock = workspace.lock_of(workspace.find("train"))
        assert not workspace.plan().changes
        assert not workspace.store.verify().bad
    assert lock.base.reference == IMAGE
    assert (lock.base.manifest, lock.base.config) == (base.manifest.digest, base.config)
    assert tuple(layer.diff_id for layer in lock.base.layers) == base.diff_ids
    assert desk.calls() == []


def test_a_pinned_environment_needs_no_registry(desk: BaseDesk, base: MadeImage) -> None:
    desk.use()
    first = desk.apply_here()
    desk.registry.contents.clear()
    desk.calls()
    desk.use(IMAGE, "train", "alpha", "beta")
    second = desk.apply_here(offline=True)
    assert first != second
    with desk.workspace(offline=True) as workspace:
        assert not workspace.plan().changes
    assert desk.calls() == []


def test_the_lock_alone_fetches_manifest_and_config_by_digest(
    desk: BaseDesk, layout: LayoutMaker, base: MadeImage
) -> None:
    desk.use()
    first = desk.apply_here()
    moved = layout.add_image(TARS[:1])
    upload(layout, moved.manifest, desk.registry, "1")
    shutil.rmtree(desk.store)
    desk.calls()
    with desk.workspace(offline=True) as workspace:
        failures = workspace.apply(workspace.plan()).failures
    assert {d.code for failure in failures for d in failure.diagnostics} == {"offline"}
    assert desk.calls() == []
    assert desk.apply_here() == first
    assert desk.calls() == [
        f"get_manifest {REPOSITORY} {base.manifest.digest}",
        f"open_blob {REPOSITORY} {base.config} 0",
    ]


def test_a_thousandth_environment_asks_nothing_more(desk: BaseDesk, base: MadeImage) -> None:
    for number in range(5):
        desk.use(name=f"env{number}")
    desk.use(f"{HOST}/{REPOSITORY}@{base.manifest.digest}", "by-digest", "beta")
    desk.apply_here()
    assert sum(1 for call in desk.calls() if call.startswith("get_manifest")) == 2


def test_layers_are_fetched_where_they_are_needed_once(
    desk: BaseDesk, base: MadeImage, tmp_path: Path
) -> None:
    desk.use()
    [image] = map(Digest, desk.apply_here().values())
    assert desk.layers_opened(base) == []
    events: list[tuple[str, int, int]] = []
    with desk.workspace() as workspace:
        record = workspace.find("train")
        fetched = workspace.ensure_base(
            record, on_event=lambda e: events.append((e.kind, e.bytes_done, e.bytes_total))
        )
        assert set(fetched) == set(base.layers)
        assert sorted(desk.layers_opened(base)) == sorted(map(str, base.layers))
        assert workspace.ensure_base(record) == ()
        export_oci(workspace.store.blobs, image, [], tmp_path / "out.tar")
        root = prepare_image(workspace.store.blobs, image, folder=tmp_path / "roots").path
        assert not workspace.plan().changes
        assert not workspace.store.verify().bad
        workspace.store.gc(grace_seconds=0)
        assert workspace.ensure_base(record) == ()
    assert (root / "etc/os-release").read_bytes() == b"ID=small\n"
    assert desk.layers_opened(base) == []
    assert [kind for kind, *_ in events].count("done") == 2
    assert all(done == total for kind, done, total in events if kind == "done")


def test_a_base_layer_that_is_lost_is_no_damage(desk: BaseDesk, base: MadeImage) -> None:
    """It was there when the image was named, and it can be had again."""
    desk.use()
    desk.apply_here()
    with desk.workspace() as workspace:
        workspace.ensure_base(workspace.find("train"))
    desk.use(IMAGE, "train", "alpha", "beta")
    desk.apply_here()
    (desk.store / "blobs/sha256" / base.layers[0].hex).unlink()
    with desk.workspace() as workspace:
        assert not workspace.store.verify().bad
        assert not workspace.plan().changes
        assert workspace.ensure_base(workspace.find("train")) == (base.layers[0],)


def test_a_layer_with_another_content_is_not_kept(
    desk: BaseDesk, layout: LayoutMaker, base: MadeImage
) -> None:
    """A config that lies about a DiffID is found out when the layer comes."""
    config = json.loads((layout.folder / "blobs/sha256" / base.config.hex).read_bytes())
    config["rootfs"]["diff_ids"][0] = str(Digest.of(b"another"))
    manifest = json.loads((layout.folder / "blobs/sha256" / base.manifest.digest.hex).read_bytes())
    lying = layout.add_document(config, manifest["config"]["mediaType"])
    document = manifest | {"config": lying.to_json()}
    made = layout.add_document(document, manifest["mediaType"])
    upload(layout, made, desk.registry, "1")
    desk.use()
    desk.apply_here()
    with desk.workspace() as workspace:
        with pytest.raises(IntegrityError, match="unpacks to"):
            workspace.ensure_base(workspace.find("train"))
        assert not workspace.store.verify().bad
    assert base.layers[0].hex not in desk.blobs()


def test_the_workspaces_own_registry_has_the_layers_too(
    desk: BaseDesk, layout: LayoutMaker, base: MadeImage
) -> None:
    """The base's registry is gone; the image was pushed once, layers and all."""
    desk.use()
    desk.apply_here()
    desk.registry.contents.clear()
    desk.settings(registry={"type": "memory", "name": "own"})
    with desk.workspace() as workspace:
        record = workspace.find("train")
        with pytest.raises(ResolveError, match="no longer holds"):
            workspace.ensure_base(record)
        upload(layout, base.manifest, desk.plugin.registry("own"), "1", record.image_name)
        assert set(workspace.ensure_base(record)) == set(base.layers)
        assert not workspace.store.verify().bad


def test_a_manifest_without_its_layer(desk: BaseDesk, base: MadeImage) -> None:
    desk.use()
    desk.apply_here()
    del desk.registry.contents[REPOSITORY].blobs[base.layers[1]]
    with desk.workspace() as workspace:
        with pytest.raises(ResolveError, match="no longer holds") as caught:
            workspace.ensure_base(workspace.find("train"), parallelism=1)
        assert caught.value.diagnostics[0].code == "base-gone"
        assert workspace.store.blobs.has(base.layers[0])
    with desk.workspace(offline=True) as workspace, pytest.raises(OfflineError, match="--offline"):
        workspace.ensure_base(workspace.find("train"))


@pytest.mark.parametrize("docker", [False, True])
def test_an_index_is_resolved_for_each_locked_platform(
    desk: BaseDesk, layout: LayoutMaker, docker: bool
) -> None:
    images = {
        AMD64: layout.add_image(TARS, docker=docker),
        ARM64: layout.add_image(TARS[:1], platform=ARM64, docker=docker),
    }
    index = layout.add_index(images, docker=docker)
    upload(layout, index, desk.registry, "1")
    desk.settings(platforms=["linux-64", "linux-aarch64"])
    desk.use(IMAGE, "train", "settings")
    desk.calls()
    desk.apply_here()
    assert [call.split()[0] for call in desk.calls()].count("get_manifest") == 3
    with desk.workspace() as workspace:
        record = workspace.find("train")
        found = {p: workspace.lock_of(record, p).base for p in record.locks}
    assert found["linux-64"].manifest == images[AMD64].manifest.digest
    assert found["linux-aarch64"].manifest == images[ARM64].manifest.digest
    assert {base.index for base in found.values()} == {index.digest}
    desk.settings(platforms=["linux-64", "linux-s390x"])
    desk.use(IMAGE, "train", "settings", "tool")
    [text] = problems(desk).values()
    assert "no image for linux/s390x" in text
    assert "linux/amd64, linux/arm64" in text


def test_a_digest_beats_the_tag(desk: BaseDesk, layout: LayoutMaker, base: MadeImage) -> None:
    other = layout.add_image(TARS[:1])
    upload(layout, other.manifest, desk.registry, "1")
    desk.calls()
    desk.use(f"{HOST}/{REPOSITORY}:1@{base.manifest.digest}")
    desk.apply_here()
    assert not any(call.endswith(" 1") for call in desk.calls())
    with desk.workspace() as workspace:
        lock = workspace.lock_of(workspace.find("train"))
    assert lock.base.manifest == base.manifest.digest


def test_what_cannot_be_had_stops_nobody_else(
    desk: BaseDesk, layout: LayoutMaker, base: MadeImage
) -> None:
    arm = layout.add_image(TARS, platform=ARM64)
    upload(layout, arm.manifest, desk.registry, "arm")
    artifact = layout.add_document(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": layout.add_document({}, "application/vnd.cncf.helm.config.v1+json").to_json(),
            "layers": [],
        },
        "application/vnd.oci.image.manifest.v1+json",
    )
    upload(layout, artifact, desk.registry, "chart")
    schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    old = layout.add_document({"schemaVersion": 1, "fsLayers": []}, schema1)
    upload(layout, old, desk.registry, "schema1")
    desk.use(name="good")
    desk.use(f"{HOST}/{REPOSITORY}:2", "no-tag")
    desk.use(f"{HOST}/other/name:1", "no-repository")
    desk.use(f"{HOST}/{REPOSITORY}:arm", "arm")
    desk.use(f"{HOST}/{REPOSITORY}:chart", "chart")
    desk.use(f"{HOST}/{REPOSITORY}:schema1", "schema1")
    desk.use(f"{HOST}/{REPOSITORY}@sha512:{'0' * 128}", "sha512")
    with desk.workspace() as workspace:
        plan = workspace.plan()
        errors = {
            d.source.file.rsplit("/", 1)[-1]: d
            for d in plan.diagnostics
            if d.severity == "error" and d.source is not None
        }
        result = workspace.apply(plan)
    assert [item["name"] for item in result.environments] == ["good"]
    assert {name: d.code for name, d in errors.items()} == {
        "no-tag.yml": "base-tag",
        "no-repository.yml": "base-tag",
        "arm.yml": "base-platform",
        "chart.yml": "base-artifact",
        "schema1.yml": "image-document",
        "sha512.yml": "bad-reference",
    }
    assert "schema 1" in errors["schema1.yml"].summary
    assert f"envgraph registry login {HOST}" in errors["no-tag.yml"].hint
    assert all(d.hint for name, d in errors.items() if name != "schema1.yml")


def test_offline_and_not_pinned(desk: BaseDesk, base: MadeImage) -> None:
    desk.use()
    [(code, text)] = problems(desk, offline=True).items()
    assert code == "offline"
    assert "not pinned yet" in text
    assert "commit the lockfile" in text
    assert desk.calls() == []


def test_validate_and_check_ask_nobody(desk: BaseDesk, base: MadeImage) -> None:
    desk.use()
    assert desk.ok("validate", "--json", "--offline").code == 0
    with desk.workspace() as workspace:
        workspace.lock()
        desk.calls()
        assert workspace.lock(check=True).good
    assert desk.calls() == []
    assert desk.blobs() >= {base.manifest.digest.hex, base.config.hex}


def test_the_lock_verb_keeps_what_a_build_needs(desk: BaseDesk, base: MadeImage) -> None:
    desk.use()
    with desk.workspace() as workspace:
        workspace.lock()
    desk.registry.contents.clear()
    desk.calls()
    assert desk.apply_here(offline=True)
    assert desk.calls() == []


def test_one_base_by_two_ways(desk: BaseDesk, layout: LayoutMaker, base: MadeImage) -> None:
    """A base on disk is copied, whoever else has the same one in a registry."""
    layout.name(base.manifest, "base")
    desk.use(f"oci:{layout.folder}:base", "a-on-disk")
    desk.use(name="b-in-registry")
    images = desk.apply_here()
    assert len(set(images.values())) == 1
    assert {digest.hex for digest in base.layers} <= desk.blobs()


def test_a_base_on_disk_is_copied_even_where_its_sparse_image_is_there(
    desk: BaseDesk, layout: LayoutMaker, base: MadeImage
) -> None:
    layout.name(base.manifest, "base")
    desk.use(name="in-registry")
    first = desk.apply_here()
    desk.use(f"oci:{layout.folder}:base", "on-disk")
    assert desk.apply_here()["on-disk"] == first["in-registry"]
    assert {digest.hex for digest in base.layers} <= desk.blobs()
    assert desk.layers_opened(base) == []


def test_skopeo_reads_the_sparse_store(desk: BaseDesk, base: MadeImage) -> None:
    import subprocess

    skopeo = require_tool("skopeo")
    desk.use()
    [image] = desk.apply_here().values()
    done = subprocess.run(
        [skopeo, "inspect", f"oci:{desk.store}:desk/train:1"], capture_output=True, check=True
    )
    told = json.loads(done.stdout)
    assert told["Digest"] == image
    assert told["Layers"][:2] == [str(digest) for digest in base.layers]
