"""The real channel is real: rattler solves and installs it, and Python runs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envgraph.testing.channel import ChannelMaker
from envgraph.testing.http import ChannelServer
from tests.services import Channel, missing

INSTALL = """
import asyncio, os, sys, traceback
from rattler import *
async def main(url, target, cache, specs):
    virtual = [GenericVirtualPackage(PackageName(n), Version(v), BuildString("0"))
               for n, v in (("__unix", "0"), ("__linux", "0"), ("__glibc", "2.28"))]
    records = await solve([Channel(url)], specs, gateway=Gateway(),
                          platforms=["linux-64", "noarch"], virtual_packages=virtual)
    await install(records, target, cache_dir=cache)
    print(*sorted(f"{r.name.normalized}={r.version}" for r in records))
try:
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
sys.stdout.flush()
os._exit(0)
"""

IMPORTS = """
import bz2, ctypes, json, lzma, numpy, sqlite3, ssl, sys, sysconfig, uuid, yaml, zlib
outside = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3], "prefix": sys.prefix,
    "inverse": numpy.linalg.inv(numpy.eye(2) * 2).tolist(),
    "purelib": sysconfig.get_path("purelib"),
    "libraries": sorted(path for path in outside if not path.startswith(sys.prefix)),
}))
"""


def install(url: str, target: Path, *specs: str) -> str:
    cache = target.with_name(f"{target.name}-cache")
    command = [sys.executable, "-c", INSTALL, url, str(target), str(cache), *specs]
    own = {**os.environ, "XDG_CACHE_HOME": str(cache), "RATTLER_CACHE_DIR": str(cache / "rattler")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(*command: str | Path) -> str:
    environment = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_runs_from_another_folder_with_its_own_libraries(
    real_channel: Channel, tmp_path: Path
) -> None:
    prefix = tmp_path / "prefix"
    install(real_channel.url, prefix, "python", "numpy", "pyyaml", "tqdm <4.67")
    answer = json.loads(run(prefix / "bin" / "python", "-c", IMPORTS))
    assert answer["version"] == real_channel.python
    assert answer["prefix"] == str(prefix)
    assert answer["inverse"] == [[0.5, 0.0], [0.0, 0.5]]
    assert answer["purelib"].startswith(f"{prefix}/lib/python")
    assert answer["purelib"].endswith("/site-packages")
    stems = {Path(path).name.split(".so")[0] for path in answer["libraries"]}
    assert stems <= {"ld-linux-x86-64", "libc", "libm", "libpthread", "libdl", "librt", "libutil"}
    assert run(prefix / "bin" / "tqdm", "--version").strip() == "4.66.5"
    assert "usage" in run(prefix / "bin" / "f2py", "-h").lower()


def test_sharded_repodata_over_http_gives_the_same_packages(
    real_channel: Channel, real_http_channel: ChannelServer, tmp_path: Path
) -> None:
    from_folder = install(real_channel.url, tmp_path / "a", "rich", "tqdm")
    over_http = install(real_http_channel.url, tmp_path / "b", "rich", "tqdm")
    assert from_folder == over_http
    assert real_http_channel.count("/noarch/repodata_shards.msgpack.zst") >= 1
    assert real_http_channel.count("/noarch/repodata.json") == 0
    assert any("/shards/" in request.path for request in real_http_channel.requests)


@pytest.mark.slow
def test_python_is_packaged_to_the_same_bytes_again(real_channel: Channel, tmp_path: Path) -> None:
    ChannelMaker(tmp_path).add_python()
    made = sorted(tmp_path.glob("*/*.conda"))
    assert any(path.name.startswith("python-") for path in made)
    for path in made:
        before = real_channel.folder / path.relative_to(tmp_path)
        assert hashlib.sha256(path.read_bytes()).digest() == (
            hashlib.sha256(before.read_bytes()).digest()
        ), path.name


@pytest.mark.slow
def test_debians_python_finds_site_packages(tmp_path: Path) -> None:
    debian = Path("/usr/bin/python3")
    if not debian.exists():
        missing("this machine has no /usr/bin/python3")
    maker = ChannelMaker(tmp_path / "channel", python=debian)
    if maker.python.kind != "debian":
        missing("/usr/bin/python3 is not Debian's")
    maker.add_python().index()
    prefix = tmp_path / "prefix"
    install(maker.url, prefix, "python")
    script = "import site, sys, sysconfig, ssl, sqlite3; print(sys.prefix, *site.getsitepackages(), sysconfig.get_path('purelib'))"  # noqa: E501
    found = run(prefix / "bin" / "python", "-I", "-c", script).split()
    site = f"{prefix}/{maker.python.site_packages}"
    assert found == [str(prefix), site, site]


def test_a_wheel_that_is_nowhere_is_said_in_pips_words(tmp_path: Path) -> None:
    maker = ChannelMaker(tmp_path)
    with pytest.raises(RuntimeError, match=r"pip download failed: .*envgraph-no-such-thing"):
        maker.add_wheels(["./envgraph-no-such-thing.whl"])
