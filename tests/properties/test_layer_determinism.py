"""Equal archives give equal layers: whoever assembles them, however the bytes arrive."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from envgraph.image.archive_errors import ArchiveError
from envgraph.image.bytecode import BytecodeCompiler
from envgraph.image.compress import default_compression
from envgraph.image.layer import write_conda_layer
from envgraph.image.options import LayerOptions
from envgraph.model.locked import LockedPackage
from envgraph.testing.channel import PLACEHOLDER, File, Link, make_package
from envgraph_store.digest import Digest

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
OPTIONS = LayerOptions(
    python=VERSION, site_packages=f"lib/python{VERSION}/site-packages", bytecode_key="this"
)
PACKAGE = make_package(
    "sample",
    noarch="python",
    files={
        "site-packages/sample/__init__.py": f"x = {{'b', 'a', 'c'}}\np = {PLACEHOLDER!r}\n",
        "site-packages/sample/é.py": "def f(x): return x in {'q', 'w', 'e', 'r', 't', 'y'}\n",
        "python-scripts/run": File(f"#!{PLACEHOLDER}/bin/python\n", executable=True),
        "lib/native.so": random.Random(3).randbytes(2_500_000) + PLACEHOLDER.encode() + b"\0",
        "lib/link": Link("native.so"),
        "share/Case": "1",
        "share/case": "2",
    },
    entry_points=["sample = sample:f"],
)
ARCHIVE = PACKAGE.to_bytes()

SCRIPT = """
import hashlib, sys, os
from pathlib import Path
from envgraph.image.bytecode import BytecodeCompiler
from envgraph.image.layer import write_conda_layer
from envgraph.image.options import LayerOptions
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest

archive, umask, version, user = sys.argv[1:]
os.umask(int(umask, 8))
if int(user):
    os.setgid(int(user)); os.setuid(int(user))
data = Path(archive).read_bytes()
package = LockedPackage(
    "conda", "sample", "1.0", "0", "noarch", Digest.of(data), "here", noarch="python"
)
options = LayerOptions(
    python=version, site_packages=f"lib/python{version}/site-packages", bytecode_key="this"
)
digest = hashlib.sha256()
with BytecodeCompiler(Path(sys.executable)) as compiler, open(archive, "rb") as file:
    content = write_conda_layer(file, package, options, digest.update, compiler.compile)
print(digest.hexdigest(), content.diff_id)
"""


def assemble(file: BinaryIO, options: LayerOptions = OPTIONS) -> tuple[str, str]:
    package = LockedPackage(
        "conda", "sample", "1.0", "0", "noarch", Digest.of(ARCHIVE), "here", noarch="python"
    )
    digest = hashlib.sha256()
    with BytecodeCompiler(Path(sys.executable)) as compiler:
        content = write_conda_layer(file, package, options, digest.update, compiler.compile)
    return digest.hexdigest(), str(content.diff_id)


class Dribble(io.RawIOBase):
    """A file that gives fewer bytes than it is asked for."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data = io.BytesIO(data)
        self._chance = random.Random(seed)

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._data.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if size > 1000:
            size = self._chance.randint(1000, size)
        return self._data.read(size)


def test_54_umask_zone_locale_hash_seed_user_and_folder(tmp_path: Path) -> None:
    folder = tmp_path / "other place"
    folder.mkdir()
    for parent in (folder, *folder.parents[:-2]):
        parent.chmod(0o755)
    archive = folder / "sample.conda"
    archive.write_bytes(ARCHIVE)
    archive.chmod(0o644)
    expected = assemble(io.BytesIO(ARCHIVE))
    settings_of_others = [
        ("000", {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "1"}, "0"),
        ("077", {"TZ": "America/Caracas", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "2"}, "0"),
        ("022", {"PYTHONHASHSEED": "3", "PYTHONUTF8": "0", "HOME": "/nowhere"}, "0"),
    ]
    if os.geteuid() == 0 and _others_may_read_python():
        settings_of_others.append(("022", {"PYTHONHASHSEED": "4"}, "65534"))
    for umask, environment, user in settings_of_others:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(archive), umask, VERSION, user],
            env={"PATH": os.environ["PATH"], **environment},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert tuple(done.stdout.split()) == expected, environment


def _others_may_read_python() -> bool:
    path = Path(sys.executable).resolve()
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


@pytest.mark.parametrize("seed", range(3))
def test_how_the_bytes_arrive_does_not_matter(seed: int) -> None:
    for compression in (default_compression("zstd"), default_compression("gzip")):
        options = replace(OPTIONS, compression=compression)
        whole = assemble(io.BytesIO(ARCHIVE), options)
        assert assemble(cast(BinaryIO, Dribble(ARCHIVE, seed)), options) == whole


SMALL = make_package(
    "sample",
    noarch="python",
    files={"site-packages/s.py": "x", "t": PLACEHOLDER, "b": b"\0" + PLACEHOLDER.encode()},
    entry_points=["s = s:f"],
)
FORMATS = {form: SMALL.to_bytes(form) for form in ("conda", "tar.bz2")}  # type: ignore[arg-type]


@example("conda", [(0.5234375, 0)], "change")  # the name of a key in link.json
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from(["change", "insert", "delete"]),
)
def test_47_a_damaged_archive_is_refused_or_still_means_the_same(
    form: str, places: list[tuple[float, int]], how: str
) -> None:
    data = bytearray(FORMATS[form])
    for place, value in places:
        at = int(place * len(data))
        if how == "change":
            data[at] = value
        elif how == "insert":
            data.insert(at, value)
        else:
            del data[at]
    package = LockedPackage(
        "conda", "sample", "1.0", "0", "noarch", Digest.of(ARCHIVE), "here", noarch="python"
    )
    options = LayerOptions(python="3.12", site_packages="lib/python3.12/site-packages")

    def paths(archive: bytes) -> tuple[str, ...]:
        return write_conda_layer(io.BytesIO(archive), package, options, lambda _: None).paths

    try:
        found = paths(bytes(data))
    except ArchiveError:
        return
    assert found == paths(FORMATS[form])
