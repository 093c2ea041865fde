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
    "zstd 1.5.7 level 3 frames 1": {
        "root": "sha256:13282ea51b94176736818df997e5f61ee9e621a5c54943384e9ec89b225fe60e",
        "conda": "sha256:f199ab25b656bf535227344516ccf2869aa59516f8ff40e73dd80af093ff1585",
        "wheel": "sha256:2e44f2ed0653737f8f6ac20df12cdf2256c54fd2fb4e8385bb34e17c25a7e320",
        "group": "sha256:0514437c524a45fc14bd386c239799cc2152339ea9929baeda6b7f8f71f8f5f4",
    },
}
KEYS = {
    "root": "envkey1:8d54727dfcce5fbea02dd469499971fb9f09ec882e3ae8b61e46fe4e6b099365",
    "conda": "envkey1:732ee3414353f588597f210814035c6d0aec546dc2d30fed16ca5253e240e508",
    "wheel": "envkey1:665cbfdafaea61da0fa73c7a84d8169b9fa4e19d5222ca6f0d10b53f970314b5",
    "group": "envkey1:c688b6d18ab87f861c65b2af4bb9e37e1133a99ce52d3b79610b3cd1598befe7",
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
