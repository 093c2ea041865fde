"""Big files pass through: memory stays flat whatever an archive holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import io, json, random, resource, sys, tarfile, zipfile
import zstandard
from envgraph.image.layer import write_conda_layer
from envgraph.image.options import LayerOptions
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest

size, kind, path = int(sys.argv[1]) << 20, sys.argv[2], sys.argv[3]
placeholder = "/opt/" + "p" * 250
block = placeholder.encode() + b"/lib\\0" + random.Random(1).randbytes((1 << 20) - 260)
row = {"_path": "lib/large.so", "path_type": "hardlink", "size_in_bytes": size}
if kind == "binary":
    row |= {"prefix_placeholder": placeholder, "file_mode": "binary"}
about = {"name": "large", "version": "1", "build": "0", "build_number": 0, "depends": []}

def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()

info = tar({
    "info/index.json": json.dumps(about).encode(),
    "info/paths.json": json.dumps({"paths": [row], "paths_version": 1}).encode(),
})
member = tarfile.TarInfo("lib/large.so")
member.size = size
with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
    archive.writestr("info-large-1-0.tar.zst", zstandard.compress(info))
    with archive.open("pkg-large-1-0.tar.zst", "w") as file:
        squeeze = zstandard.ZstdCompressor(level=1).compressobj()
        file.write(squeeze.compress(member.tobuf()))
        for _ in range(size >> 20):
            file.write(squeeze.compress(block))
        file.write(squeeze.compress(bytes(1024)) + squeeze.flush())
package = LockedPackage("conda", "large", "1", "0", "linux-64", Digest.of(b""), "c")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(path, "rb") as file:
    content = write_conda_layer(file, package, LayerOptions(), lambda piece: None)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(content.raw_size >> 20, (after - before) >> 10)
"""


@pytest.mark.parametrize("kind", ["plain", "binary"])
def test_37_a_large_library_is_streamed(kind: str, tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "400", kind, f"{tmp_path}/large.conda"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    raw, grown = map(int, done.stdout.split())
    assert raw == 400
    assert grown < 64, "MiB more than before"
