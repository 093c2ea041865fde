"""py-rattler's installation is the oracle: the layer holds the same files, byte for byte.

Known differences, and no others: ``conda-meta`` (ours holds only what archive and
lock identity say), shipped bytecode (dropped), ``CACHEDIR.TAG``.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import zstandard

from envgraph.image.layer import write_conda_layer
from envgraph.image.options import LayerOptions
from envgraph.model.locked import LockedPackage
from envgraph.testing.channel import PLACEHOLDER, ChannelMaker, File, Link, make_package
from envgraph_store.digest import Digest
from tests.services import Channel

INSTALL = """
import asyncio, json, os, sys
from pathlib import Path
from rattler import (
    Channel, Gateway, GenericVirtualPackage, MatchSpec, PackageName, Version, install, solve
)
from rattler.package.build_string import BuildString

channel, target, prefix, cache, names = sys.argv[1:]

async def main():
    virtual = [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))
        for name, version in (("__glibc", "2.36"), ("__unix", "0"), ("__linux", "0"))
    ]
    records = await solve(
        [Channel(channel)],
        [MatchSpec(name, strict=False) for name in json.loads(names)],
        gateway=Gateway(cache_dir=cache + "/index"),
        platforms=["linux-64", "noarch"],
        virtual_packages=virtual,
    )
    await install(
        records, target_prefix=target, alternative_target_prefix=prefix, cache_dir=cache
    )
    print(json.dumps([[str(r.subdir), r.file_name] for r in records]), flush=True)
    os._exit(0)

asyncio.run(main())
"""


def compare(channel: Path, names: list[str], scratch: Path, prefix: str, python: str) -> int:
    """Install ``names`` with rattler, assemble the same packages, compare; files compared."""
    target = scratch / "prefix"
    done = subprocess.run(
        [sys.executable, "-c", INSTALL, channel.as_uri(), str(target), prefix,
         str(scratch / "cache"), json.dumps(names)],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    options = LayerOptions(
        prefix=prefix, python=python, site_packages=f"lib/python{python}/site-packages"
    )
    seen: set[str] = set()
    for subdir, file_name in json.loads(done.stdout):
        seen |= compare_package(channel / subdir / file_name, options, target)
    installed = {
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    left = {path for path in installed - seen if not path.startswith("conda-meta/")}
    assert left <= {"CACHEDIR.TAG"} | {path for path in left if path.endswith(".pyc")}
    return len(seen)


def compare_package(archive: Path, options: LayerOptions, target: Path) -> set[str]:
    stem = archive.name.removesuffix(".conda").removesuffix(".tar.bz2")
    name, version, build = stem.rsplit("-", 2)
    package = LockedPackage(
        "conda", name, version, build, archive.parent.name, Digest.of(archive.read_bytes()), "c"
    )
    out: list[bytes] = []
    with archive.open("rb") as file:
        write_conda_layer(file, package, options, out.append)
    raw = zstandard.ZstdDecompressor().stream_reader(b"".join(out), read_across_frames=True).read()
    seen = set()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for info in tar:
            path = info.name.removeprefix(options.inner + "/")
            if info.isdir() or path.startswith("conda-meta/"):
                continue
            seen.add(path)
            real = target / path
            if info.issym():
                assert str(real.readlink()) == info.linkname, path
                continue
            file_in_tar = tar.extractfile(info)
            assert file_in_tar is not None
            assert file_in_tar.read() == real.read_bytes(), f"{archive.name}: {path}"
            assert info.mode & 0o100 == real.stat().st_mode & 0o100, path
    return seen


def test_packages_with_every_trick(tmp_path: Path) -> None:
    channel = tmp_path / "channel"
    noarch = make_package(
        "noarch-tool",
        noarch="python",
        depends=["python"],
        files={
            "site-packages/tool/__init__.py": f"prefix = {PLACEHOLDER!r}\n",
            "python-scripts/tool-old": File(f"#!{PLACEHOLDER}/bin/python -u\n", executable=True),
            "share/tool/x": "x",
        },
        entry_points=["tool = tool.cli:main.run", "tool2=tool:main"],
    )
    long_line = f"#!{PLACEHOLDER}/bin/a-name-{'x' * 130} --flag\n{PLACEHOLDER}\n"
    native = make_package(
        "native",
        files={
            "bin/script": File(long_line, executable=True),
            "bin/env-script": File("#!/bin/sh\nexit\n" + PLACEHOLDER, executable=True),
            "lib/lib.so.1": File(
                b"\x7fELF\0" + f"{PLACEHOLDER}/lib:{PLACEHOLDER}/lib64".encode() + b"\0\0rest",
                executable=True,
            ),
            "lib/lib.so": Link("lib.so.1"),
            "lib/at-the-end": File(b"\0" + PLACEHOLDER.encode(), prefix="binary"),
            "lib/large": File(b"\0" * 1_500_000 + PLACEHOLDER.encode() + b"/x\0" * 700_000),
            "lib/text-as-binary": File(f"{PLACEHOLDER}\n{PLACEHOLDER}\n", prefix="binary"),
            "lib/pkgconfig/x.pc": f"prefix={PLACEHOLDER}\nlibdir={PLACEHOLDER}/lib\n",
            "share/Case": "1",
            "share/case": "2",
            "share/" + "n" * 120 + "/" + "m" * 120: "long",
            "share/é ü": "é",
            "share/link": Link("../lib"),
            "empty": b"",
        },
    )
    old = make_package("old", files={"lib/old": PLACEHOLDER, "lib/old-link": Link("old")})
    python = make_package("python", "3.12.1", files={"bin/python3.12": b"\0"})
    maker = ChannelMaker(channel).add(noarch, native, python)
    maker.add(old, archive_format="tar.bz2").index()
    names = ["noarch-tool", "native", "old", "python"]
    assert compare(channel, names, tmp_path / "short", "/opt/env", "3.12") == 22
    # A prefix that makes shebangs too long, and one with a space in it.
    assert compare(channel, names, tmp_path / "long", "/opt/" + "x" * 140, "3.12") == 22
    assert compare(channel, names, tmp_path / "space", "/opt/my env", "3.12") == 22


@pytest.mark.slow
def test_packages_that_run(real_channel: Channel, tmp_path: Path) -> None:
    major_minor = ".".join(real_channel.python.split(".")[:2])
    names = ["python", "numpy", "rich", "jinja2", "pyyaml", "pip", "setuptools", "tqdm", "click"]
    compared = compare(real_channel.folder, names, tmp_path, "/opt/env", major_minor)
    assert compared > 3000


def test_rattler_reads_our_records(tmp_path: Path) -> None:
    package = make_package(
        "tool",
        "1.0",
        "py_0",
        ["python >=3.11"],
        noarch="python",
        files={"site-packages/t.py": PLACEHOLDER, "share/l": Link("x")},
        entry_points=["tool = t:main"],
        constrains=["other <1"],
        license="MIT",
    )
    data = package.to_bytes()
    locked = LockedPackage(
        "conda", "tool", "1.0", "py_0", "noarch", Digest.of(data), "conda-forge", noarch="python"
    )
    options = LayerOptions(
        python="3.12", site_packages="lib/python3.12/site-packages", bytecode_key="b"
    )
    out: list[bytes] = []
    write_conda_layer(io.BytesIO(data), locked, options, out.append, lambda *_: b"pyc")
    raw = zstandard.ZstdDecompressor().stream_reader(b"".join(out), read_across_frames=True).read()
    record = tmp_path / "tool-1.0-py_0.json"
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        file = tar.extractfile(f"opt/env/conda-meta/{record.name}")
        assert file is not None
        record.write_bytes(file.read())
    read = """
import json, os, sys
from rattler import PrefixRecord
record = PrefixRecord.from_path(sys.argv[1])
print(json.dumps([
    record.name.normalized, str(record.version), str(record.build), record.channel,
    record.file_name,
    [str(path) for path in record.files],
]), flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", read, str(record)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [
        "tool",
        "1.0",
        "py_0",
        "conda-forge",
        "tool-1.0-py_0.conda",
        [
            "bin/tool",
            "lib/python3.12/site-packages/__pycache__/t.cpython-312.pyc",
            "lib/python3.12/site-packages/t.py",
            "share/l",
        ],
    ]
