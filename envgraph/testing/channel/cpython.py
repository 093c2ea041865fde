"""Package this machine's CPython for conda.

Works for Debian's ``/usr/bin/python3``, pyenv's builds and standalone builds. The
program's rpath leads to the prefix's ``lib`` (once relative, once through the
255-character placeholder, so that the package has a true binary prefix); where text
names the old prefix it names the placeholder. Strings compiled into machine code
cannot grow, so an old prefix stays there: CPython finds its own folders from where
its program lies and does not use it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from envgraph.testing.channel.archive import PLACEHOLDER, Entry, Package, content_hash
from envgraph.testing.channel.elf import is_elf, read_needs
from envgraph.testing.channel.libraries import (
    GLIBC_DEPENDS,
    close_over,
    depends_of,
    is_glibc,
    library_packages,
    with_rpath,
)
from envgraph.testing.channel.package import file_entry, make_package

_ASK = """
import json, os, sys, sysconfig
v = sysconfig.get_config_vars()
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3], "release": sys.version_info[3],
    "implementation": sys.implementation.name, "platform": sysconfig.get_platform(),
    "prefix": sys.base_prefix, "built_for": v.get("prefix", ""),
    "executable": os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable),
    "stdlib": sysconfig.get_path("stdlib"), "include": sysconfig.get_path("include"),
    "dynload": v.get("DESTSHARED", ""), "schemes": sysconfig.get_scheme_names(),
}))
"""

_SITECUSTOMIZE = """# Debian's frozen site module looks for dist-packages; conda uses site-packages.
import site
import sys

if sys.prefix == sys.base_prefix:
    _folder = f"{sys.prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    site.addsitedir(_folder)
    site.getsitepackages = lambda prefixes=None: [_folder]
"""
_LEFT_OUT = frozenset(
    ("__pycache__", "dist-packages", "idle_test", "idlelib", "site-packages", "test", "tests",
     "tkinter", "turtledemo", "EXTERNALLY-MANAGED", "sitecustomize.py", "turtle.py")
)  # fmt: skip
_BUILD_FILES = re.compile(r"_sysconfigdata|_sysconfig_vars|config-|build-details\.json")
_MODULES_LEFT_OUT = re.compile(r"(_test|xx|_xxtest|_ctypes_test|_tkinter|nis\b|_dbm|_gdbm)")


@dataclass(frozen=True, slots=True)
class PythonBuild:
    """What an interpreter of this machine is and where its parts lie."""

    executable: Path
    version: str
    kind: str
    """``debian``, ``pyenv``, ``standalone`` or ``other``."""

    prefix: Path
    stdlib: Path
    include: Path
    old_prefixes: tuple[str, ...]
    """Folders that its text files name and that become the placeholder, longest first."""

    @property
    def major_minor(self) -> str:
        """``3.12``."""
        return ".".join(self.version.split(".")[:2])

    @property
    def site_packages(self) -> str:
        """Below the prefix, as conda's Python has it."""
        return f"lib/python{self.major_minor}/site-packages"


def find_python(executable: Path | None = None) -> PythonBuild:
    """Ask an interpreter what it is; by default the one behind the running one.

    Raises RuntimeError for one that is not CPython for linux-64.
    """
    running: str = getattr(sys, "_base_executable", "") or sys.executable
    program = str(executable or running)
    done = subprocess.run(
        [program, "-I", "-S", "-c", _ASK], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{program} does not answer: {done.stderr.strip()}")
    answer = json.loads(done.stdout)
    if (answer["implementation"], answer["platform"]) != ("cpython", "linux-x86_64"):
        raise RuntimeError(f"{program} is not CPython for linux-x86_64")
    prefix, built_for = answer["prefix"], answer["built_for"]
    if "deb_system" in answer["schemes"]:
        kind = "debian"
    elif "/versions/" in prefix and "pyenv" in prefix:
        kind = "pyenv"
    elif built_for == "/install" or "python-build-standalone" in prefix or "cpython-" in prefix:
        kind = "standalone"
    else:
        kind = "other"
    old = {text for text in (prefix, built_for) if text not in ("", "/", "/usr")}
    return PythonBuild(
        executable=Path(answer["executable"]),
        version=answer["version"],
        kind=kind,
        prefix=Path(prefix),
        stdlib=Path(answer["stdlib"]),
        include=Path(answer["include"]),
        old_prefixes=tuple(sorted(old, key=lambda text: (-len(text), text))),
    )


def python_packages(python: PythonBuild) -> list[Package]:
    """``python``, ``python_abi`` and a package for each library that it needs."""
    entries = list(_entries(python))
    sonames = {
        name
        for entry in entries
        for name in read_needs(entry.data).needed
        if not is_glibc(name) and not name.startswith("libpython")
    }
    libraries = library_packages(sonames)
    short = python.major_minor.replace(".", "")
    direct = [p for p in libraries if _provides(p, sonames)]
    depends = (GLIBC_DEPENDS, *depends_of(direct))
    package = Package(
        name="python",
        version=python.version,
        build=f"h{content_hash(entries, *depends)}_0_cpython",
        depends=depends,
        constrains=(f"python_abi {python.major_minor}.* *_cp{short}",),
        license="Python-2.0",
        python_site_packages_path=python.site_packages,
        entries=tuple(entries),
        about={"summary": f"CPython of the machine that made this channel ({python.kind})"},
    )
    abi = make_package(
        "python_abi",
        python.major_minor,
        f"8_cp{short}",
        build_number=8,
        noarch="generic",
        constrains=[f"python {python.major_minor}.* *_cpython"],
    )
    return [package, abi, *libraries]


def _provides(package: Package, sonames: set[str]) -> bool:
    return any(entry.path.removeprefix("lib/") in sonames for entry in package.entries)


def _entries(python: PythonBuild) -> Iterator[Entry]:
    short = python.major_minor
    program = f"python{short}"
    binary = python.executable.read_bytes()
    rpath = f"$ORIGIN/../lib:{PLACEHOLDER}/lib"
    yield file_entry(f"bin/{program}", with_rpath(binary, rpath), executable=True)
    yield Entry("bin/python3", target=program)
    yield Entry("bin/python", target=program)
    pydoc = f"#!{PLACEHOLDER}/bin/{program}\nimport pydoc\n\npydoc.cli()\n"
    yield file_entry(f"bin/pydoc{short}", pydoc.encode(), executable=True)
    yield Entry("bin/pydoc3", target=f"pydoc{short}")
    for name in read_needs(binary).needed:
        if name.startswith("libpython"):
            yield file_entry(
                f"lib/{name}",
                with_rpath((python.prefix / "lib" / name).read_bytes(), "$ORIGIN"),
                executable=True,
            )
    yield from _standard_library(python)
    yield from _headers(python)
    if python.kind == "debian":
        yield Entry(f"lib/python{short}/sitecustomize.py", _SITECUSTOMIZE.encode())
    readme = "This folder is where conda and pip put third-party packages.\n"
    yield Entry(f"{python.site_packages}/README.txt", readme.encode())


def _standard_library(python: PythonBuild) -> Iterator[Entry]:
    target = f"lib/python{python.major_minor}"
    for path in _walk(python.stdlib):
        relative = path.relative_to(python.stdlib)
        if path.suffix in (".a", ".o", ".pyc"):
            continue
        data = path.read_bytes()
        if is_elf(data):
            if _MODULES_LEFT_OUT.match(path.name) or _lacks_libraries(data):
                continue
            if any(not is_glibc(name) for name in read_needs(data).needed):
                data = with_rpath(data, "$ORIGIN/../..")
        else:
            data = _text(python, relative, data)
        yield file_entry(
            f"{target}/{relative.as_posix()}", data, executable=bool(path.stat().st_mode & 0o100)
        )


def _headers(python: PythonBuild) -> Iterator[Entry]:
    if not (python.include / "Python.h").is_file():
        return
    for path in _walk(python.include):
        relative = path.relative_to(python.include).as_posix()
        yield file_entry(f"include/python{python.major_minor}/{relative}", path.read_bytes())


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, sorted; links to files count as the files."""
    for path in sorted(folder.iterdir()):
        if path.name in _LEFT_OUT or path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        elif path.is_file():
            yield path


def _lacks_libraries(data: bytes) -> bool:
    return bool(close_over(n for n in read_needs(data).needed if "libpython" not in n).missing)


def _text(python: PythonBuild, relative: Path, data: bytes) -> bytes:
    """A text file of the standard library for any prefix, and for conda's folders."""
    if b"\0" in data:
        return data
    name = relative.as_posix()
    if _BUILD_FILES.match(name):
        for old in python.old_prefixes:
            data = data.replace(old.encode(), PLACEHOLDER.encode())
    if python.kind != "debian":
        return data
    if name == "sysconfig.py" or name == "sysconfig/__init__.py":
        outside = b'if sys.base_prefix != sys.prefix or hasattr(sys, "real_prefix"):'
        return data.replace(outside, b"if True:")
    if name.startswith("_sysconfigdata"):
        return re.sub(
            rb"(?<=')/usr(?='|/bin'|/lib'|/share'|/share/man'|/include|/lib/python3)",
            PLACEHOLDER.encode(),
            data,
        )
    return data
