"""One small image, byte for byte: a change here changes every image ever made.

``image/layout`` is the exported OCI layout; ``image/compression.txt`` names the
compressor that wrote its layers. Another version of that library may compress in
another way: then layers are compared unpacked, and the config must still be equal.
Rewritten by ``make golden``, and only together with a new format number.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from envgraph.image.assemble import StoredLayer, assemble_image
from envgraph.image.bases import copy_base, open_layer
from envgraph.image.content import LayerContent
from envgraph.image.fixedlayers import write_root_layer
from envgraph.image.group import write_group
from envgraph.image.layer import write_conda_layer
from envgraph.image.oci_export import export_oci
from envgraph.image.options import LayerOptions
from envgraph.lock.images import ResolvedBase, resolve_base
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.testing.channel import PLACEHOLDER, File, Link, make_package
from envgraph.testing.channel.archive import Package
from envgraph.testing.layouts import LayoutMaker, tar_bytes
from envgraph_store import Digest, Store

GOLDEN = Path(__file__).parent / "image"
OPTIONS = LayerOptions(python="3.12", site_packages="lib/python3.12/site-packages")

PACKAGES = (
    make_package(
        "alpha",
        files={
            "bin/alpha": File(f"#!{PLACEHOLDER}/bin/sh\necho alpha\n", executable=True),
            "lib/libalpha.so.1": b"\x7fBIN\0" + PLACEHOLDER.encode() + b"/share\0\1\2",
            "lib/libalpha.so": Link("libalpha.so.1"),
            "share/alpha/é " + "long" * 40: "a long name\n",
        },
    ),
    make_package(
        "settings",
        noarch="generic",
        files={"etc/settings.conf": f"prefix={PLACEHOLDER}\n"},
        env_vars={"SETTINGS_MODE": "fast"},
        activate="export SETTINGS_ACTIVE=1\n",
    ),
    make_package(
        "tool",
        "0.3",
        noarch="python",
        files={"site-packages/tool/__init__.py": "def main():\n    print('tool')\n"},
        entry_points=["tool = tool:main"],
    ),
)
RUNTIME = {
    "environment_variables": {"MODE": "golden"},
    "inference_config": {"scoring_route": {"port": 5001, "path": "/score"}},
}


def _locked(package: Package) -> LockedPackage:
    # The archive's own hash would be the channel maker's business.
    return LockedPackage(
        "conda",
        package.name,
        package.version,
        package.build,
        package.subdir,
        Digest.of(package.name.encode()),
        "golden",
        file_name=package.file_name("conda"),
        noarch="python" if package.name == "tool" else "",
    )


def _base(folder: Path) -> LayoutMaker:
    layout = LayoutMaker(folder)
    tars = [tar_bytes({"etc/os-release": b"ID=golden\n"})]
    settings = {"Env": ["PATH=/usr/bin:/bin", "PYTHONPATH=/base"], "Cmd": ["sh"]}
    layout.name(layout.add_image(tars, compression="", docker=True, config=settings).manifest)
    return layout


def _make(folder: Path) -> Path:
    """Assemble the image in a store, and export it."""
    layout = _base(folder / "base")
    base = resolve_base("oci:base", str(layout.folder), "linux-64")
    locked = [_locked(package) for package in PACKAGES]
    with Store.open(folder / "store") as store, store.transaction() as batch:

        def keep(make: Callable[[Callable[[bytes], object]], LayerContent]) -> StoredLayer:
            data = bytearray()
            content = make(data.extend)
            blobs[digest := batch.add_bytes(bytes(data))] = bytes(data)
            return StoredLayer(digest, content, Digest.of(content.listing()))

        blobs: dict[Digest, bytes] = {}
        copy_base(base, store.blobs.has, lambda d, n: batch.writer("blobs", expect=d, size=n))
        single = [
            keep(
                lambda write, package=package, lock=lock: write_conda_layer(
                    io.BytesIO(package.to_bytes("conda")), lock, OPTIONS, write, None
                )
            )
            for package, lock in zip(PACKAGES, locked, strict=True)
        ]
        members = [(layer.content, io.BytesIO(blobs[layer.digest])) for layer in single[1:]]
        layers = [
            keep(lambda write: write_root_layer(OPTIONS, write)),
            single[0],
            keep(lambda write: write_group(members, OPTIONS, write)),
        ]
        image = assemble_image(_lock(base.locked, locked), RUNTIME, layers, _config(base), OPTIONS)
        batch.add_bytes(image.wrapper)
        batch.add_bytes(image.config)
        batch.add_bytes(image.manifest)
        batch.commit()
        export_oci(store.blobs, image.digest, ["golden/image:1"], folder / "layout", docker=False)
    return folder / "layout"


def _lock(base: LockedBase, packages: list[LockedPackage]) -> LockedEnvironment:
    digest = Digest.of(b"golden")
    return LockedEnvironment(digest, digest, "linux-64", base, tuple(packages))


def _config(base: ResolvedBase) -> bytes:
    assert base.locked.config is not None
    with base.open(base.locked.config) as file:
        return file.read()


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _manifest(files: Mapping[str, bytes]) -> dict[str, object]:
    [entry] = json.loads(files["index.json"])["manifests"]
    manifest: dict[str, object] = json.loads(_blob(files, entry["digest"]))
    return manifest


def _blob(files: Mapping[str, bytes], digest: str) -> bytes:
    return files["blobs/" + digest.replace(":", "/")]


def _unpacked(files: Mapping[str, bytes]) -> list[bytes]:
    """The config, and each layer's tar."""
    manifest = _manifest(files)
    result = [_blob(files, manifest["config"]["digest"])]  # type: ignore[index]
    for layer in manifest["layers"]:  # type: ignore[attr-defined]
        reader = open_layer(io.BytesIO(_blob(files, layer["digest"])), layer["mediaType"])
        raw, buffer = bytearray(), bytearray(1 << 16)
        while count := reader.readinto(buffer):
            raw += buffer[:count]
        result.append(bytes(raw))
    return result


def test_the_golden_image(
    tmp_path: Path, golden: Callable[[Path, str | bytes], None], request: pytest.FixtureRequest
) -> None:
    made = _files(_make(tmp_path))
    key = OPTIONS.compression.key + "\n"
    recorded = GOLDEN / "compression.txt"
    if request.config.getoption("--rewrite-golden"):
        shutil.rmtree(GOLDEN, ignore_errors=True)
        golden(recorded, key)
    expected = _files(GOLDEN / "layout") if (GOLDEN / "layout").is_dir() else {}
    if expected and recorded.read_text() != key:
        assert _unpacked(made) == _unpacked(expected)
        return
    for name, data in made.items():
        golden(GOLDEN / "layout" / name, data)
    assert set(_files(GOLDEN / "layout")) == set(made)


def test_the_image_is_the_same_in_another_place(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert _files(_make(tmp_path)) == _files(_make(tmp_path / "elsewhere"))
