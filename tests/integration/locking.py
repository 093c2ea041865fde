"""What locking tests share: a lock in one call, a package store in a folder, wheels."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envgraph.lock.resolve import LockOutcome, lock_environment
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.spec import CondaSpec, EnvironmentSpec, PipLine, Requirement
from envgraph_store.digest import Digest

DEFINITION = Digest.of(b"definition")
NOW = datetime(2026, 11, 23, 4, 25, tzinfo=UTC)


class FolderPackages:
    """A package store that is a folder: what :mod:`envgraph.lock` asks of one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, digest: Digest, /) -> bool:
        return self.path(digest).is_file()

    def path(self, digest: Digest, /) -> Path:
        return self.folder / digest.hex

    def writer(self) -> FolderWriter:
        return FolderWriter(self.folder)

    @property
    def count(self) -> int:
        return len(list(self.folder.iterdir()))


class FolderWriter:
    """Bytes in memory until they are whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = bytearray()

    def write(self, data: bytes, /) -> object:
        self._data += data
        return None

    def finish(self) -> Digest:
        digest = Digest.of(bytes(self._data))
        path = self._folder / digest.hex
        if not path.exists():
            path.write_bytes(self._data)
            path.chmod(0o444)
        return digest

    def abort(self) -> None:
        self._data.clear()


class Locker:
    """Locks small requests; ``folder`` holds cache and packages."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.config = WorkspaceConfig("test", "1", str(folder), **config)
        self.packages = FolderPackages(folder / "packages")
        self.cache = folder / "cache"

    def outcome(
        self,
        dependencies: Sequence[str],
        channels: Sequence[str] | None,
        *,
        platform: str = "linux-64",
        pip: Sequence[PipLine] = (),
        offline: bool = False,
        paths: Mapping[str, str] | None = None,
        previous: LockedEnvironment | None = None,
        update: frozenset[str] | None = None,
        definition: Digest = DEFINITION,
    ) -> LockOutcome:
        spec = EnvironmentSpec(
            "test",
            image="scratch",
            conda=CondaSpec(
                channels=None if channels is None else tuple(channels),
                dependencies=tuple(Requirement(text) for text in dependencies),
                pip=tuple(pip),
                file=str(self.folder / "environment.yml"),
                channel_paths=dict(paths or {}),
            ),
        )
        return lock_environment(
            spec,
            platform,
            self.config,
            base=LockedBase("scratch"),
            definition=definition,
            packages=self.packages,
            now=NOW,
            offline=offline,
            previous=previous,
            update=update,
            cache=self.cache,
        )

    def lock(
        self, dependencies: Sequence[str], channels: Sequence[str] | None, **more: Any
    ) -> LockedEnvironment:
        return self.outcome(dependencies, channels, **more).lock

    def archive(self, package: LockedPackage) -> Path:
        """The archive of a locked package, fetched when it is not here yet."""
        from envgraph.conda.fetch import fetch_package

        if not self.packages.has(package.sha256):
            writer = self.packages.writer()
            fetch_package(package, self.config, writer.write, offline=False)
            writer.finish()
        return self.packages.path(package.sha256)


def versions(lock: LockedEnvironment) -> dict[str, str]:
    """Name → version of everything that is locked."""
    return {package.name: package.version for package in lock.packages}


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    requires: Sequence[str] = (),
    *,
    files: Mapping[str, str] | None = None,
    entry_points: str = "",
    tag: str = "py3-none-any",
) -> Path:
    """A wheel with a true RECORD."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    members = dict(
        files or {f"{module}/__init__.py": f"def main():\n    print({name!r}, {version!r})\n"}
    )
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    )
    members[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    )
    if entry_points:
        members[f"{info}/entry_points.txt"] = entry_points
    record = ""
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{path},sha256={digest.decode()},{len(text.encode())}\n"
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    target = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return target


def simple_index(root: Path, *files: Path) -> str:
    """A PEP 503 index in a folder; returns its ``file://`` address."""
    for file in files:
        folder = root / file.name.split("-")[0].replace("_", "-").lower()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(file.read_bytes())
    for folder in [path for path in root.iterdir() if path.is_dir()]:
        links = "".join(
            f'<a href="{file.name}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}">'
            f"{file.name}</a>"
            for file in sorted(folder.iterdir())
            if file.name != "index.html"
        )
        (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return root.as_uri()


BACKEND = """
import base64, hashlib, os, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = "NAME-0.1.dist-info/"
    members = {
        "NAME.py": "VALUE = 1\\n",
        info + "METADATA": "Metadata-Version: 2.1\\nName: NAME\\nVersion: 0.1\\n",
        info + "WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\n"
                        "Tag: py3-none-any\\n",
    }
    record = info + "RECORD,,\\n"
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        record += "%s,sha256=%s,%d\\n" % (path, digest.decode().rstrip("="), len(text))
    name = "NAME-0.1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in [*members.items(), (info + "RECORD", record)]:
            wheel.writestr(path, text)
    return name
"""


def make_project(folder: Path, name: str = "proj") -> Path:
    """A project whose build backend lies in its own folder and needs nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backend.py").write_text(BACKEND.replace("NAME", name))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "0.1"\n'
    )
    return folder


def make_sdist(folder: Path, name: str = "proj") -> Path:
    """The project as an sdist."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-0.1.tar.gz"
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        f'backend-path = ["."]\n[project]\nname = "{name}"\nversion = "0.1"\n',
        "backend.py": BACKEND.replace("NAME", name),
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: 0.1\n",
    }
    with tarfile.open(target, "w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-0.1/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return target
