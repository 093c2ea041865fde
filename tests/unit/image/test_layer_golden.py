"""Bytes and keys that may never change without a new format number.

A failure here means that every layer ever made would be made anew. If that is
wanted: raise ``envgraph.image.options.FORMAT``, say why in the README, and only
then change these values.
"""

from __future__ import annotations

import io
import zipfile
from typing import Literal

import pytest

from envgraph.image.compress import Compression, default_compression
from envgraph.image.content import LayerContent
from envgraph.image.fixedlayers import write_root_layer
from envgraph.image.group import write_group
from envgraph.image.keys import conda_layer_key, group_key, root_layer_key, wheel_layer_key
from envgraph.image.layer import write_conda_layer
from envgraph.image.options import FORMAT, LayerOptions
from envgraph.image.wheel import write_wheel_layer
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest

PLACEHOLDER = "/opt/" + "p" * 250
PINNED = Compression("zstd", 3, "1.5.7")
OPTIONS = LayerOptions(
    python="3.12", site_packages="lib/python3.12/site-packages", compression=PINNED
)
CONDA = LockedPackage(
    "conda", "golden", "1.0", "h_0", "noarch", Digest.of(b"c"), "conda-forge", noarch="python"
)
WHEEL = LockedPackage("pip", "golden", "1.0", "", "", Digest.of(b"w"), "")


def conda_archive() -> bytes:
    """A package by hand, so that no change of a maker changes it."""
    import hashlib
    import json
    import tarfile

    large = b"".join(n.to_bytes(4, "little") for n in range(500_000)) + PLACEHOLDER.encode() + b"\0"
    files = {
        "site-packages/golden/__init__.py": f"p = {PLACEHOLDER!r}\n".encode(),
        "python-scripts/golden-old": f"#!{PLACEHOLDER}/bin/python\n".encode(),
        "lib/large": large,
        "share/" + "n" * 101: b"long",
        "share/é": b"utf-8",
    }
    rows = [
        {
            "_path": name,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(data).hexdigest(),
            "size_in_bytes": len(data),
        }
        | (
            {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary" if b"\0" in data else "text"}
            if PLACEHOLDER.encode() in data
            else {}
        )
        for name, data in files.items()
    ]
    link = {"noarch": {"type": "python", "entry_points": ["golden = golden:main"]}}
    index = {"name": "golden", "version": "1.0", "build": "h_0", "depends": ["python"]}
    info = {
        "info/index.json": json.dumps({**index, "noarch": "python"}).encode(),
        "info/paths.json": json.dumps({"paths": rows, "paths_version": 1}).encode(),
        "info/link.json": json.dumps(link).encode(),
    }

    def tar(contents: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, data in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return out.getvalue()

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for part, data in (("info", tar(info)), ("pkg", tar(files))):
            member = zipfile.ZipInfo(f"{part}-golden-1.0-h_0.tar.zst", (1980, 1, 1, 0, 0, 0))
            archive.writestr(member, stored_frame(data))
    return out.getvalue()


def stored_frame(data: bytes) -> bytes:
    """``data`` in a zstd frame without compression: the same with every library."""
    frame = b"\x28\xb5\x2f\xfd\x00\x58"
    for start in range(0, len(data), 1 << 17):
        block = data[start : start + (1 << 17)]
        last = start + len(block) == len(data)
        frame += (len(block) << 3 | last).to_bytes(3, "little") + block
    return frame


def wheel_archive() -> bytes:
    import base64
    import hashlib

    files = {
        "golden/__init__.py": b"x = 1\n",
        "golden-1.0.data/scripts/old": b"#!python\n",
        "golden-1.0.dist-info/METADATA": b"Name: golden\nVersion: 1.0\n",
        "golden-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
        "golden-1.0.dist-info/entry_points.txt": b"[console_scripts]\ngolden = golden:main\n",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        rows = ["golden-1.0.dist-info/RECORD,,"]
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            rows.append(f"{name},sha256={digest},{len(data)}")
        archive.writestr(zipfile.ZipInfo("golden-1.0.dist-info/RECORD"), "\n".join(rows))
    return out.getvalue()


def written(kind: str, compression: Literal["zstd", "gzip"] = "zstd") -> tuple[LayerContent, bytes]:
    options = LayerOptions(
        python="3.12",
        site_packages="lib/python3.12/site-packages",
        compression=default_compression(compression),
    )
    out: list[bytes] = []
    if kind == "root":
        content = write_root_layer(options, out.append)
    elif kind == "conda":
        data = conda_archive()
        content = write_conda_layer(io.BytesIO(data), CONDA, options, out.append)
    elif kind == "wheel":
        content = write_wheel_layer(io.BytesIO(wheel_archive()), WHEEL, options, out.append)
    else:
        members = [written("conda", compression), written("wheel", compression)]
        opened = [(member, io.BytesIO(blob)) for member, blob in members]
        content = write_group(opened, options, out.append)
    return content, b"".join(out)


DIFF_IDS = {
    "root": "sha256:6f423514b68218d8615438e87a371339cb94e92eef059fd1ee1c8faa502b5ce5",
    "conda": "sha256:6164cd9eca10d9d27232423f0579b0bfd631175431f7ddf262d4cd20e4b8565a",
    "wheel": "sha256:e7ce643b388d55d6c7aacbbe920e42d409946fe78c020774a7bff0630dcf6daf",
    "group": "sha256:ff8e8b2b5df90940b10b62c8120f5644c90534180555db5dcab79c8b5507304e",
}
COMPRESSED = {
    "zstd 1.5.7 level 3 frames 2": {
        "root": "sha256:498d331cfc706d513dd47bd7f2f425dcf967685dc767854b6f84044bc4fc5a62",
        "conda": "sha256:21ea4f6a2de7812a21ca7cd8012a1e704ce43dbc3326a89a1cae63016e1502bf",
        "wheel": "sha256:efaf2dd1bf0fabdf1cdf305ab585f11b40563f65c7a69c9cd4416456c97a8d7e",
        "group": "sha256:f78f274bb4a0b1f8e5dc4e1a82583a4d4a5be8c654ee84be4e0dffb528960892",
    },
}
KEYS = {
    "root": "envkey1:1ee0543caf6fa03ba49883834b695f0dabf5764b262a4d544ee8ea5ca5a3bf32",
    "conda": "envkey1:5122f5d3101de238a2ec8b21fba921e0473499a19ac8166d80e2df3d4ea19590",
    "wheel": "envkey1:23860aaffd55b1e604d4b2cae63e6392c62a55f388df55b640b60f0a6872251e",
    "group": "envkey1:a92aa8d799fe64b56159a7a73359ba616d08c6757136e37ce0adc2f9eccc18f3",
}


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
@pytest.mark.parametrize("kind", sorted(DIFF_IDS))
def test_raw_layers(kind: str, compression: Literal["zstd", "gzip"]) -> None:
    content, blob = written(kind, compression)
    assert str(content.diff_id) == DIFF_IDS[kind]
    expected = COMPRESSED.get(default_compression(compression).key)
    if expected is not None:
        assert str(Digest.of(blob)) == expected[kind]


def test_keys() -> None:
    conda, wheel = conda_layer_key(CONDA, OPTIONS), wheel_layer_key(WHEEL, OPTIONS)
    found = {
        "root": root_layer_key(OPTIONS),
        "conda": conda,
        "wheel": wheel,
        "group": group_key([conda, wheel], OPTIONS),
    }
    assert {name: str(key) for name, key in found.items()} == KEYS


def test_the_format_has_this_number() -> None:
    assert FORMAT == 1
