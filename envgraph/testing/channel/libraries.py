"""Shared libraries of this machine as conda packages under the names people know.

glibc is never packaged: it belongs to the base image. The bytes are the machine's
own, so a channel made here is for this machine; ``about.json`` says where each
file came from.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envgraph.testing.channel.archive import Entry, Package, content_hash
from envgraph.testing.channel.elf import read_needs, set_rpath, system_libraries
from envgraph.testing.channel.package import file_entry

GLIBC_DEPENDS = "__glibc >=2.28"
"""What every package with machine code asks for; see :func:`glibc_of` for the truth."""

GLIBC_STEMS = frozenset(
    ("ld-linux-x86-64", "libBrokenLocale", "libanl", "libc", "libdl", "libm", "libmvec", "libnsl",
     "libpthread", "libresolv", "librt", "libthread_db", "libutil")
)  # fmt: skip

_NAMES: dict[str, tuple[str, str]] = {
    "libbz2": ("bzip2", "bzip2-1.0.6"),
    "libcrypt": ("libxcrypt", "LGPL-2.1-or-later"),
    "libcrypto": ("openssl", "Apache-2.0"),
    "libexpat": ("libexpat", "MIT"),
    "libffi": ("libffi", "MIT"),
    "libgcc_s": ("libgcc", "GPL-3.0-only WITH GCC-exception-3.1"),
    "libgdbm": ("gdbm", "GPL-3.0-or-later"),
    "libgdbm_compat": ("gdbm", "GPL-3.0-or-later"),
    "libgomp": ("libgomp", "GPL-3.0-only WITH GCC-exception-3.1"),
    "libhistory": ("readline", "GPL-3.0-only"),
    "liblzma": ("liblzma", "0BSD"),
    "libmpdec": ("mpdecimal", "BSD-2-Clause"),
    "libncurses": ("ncurses", "X11"),
    "libncursesw": ("ncurses", "X11"),
    "libpanel": ("ncurses", "X11"),
    "libpanelw": ("ncurses", "X11"),
    "libquadmath": ("libquadmath", "LGPL-2.1-or-later"),
    "libreadline": ("readline", "GPL-3.0-only"),
    "libsqlite3": ("libsqlite", "blessing"),
    "libssl": ("openssl", "Apache-2.0"),
    "libstdc++": ("libstdcxx", "GPL-3.0-only WITH GCC-exception-3.1"),
    "libtinfo": ("ncurses", "X11"),
    "libtinfow": ("ncurses", "X11"),
    "libuuid": ("libuuid", "BSD-3-Clause"),
    "libz": ("libzlib", "Zlib"),
    "libzstd": ("zstd", "BSD-3-Clause"),
}


def stem(soname: str) -> str:
    """``libssl`` of ``libssl.so.3``."""
    return soname.split(".so")[0]


def is_glibc(soname: str) -> bool:
    """Whether glibc provides this library. ``libnsl.so.2`` is another project's."""
    return stem(soname) in GLIBC_STEMS and soname != "libnsl.so.2"


def package_name(soname: str) -> str:
    """The conda package that would hold a library: its known name, or its stem."""
    known = _NAMES.get(stem(soname))
    return known[0] if known else re.sub(r"[^a-z0-9_.-]", "x", stem(soname).lower())


def machine_state() -> tuple[tuple[str, str, int, int], ...]:
    """soname, file, size and time of the libraries known by name: what an upgrade changes."""
    known = sorted(item for item in system_libraries().items() if stem(item[0]) in _NAMES)
    files = [(soname, path.resolve()) for soname, path in known]
    states = [(soname, str(path), path.stat()) for soname, path in files if path.is_file()]
    return tuple((soname, name, at.st_size, at.st_mtime_ns) for soname, name, at in states)


@dataclass(frozen=True, slots=True)
class LibraryClosure:
    """soname → file of everything asked for and needed below it, glibc left out."""

    files: dict[str, Path] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def close_over(sonames: Iterable[str]) -> LibraryClosure:
    """Follow DT_NEEDED from these libraries through this machine's loader cache."""
    system = system_libraries()
    files: dict[str, Path] = {}
    needs: dict[str, tuple[str, ...]] = {}
    missing: list[str] = []
    waiting = sorted(set(sonames))
    while waiting:
        soname = waiting.pop()
        if soname in files or soname in missing or is_glibc(soname):
            continue
        path = system.get(soname)
        if path is None:
            missing.append(soname)
            continue
        files[soname] = path
        needs[soname] = tuple(
            name for name in read_needs(path.read_bytes()).needed if not is_glibc(name)
        )
        waiting.extend(needs[soname])
    return LibraryClosure(files, needs, tuple(sorted(missing)))


def library_packages(sonames: Iterable[str], *, missing_ok: bool = False) -> list[Package]:
    """Packages that hold these libraries and those below them, ordered by name.

    Raises RuntimeError for a library that this machine does not have, or with
    ``missing_ok`` leaves it out: wheels hold plugins for drivers that few have.
    """
    closure = close_over(sonames)
    if closure.missing and not missing_ok:
        raise RuntimeError(f"no such library on this machine: {', '.join(closure.missing)}")
    groups: dict[str, list[str]] = {}
    for soname in sorted(closure.files):
        groups.setdefault(package_name(soname), []).append(soname)
    sources = source_packages(closure.files[members[0]] for members in groups.values())
    firsts = {name: closure.files[members[0]] for name, members in groups.items()}
    versions = {name: version_of(path, sources[path]) for name, path in firsts.items()}
    return [_library_package(name, groups[name], closure, versions) for name in sorted(groups)]


def depends_of(packages: Sequence[Package]) -> list[str]:
    """What a package that needs these says: at least this version, below the next major."""
    return [_at_least(package.name, package.version) for package in packages]


def _at_least(name: str, version: str) -> str:
    major = re.match(r"\d+", version)
    upper = f",<{int(major[0]) + 1}.0a0" if major else ""
    return f"{name} >={version}{upper}"


def _library_package(
    name: str, members: list[str], closure: LibraryClosure, versions: dict[str, str]
) -> Package:
    entries: dict[str, Entry] = {}
    below: set[str] = set()
    for soname in members:
        real = closure.files[soname].resolve()
        data = real.read_bytes()
        if closure.needs[soname]:
            data = with_rpath(data, "$ORIGIN")
        entries[real.name] = file_entry(f"lib/{real.name}", data, executable=True)
        if real.name != soname:
            entries[soname] = Entry(f"lib/{soname}", target=real.name)
        below |= {package_name(needed) for needed in closure.needs[soname]}
    contents = tuple(entries[key] for key in sorted(entries))
    depends = [GLIBC_DEPENDS]
    depends += [_at_least(other, versions[other]) for other in sorted(below - {name})]
    return Package(
        name=name,
        version=versions[name],
        build=f"h{content_hash(contents, *depends)}_0",
        depends=tuple(depends),
        license=next((_NAMES[stem(s)][1] for s in members if stem(s) in _NAMES), ""),
        entries=contents,
        about={"summary": f"{', '.join(members)} of the machine that made this channel"},
    )


def with_rpath(data: bytes, rpath: str) -> bytes:
    """The same ELF file with another DT_RPATH."""
    with tempfile.TemporaryDirectory(prefix="envgraph-elf-") as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        path.chmod(0o755)
        set_rpath(path, rpath)
        return path.read_bytes()


def version_of(path: Path, source: str = "") -> str:
    """A library's version: its system package's, else the digits of its file name, else 0."""
    for text in (source.partition(" ")[2], path.resolve().name.partition(".so.")[2]):
        match = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*[a-z]?)(?![a-z0-9])", text)
        if match:
            return match[1]
    return "0"


def source_packages(paths: Iterable[Path]) -> dict[Path, str]:
    """Map files to ``libssl3 3.0.19-1~deb12u2``: system package and version, or empty."""
    found = dict.fromkeys(paths, "")
    if shutil.which("dpkg-query"):
        return found | _from_dpkg(found)
    if shutil.which("rpm"):
        form = "%{NAME} %{VERSION}-%{RELEASE}"
        return {path: _output("rpm", "-qf", "--qf", form, str(path.resolve())) for path in found}
    return found


def _from_dpkg(paths: Iterable[Path]) -> dict[Path, str]:
    """Ask dpkg once for all files: under each of their names, as /lib may be /usr/lib."""
    names: dict[str, Path] = {}
    for path in paths:
        for text in (str(path), str(path.resolve())):
            plain = text.removeprefix("/usr")
            names |= dict.fromkeys((text, plain, f"/usr{plain}"), path)
    owners: dict[Path, str] = {}
    done = subprocess.run(["dpkg-query", "-S", *names], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        owner, _, name = line.rpartition(": ")
        if name in names and not line.startswith("diversion "):
            owners.setdefault(names[name], owner.split(",")[0])
    if not owners:
        return {}
    form = "${binary:Package}\t${Package} ${Version}\n"
    shown = _output("dpkg-query", "-W", "-f", form, *sorted(set(owners.values())))
    titles = dict(line.split("\t", 1) for line in shown.splitlines())
    plain_titles = {key.partition(":")[0]: value for key, value in titles.items()}
    return {
        path: titles.get(owner) or plain_titles.get(owner.partition(":")[0], "")
        for path, owner in owners.items()
    }


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
