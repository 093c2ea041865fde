"""Tools that we did not write read our images, and agree on every digest (RELIABILITY 57)."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from envgraph.image.bases import open_layer
from envgraph.image.manifest import Descriptor, image_index
from envgraph.image.oci_export import export_oci
from envgraph.lock.images import resolve_base
from envgraph.model.reference import BadReferenceError, parse_registry_reference
from envgraph.testing.base import make_base
from envgraph.testing.layouts import AMD64, LayoutMaker, MadeImage, Platform, tar_bytes
from envgraph_store import Digest, Store
from tests.desk import Desk
from tests.services import Channel, missing, require_root, require_tool

pytestmark = pytest.mark.services

NAME = "desk/train:1"


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class Applied:
    """An applied environment: its desk, and the documents of its image as we keep them."""

    desk: Desk
    digest: Digest
    manifest: dict[str, Any]
    config: dict[str, Any]

    @property
    def layout(self) -> str:
        return f"oci:{self.desk.store}:{NAME}"

    @property
    def config_digest(self) -> str:
        return str(self.manifest["config"]["digest"])

    @property
    def layers(self) -> list[str]:
        return [layer["digest"] for layer in self.manifest["layers"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers")


@pytest.fixture(scope="module")
def applied(folder: Path, demo_channel: Channel) -> dict[str, Applied]:
    """The same environment, once with zstd and once with gzip layers, on a small base."""
    base = make_base(folder / "base")
    return {name: _apply(folder / name, demo_channel, base.reference) for name in ("zstd", "gzip")}


def _apply(root: Path, channel: Channel, base: str) -> Applied:
    desk = Desk(root, channel.url)
    image = {"compression": root.name, "bytecode": "none", "default_base": base}
    desk.settings(image=image)
    desk.environment("train", "beta", "gamma", "settings", "tool")
    digest = Digest(desk.apply()["environments"][0]["image"])
    with Store.open(desk.store, create=False) as store:
        manifest = json.loads(store.blobs.read(digest))
        config = json.loads(store.blobs.read(Digest(manifest["config"]["digest"])))
    return Applied(desk, digest, manifest, config)


@pytest.fixture
def policy(tmp_path: Path) -> str:
    """A policy file that trusts what lies on this disk."""
    path = tmp_path / "policy.json"
    path.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    return str(path)


BOTH = pytest.mark.parametrize("compression", ["zstd", "gzip"])


def test_the_config_does_not_depend_on_compression(applied: dict[str, Applied]) -> None:
    assert applied["zstd"].config_digest == applied["gzip"].config_digest
    assert applied["zstd"].digest != applied["gzip"].digest


@BOTH
def test_skopeo_inspects_the_store(applied: dict[str, Applied], compression: str) -> None:
    image = applied[compression]
    said = json.loads(run(require_tool("skopeo"), "inspect", image.layout))
    assert said["Digest"] == str(image.digest)
    assert said["Layers"] == image.layers
    assert (said["Os"], said["Architecture"]) == ("linux", "amd64")
    config = run(require_tool("skopeo"), "inspect", "--config", "--raw", image.layout)
    assert "sha256:" + hashlib.sha256(config.encode()).hexdigest() == image.config_digest


@BOTH
def test_skopeo_copies_every_byte(
    applied: dict[str, Applied], compression: str, tmp_path: Path, policy: str
) -> None:
    image = applied[compression]
    skopeo = [require_tool("skopeo"), "--policy", policy, "copy", "-q", image.layout]
    run(*skopeo, f"oci:{tmp_path}/copy:x")
    copied = {path.name for path in (tmp_path / "copy/blobs/sha256").iterdir()}
    expected = [str(image.digest), image.config_digest, *image.layers]
    assert copied == {text.removeprefix("sha256:") for text in expected}
    ours = resolve_base("oci:copy:x", str(tmp_path / "copy"), "linux-64")
    assert ours.locked.manifest == image.digest


@BOTH
def test_buildah_starts_from_the_store(
    applied: dict[str, Applied], compression: str, tmp_path: Path, policy: str
) -> None:
    require_root()
    image = applied[compression]
    buildah = [require_tool("buildah"), "--root", f"{tmp_path}/root"]
    buildah += ["--runroot", f"{tmp_path}/run", "--storage-driver", "vfs"]
    container = run(*buildah, "from", "--signature-policy", policy, image.layout).strip()
    try:
        said = json.loads(run(*buildah, "inspect", container))
        assert said["FromImageDigest"] == str(image.digest)
        assert "sha256:" + said["FromImageID"] == image.config_digest
        mounted = Path(run(*buildah, "mount", container).strip())
        _check_files(mounted, image)
        run(*buildah, "umount", container)
    finally:
        run(*buildah, "rm", container)
        run(*buildah, "rmi", "-a", check=False)


def test_umoci_unpacks_gzip(applied: dict[str, Applied], tmp_path: Path) -> None:
    require_root()
    image = applied["gzip"]
    words = ["unpack", "--image", f"{image.desk.store}:{NAME}", str(tmp_path / "bundle")]
    run(require_tool("umoci"), *words)
    _check_files(tmp_path / "bundle/rootfs", image)
    config = json.loads((tmp_path / "bundle/config.json").read_text())
    assert "SETTINGS_MODE=fast" in config["process"]["env"]


def _check_files(root: Path, image: Applied) -> None:
    """Every entry of every layer is there: bytes, mode, owner, time."""
    seen: dict[str, tarfile.TarInfo] = {}
    data: dict[str, bytes] = {}
    with Store.open(image.desk.store, create=False) as store:
        for layer in image.manifest["layers"]:
            with store.blobs.open(Digest(layer["digest"])) as source:
                reader = open_layer(source, layer["mediaType"])
                raw = bytearray()
                buffer = bytearray(1 << 16)
                while count := reader.readinto(buffer):
                    raw += buffer[:count]
            for name, member, content in _members(bytes(raw)):
                seen[name] = member
                data[name] = content
    assert len(seen) > 40
    for name, member in seen.items():
        status = (root / name).lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), name
        if member.issym():
            assert str((root / name).readlink()) == member.linkname
            continue
        assert stat.S_IMODE(status.st_mode) == member.mode, name
        if member.isreg():
            assert (root / name).read_bytes() == data[name]
            assert status.st_mtime == member.mtime


def _members(raw: bytes) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for member in archive:
            if Path(member.name).name.startswith(".wh."):
                continue
            file = archive.extractfile(member) if member.isreg() else None
            yield member.name.rstrip("/"), member, b"" if file is None else file.read()


# Exported layouts.


@BOTH
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_skopeo_reads_the_export(
    applied: dict[str, Applied], compression: str, form: str, tmp_path: Path, policy: str
) -> None:
    image = applied[compression]
    out = tmp_path / ("image.tar" if form == "tar" else "image")
    image.desk.ok("export", "train", "--format", "oci", "-o", str(out))
    skopeo = require_tool("skopeo")
    transport = "oci-archive" if form == "tar" else "oci"
    said = json.loads(run(skopeo, "inspect", f"{transport}:{out}"))
    assert said["Digest"] == str(image.digest)
    if form == "tar":
        copy = [skopeo, "--policy", policy, "copy", "-q", f"docker-archive:{out}"]
        run(*copy, f"dir:{tmp_path}/dir")
        manifest = json.loads((tmp_path / "dir/manifest.json").read_text())
        assert manifest["config"]["digest"] == image.config_digest
    ours = resolve_base("oci:image", str(out), "linux-64")
    assert ours.locked.manifest == image.digest


@contextmanager
def dockerd(folder: Path) -> Iterator[list[str]]:
    """A daemon of its own, without networks; yields the client's command."""
    require_root()
    folder.mkdir()
    socket = folder / "docker.sock"
    words = [require_tool("dockerd"), "--data-root", f"{folder}/data", "--exec-root"]
    words += [f"{folder}/exec", "--pidfile", f"{folder}/pid", "--host", f"unix://{socket}"]
    words += ["--iptables=false", "--bridge=none", "--storage-driver=vfs"]
    client = [require_tool("docker"), "--host", f"unix://{socket}"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run([*client, "version"], capture_output=True, check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                missing(f"dockerd does not start: {(folder / 'log').read_text()[-2000:]}")
        yield client
    finally:
        daemon.terminate()
        daemon.wait(60)


@pytest.fixture(scope="module")
def docker(folder: Path) -> Iterator[list[str]]:
    # A socket's path may have 107 bytes: not below a deep temporary folder.
    with dockerd(folder / "d") as client:
        yield client


@BOTH
def test_docker_load_agrees_on_the_image(
    applied: dict[str, Applied], compression: str, docker: list[str], tmp_path: Path
) -> None:
    image = applied[compression]
    out = tmp_path / "image.tar"
    image.desk.ok("export", "train", "--format", "oci", "-o", str(out))
    loaded = run(*docker, "load", "-i", str(out))
    tag = loaded.strip().removeprefix("Loaded image: ")
    try:
        [said] = json.loads(run(*docker, "image", "inspect", tag))
        assert said["Id"] == image.config_digest
        assert said["RootFS"]["Layers"] == image.config["rootfs"]["diff_ids"]
        assert said["Config"]["Env"] == image.config["config"]["Env"]
        words = ["run", "--rm", "--network", "none", tag, "/bin/sh", "-c"]
        shown = run(*docker, *words, 'echo "$SETTINGS_MODE $SETTINGS_ACTIVE $CONDA_PREFIX"')
        assert shown == "fast 1 /opt/env\n"
        saved = tmp_path / "saved.tar"
        run(*docker, "save", "-o", str(saved), tag)
        back = resolve_base("docker-archive:saved.tar", str(saved), "linux-64")
        assert str(back.locked.config) == image.config_digest
    finally:
        run(*docker, "rmi", tag)


def test_an_export_is_the_same_bytes_again(applied: dict[str, Applied], tmp_path: Path) -> None:
    image = applied["zstd"]
    for name in ("one.tar", "two.tar"):
        image.desk.ok("export", "train", "--format", "oci", "-o", str(tmp_path / name))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


# What others write, and several platforms.


def test_an_index_of_two_platforms(tmp_path: Path, policy: str) -> None:
    arm = Platform("linux", "arm64")
    layout = LayoutMaker(tmp_path / "layout")
    images: dict[str, MadeImage] = {
        "linux-64": layout.add_image([tar_bytes({"a": b"amd64"})], compression="zstd"),
        "linux-aarch64": layout.add_image([tar_bytes({"a": b"arm64"})], platform=arm),
    }
    data = image_index([(image.manifest, name) for name, image in images.items()])
    digest = layout.add_blob(data)
    layout.name(Descriptor(json.loads(data)["mediaType"], digest, len(data)), "both")
    skopeo = [require_tool("skopeo"), "--policy", policy]
    for architecture, name in (("amd64", "linux-64"), ("arm64", "linux-aarch64")):
        words = ["--override-arch", architecture, "--override-os", "linux", "inspect"]
        said = json.loads(run(*skopeo, *words, f"oci:{layout.folder}:both"))
        assert said["Layers"] == [str(d) for d in images[name].layers]
    with Store.open(tmp_path / "store") as store:
        with store.transaction() as batch:
            for path in (layout.folder / "blobs/sha256").iterdir():
                batch.add_file(path)
            batch.commit()
        export_oci(store.blobs, digest, ["ml/both:1"], tmp_path / "both.tar")
    run(*skopeo, "copy", "-q", "--all", f"oci-archive:{tmp_path}/both.tar", f"oci:{tmp_path}/c:x")
    copied = json.loads((tmp_path / "c/index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in copied] == [str(digest)]
    with tarfile.open(tmp_path / "both.tar") as archive:
        listing = archive.extractfile("manifest.json")
        assert listing is not None
        [shown] = json.loads(listing.read())
    assert shown["Config"].endswith(images["linux-64"].config.hex)


@pytest.mark.parametrize("target", ["oci", "oci-archive", "docker-archive"])
def test_we_read_what_skopeo_writes(target: str, tmp_path: Path, policy: str) -> None:
    layout = LayoutMaker(tmp_path / "layout")
    image = layout.add_image([tar_bytes({"a": b"one"}), tar_bytes({"b": b"two"})], platform=AMD64)
    layout.name(image.manifest, "x")
    out = tmp_path / "out"
    words = [require_tool("skopeo"), "--policy", policy, "copy", "-q", f"oci:{layout.folder}:x"]
    run(*words, f"{target}:{out}:ml/x:1")
    kind = "docker-archive" if target == "docker-archive" else "oci"
    base = resolve_base(f"{kind}:out:ml/x:1", str(out), "linux-64")
    assert tuple(layer.diff_id for layer in base.locked.layers) == image.diff_ids
    assert base.locked.config == image.config
    if kind == "oci":
        assert base.locked.manifest == image.manifest.digest


def test_we_read_what_umoci_writes(tmp_path: Path) -> None:
    require_root()
    umoci = require_tool("umoci")
    layout = tmp_path / "layout"
    run(umoci, "init", "--layout", str(layout))
    run(umoci, "new", "--image", f"{layout}:one")
    run(umoci, "unpack", "--image", f"{layout}:one", str(tmp_path / "bundle"))
    (tmp_path / "bundle/rootfs/hello").write_text("hello")
    run(umoci, "repack", "--image", f"{layout}:one", str(tmp_path / "bundle"))
    base = resolve_base("oci:layout:one", str(layout), "linux-64")
    assert len(base.locked.layers) == 1


def test_skopeo_agrees_on_what_a_reference_is() -> None:
    """Its parser is docker's own; a reference that it takes fails on the missing file."""
    skopeo = require_tool("skopeo")
    random = Random(52)
    pieces = ["-", "__", "___", ".", "/", ":", "a", "b1", "A", "localhost", "5000", "docker.io"]
    accepted = 0
    for _ in range(150):
        text = "".join(random.choices(pieces, k=random.randint(1, 5)))
        words = [skopeo, "inspect", f"docker-archive:/nowhere.tar:{text}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        theirs = "no such file" in done.stderr
        accepted += theirs
        try:
            parse_registry_reference(text)
        except BadReferenceError:
            assert not theirs, text
        else:
            assert theirs, text
    assert accepted > 5
