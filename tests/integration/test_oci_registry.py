"""The OCI plugin and Debian's docker-registry: found, pushed to, read back, read by skopeo."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.api import OCI_IMAGE_MANIFEST, Descriptor, Digest, Registry, RegistryError
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.plugins import Plugins
from envgraph.registry.remotes import Remotes
from envgraph_oci.options import OciOptions
from envgraph_oci.registry import OciRegistry
from envgraph_oci.wire import Wire
from tests.registries import RunningRegistry, docker_registry
from tests.services import require_tool

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def registry(running: RunningRegistry) -> Iterator[OciRegistry]:
    with_prefix = OciOptions(f"{running.host}/ml")
    opened = OciRegistry(Wire(with_prefix, root="/", lookup=lambda host, scope: None, environ={}))
    yield opened
    opened.close()


def push(registry: Registry, name: str, data: bytes) -> Descriptor:
    descriptor = Descriptor(LAYER, Digest.of(data), len(data))
    registry.repository(name).push_blob(descriptor, lambda: io.BytesIO(data))
    return descriptor


def push_image(registry: Registry, name: str, tag: str, layer: bytes) -> bytes:
    """A whole image; the bytes of its manifest."""
    first = push(registry, name, layer)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [str(first.digest)]},
        }
    ).encode()
    second = push(registry, name, config)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_MANIFEST,
            "config": {"mediaType": CONFIG, "digest": str(second.digest), "size": second.size},
            "layers": [{"mediaType": LAYER, "digest": str(first.digest), "size": first.size}],
        },
        indent=1,
    ).encode()
    registry.repository(name).put_manifest(tag, manifest, OCI_IMAGE_MANIFEST)
    return manifest


def test_the_plugin_is_found_by_its_entry_point(running: RunningRegistry, tmp_path: Path) -> None:
    plugins = Plugins()
    assert plugins.diagnostics == ()
    assert plugins.registries["oci"].host_of is not None
    config = WorkspaceConfig(
        "test", "1", str(tmp_path), registry=Provider("oci", {"url": f"{running.host}/found"})
    )
    with Remotes(config, plugins=plugins) as remotes:
        remote = remotes.workspace()
        assert remote is not None
        assert remote.title == running.host
        push_image(remote.registry, "app", "1", b"by the entry point")
        assert list(remote.repository("app").tags()) == ["1"]
        assert "found/app" in list(remotes.for_host(running.host).list())


def test_what_is_pushed_comes_back(registry: OciRegistry) -> None:
    data = os.urandom(3 << 20)
    repository = registry.repository("back")
    digest = Digest.of(data)
    assert repository.missing([digest]) == {digest}
    manifest = push_image(registry, "back", "v1", data)
    assert repository.missing([digest]) == frozenset()
    for offset in (0, 1, len(data) - 1):
        with repository.open_blob(digest, len(data), offset) as body:
            assert b"".join(iter(lambda: body.read(1 << 16), b"")) == data[offset:]
    found = repository.get_manifest("v1")
    assert (found.data, found.media_type) == (manifest, OCI_IMAGE_MANIFEST)
    assert repository.resolve("v1") == found.descriptor
    assert repository.resolve("v2") is None
    assert list(repository.tags()) == ["v1"]
    assert list(registry.repository("nowhere").tags()) == []


def test_skopeo_reads_what_we_push_and_we_read_what_it_pushes(
    running: RunningRegistry, registry: OciRegistry, tmp_path: Path
) -> None:
    skopeo = require_tool("skopeo")
    layer = tmp_path / "layer.tar"
    subprocess.run(["tar", "-cf", layer, "-C", "/etc", "hostname"], check=True)
    manifest = push_image(registry, "ours", "1", layer.read_bytes())

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([skopeo, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ours, theirs = f"docker://{running.host}/ml/ours:1", f"docker://{running.host}/ml/theirs:2"
    assert run("inspect", "--raw", "--tls-verify=false", ours).encode() == manifest
    layout = f"oci:{tmp_path / 'layout'}:1"
    run("copy", "--src-tls-verify=false", ours, layout)
    run("copy", "--dest-tls-verify=false", layout, theirs)
    found = registry.repository("theirs").get_manifest("2")
    for part in json.loads(found.data)["layers"]:
        with registry.repository("theirs").open_blob(Digest(part["digest"]), part["size"]) as body:
            data = b"".join(iter(lambda: body.read(1 << 16), b""))
        assert str(Digest.of(data)) == part["digest"]


def test_a_tag_cannot_be_deleted_there_and_a_manifest_can(registry: OciRegistry) -> None:
    repository = registry.repository("deleted")
    manifest = push_image(registry, "deleted", "v1", b"to be deleted")
    with pytest.raises(RegistryError) as caught:
        repository.delete("v1")
    assert caught.value.diagnostics[0].code == "registry-unsupported"
    repository.delete(str(Digest.of(manifest)))
    assert repository.resolve("v1") is None
