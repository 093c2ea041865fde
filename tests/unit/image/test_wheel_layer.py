"""Wheels: equal to what PyPA's installer writes for the same prefix, file by file."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import installer
import pytest
import zstandard
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile

from envgraph.image.content import LayerContent
from envgraph.image.options import LayerOptions
from envgraph.image.wheel import write_wheel_layer
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest

SITE = "lib/python3.12/site-packages"
OPTIONS = LayerOptions(python="3.12", site_packages=SITE)
INFO = "Tool_Box-1.0.dist-info"
DATA = "Tool_Box-1.0.data"
FILES = {
    "toolbox/__init__.py": (b"x = 1\n", 0o644),
    "toolbox/run.sh": (b"#!/bin/sh\n", 0o755),
    "toolbox/native.so": (b"\x7fELF" + bytes(3_000_000), 0o755),
    "toolbox/__pycache__/x.cpython-312.pyc": (b"old", 0o644),
    "toolbox/empty": (b"", 0o644),
    f"{DATA}/scripts/tool-old": (b"#!python -u\nprint(1)\n", 0o755),
    f"{DATA}/scripts/tool-sh": (b"#!/bin/sh\necho\n", 0o755),
    f"{DATA}/scripts/tool-big": (b"\x7fELF" + bytes(17 << 20), 0o755),
    f"{DATA}/data/share/tool/doc, quoted.txt": (b"doc", 0o644),
    f"{DATA}/headers/tool.h": (b"//", 0o644),
    f"{DATA}/purelib/pure.py": (b"1\n", 0o644),
    f"{INFO}/METADATA": (b"Metadata-Version: 2.1\nName: Tool.Box\nVersion: 1.0\n", 0o644),
    f"{INFO}/WHEEL": (b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n", 0o644),
    f"{INFO}/entry_points.txt": (
        b"[console_scripts]\ntool = toolbox.cli:main.run\n[gui_scripts]\ntool-gui = toolbox:gui\n"
        b"[other]\nx = toolbox:plugin\n",
        0o644,
    ),
}


def make_wheel(files: Mapping[str, tuple[bytes, int]] = FILES) -> bytes:
    out = io.BytesIO()
    rows = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (data, mode) in files.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.external_attr = (stat.S_IFREG | mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            quoted = f'"{name}"' if "," in name else name
            rows.append(f"{quoted},sha256={digest},{len(data)}")
        rows.append(f"{INFO}/RECORD,,")
        archive.writestr(f"{INFO}/RECORD", "\n".join(rows) + "\n")
    return out.getvalue()


def assembled(data: bytes, options: LayerOptions = OPTIONS) -> tuple[LayerContent, bytes]:
    package = LockedPackage("pip", "tool-box", "1.0", "", "", Digest.of(data), "")
    out: list[bytes] = []
    content = write_wheel_layer(io.BytesIO(data), package, options, out.append)
    raw = zstandard.ZstdDecompressor().stream_reader(b"".join(out), read_across_frames=True).read()
    assert content.diff_id == Digest.of(raw)
    return content, raw


def installed(wheel: Path, target: Path) -> None:
    """PyPA's installer, staged below ``target`` for the prefix /opt/env."""
    scheme = {
        "purelib": f"/opt/env/{SITE}",
        "platlib": f"/opt/env/{SITE}",
        "headers": "/opt/env/include/python3.12/tool-box",
        "scripts": "/opt/env/bin",
        "data": "/opt/env",
    }
    destination = SchemeDictionaryDestination(
        scheme, interpreter="/opt/env/bin/python3.12", script_kind="posix", destdir=str(target)
    )
    with WheelFile.open(wheel) as source:
        installer.install(source, destination, {"INSTALLER": b"envgraph\n"})


@pytest.mark.filterwarnings("ignore:Skip installing:RuntimeWarning")
def test_every_file_is_what_pypa_installer_writes(tmp_path: Path) -> None:
    data = make_wheel()
    wheel = tmp_path / "Tool_Box-1.0-py3-none-any.whl"
    wheel.write_bytes(data)
    installed(wheel, tmp_path / "root")
    expected = {
        str(path.relative_to(tmp_path / "root")): (path.read_bytes(), path.stat().st_mode & 0o100)
        for path in (tmp_path / "root").rglob("*")
        if path.is_file()
    }
    content, raw = assembled(data)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        found = {
            info.name: (tar.extractfile(info).read(), info.mode & 0o100)  # type: ignore[union-attr]
            for info in tar
            if info.isfile()
        }
    record = f"opt/env/{SITE}/{INFO}/RECORD"
    # installer spells a file of .data/purelib "./pure.py"; pip does not, nor do we.
    assert sorted(found.pop(record)[0].splitlines()) == sorted(
        expected.pop(record)[0].replace(b"\n./pure.py", b"\npure.py").splitlines()
    )
    assert found == expected
    assert content.paths == tuple(sorted([name[8:] for name in found] + [record[8:]]))


def test_the_data_folder_is_found_by_its_ending_as_pip_does() -> None:
    renamed = {name.replace(DATA, "tool.box-1.0.data"): value for name, value in FILES.items()}
    assert assembled(make_wheel(renamed))[0].paths == assembled(make_wheel())[0].paths


def test_where_and_why_leave_no_trace() -> None:
    noted = {
        f"{INFO}/direct_url.json": (b"{}", 0o644),
        f"{INFO}/REQUESTED": (b"", 0o644),
        f"{INFO}/INSTALLER": (b"pip\n", 0o644),
    }
    assert assembled(make_wheel({**FILES, **noted})) == assembled(make_wheel())


def test_bytecode_for_modules_only() -> None:
    data = make_wheel()
    package = LockedPackage("pip", "Tool.Box", "1.0", "", "", Digest.of(data), "")
    options = LayerOptions(python="3.12", site_packages=SITE, bytecode_key="b")
    content = write_wheel_layer(
        io.BytesIO(data), package, options, lambda _: None, lambda path, _: path.encode()
    )
    assert [path for path in content.paths if path.endswith(".pyc")] == [
        f"{SITE}/__pycache__/pure.cpython-312.pyc",
        f"{SITE}/toolbox/__pycache__/__init__.cpython-312.pyc",
    ]
    with pytest.raises(ValueError, match="both"):
        assembled(data, options)
