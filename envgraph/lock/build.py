"""What is no wheel becomes one, once: sdists, VCS addresses, local projects.

The wheel is built with the locked Python, kept among the store's packages and
locked by its sha256. Another build may give other bytes, so such a package is
marked ``reproducible=False``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from envgraph.conda import credentials
from envgraph.conda.fetch import fetch_package
from envgraph.conda.link import install_python, python_closure
from envgraph.conda.transport import Transport
from envgraph.conda.wheels import check_wheel
from envgraph.errors import BuildError, InputError, IntegrityError, OfflineError, PlatformError
from envgraph.lock.packages import PackageStore, keep
from envgraph.lock.uvtool import Uv
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.spec import PipLine
from envgraph_store.digest import Digest

_EXTRAS: Final = re.compile(r"\[([^\]]*)\]\s*$")
_GIT_SCHEMES: Final = ("https", "http", "ssh", "file")
_SDIST: Final = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz")
Made = tuple[LockedPackage, str, Path]


@dataclass(slots=True)
class Builder:
    """Makes wheels within one lock's resolution; ``folder`` is its scratch."""

    chosen: tuple[LockedPackage, ...]
    platform: str
    config: WorkspaceConfig
    store: PackageStore
    uv: Uv
    folder: Path
    offline: bool
    transport: Transport | None = None
    before: tuple[LockedPackage, ...] = ()
    """Wheels of an earlier lock that the same lines gave: they are not made again."""
    _python: Path | None = None
    _count: int = 0
    _environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def line(self, line: PipLine) -> Made:
        """The wheel of a ``project`` or ``url`` line: package, ``[extras]``, its file."""
        if line.kind == "project":
            found = _EXTRAS.search(line.text)
            extras = f"[{found[1]}]" if found else ""
            path = Path(line.path or _EXTRAS.sub("", line.text))
            old = self._made_before(path.absolute().as_uri())
            return self._again(old, extras) if old else self._project(path, extras, line)
        name, mark, rest = line.text.partition(" @ ")
        extras_found = _EXTRAS.search(name) if mark else None
        extras = f"[{extras_found[1]}]" if extras_found else ""
        address = rest.strip() if mark else line.text
        old = self._made_before(_recorded(address))
        return self._again(old, extras) if old else self._address(address, extras, line)

    def _made_before(self, recorded: str) -> LockedPackage | None:
        for package in self.before:
            same = package.url == recorded or (
                recorded.startswith("git+") and package.url.startswith(recorded + "@")
            )
            if same and self.store.has(package.sha256):
                return package
        return None

    def _again(self, package: LockedPackage, extras: str) -> Made:
        local = self._new_folder() / package.file_name
        shutil.copyfile(self.store.path(package.sha256), local)
        return package, extras, local

    def _project(self, path: Path, extras: str, line: PipLine) -> Made:
        if path.is_dir():
            wheel = self._build(path, line.text)
            return self._keep(wheel, path.absolute().as_uri(), extras, built=True)
        if not path.is_file():
            raise InputError(
                f"{line.text} is neither a folder nor a file",
                code="pip-project",
                source=line.source,
            )
        if path.suffix == ".whl":
            return self._keep(path, path.absolute().as_uri(), extras, built=False)
        wheel = self._build(path, line.text)
        return self._keep(wheel, path.absolute().as_uri(), extras, built=True)

    def _address(self, text: str, extras: str, line: PipLine) -> Made:
        url = credentials.expand(text, self._environ, self.config.secrets)
        if url.startswith("git+"):
            folder, recorded = self._clone(url, line)
            return self._keep(self._build(folder, line.text), recorded, extras, built=True)
        parts = urlsplit(url)
        name = unquote(parts.path.rsplit("/", 1)[-1])
        if parts.scheme not in ("http", "https", "file") or not name.endswith((".whl", *_SDIST)):
            raise InputError(
                f"not a wheel, an sdist or a git address: {credentials.clean(text)}",
                code="pip-address",
                source=line.source,
            )
        place = urlunsplit(parts._replace(fragment=""))
        measured = keep(self.store, place, offline=self.offline, transport=self.transport)
        said = parse_qs(parts.fragment).get("sha256", [""])[0]
        if said and said != measured.sha256:
            raise IntegrityError(
                f"{credentials.clean(url)} is not what the file says",
                code="wrong-hash",
                detail=f"sha256 is {measured.sha256}, written is {said}",
                source=line.source,
            )
        local = self._new_folder() / name
        shutil.copyfile(self.store.path(Digest.from_hex(measured.sha256)), local)
        recorded = credentials.recorded(text.partition("#")[0])
        if name.endswith(".whl"):
            return self._keep(local, recorded, extras, built=False)
        return self._keep(self._build(local, name), recorded, extras, built=True)

    def sdist(self, name: str, version: str, entry: Mapping[str, Any]) -> LockedPackage:
        """Build the sdist that an index has for ``name``, checked against its hash."""
        sdist = entry.get("sdist")
        if not sdist:
            raise BuildError(
                f"{name} {version} has no wheel for {self.platform} and no sdist",
                code="pip-no-wheel",
            )
        place = sdist.get("url") or Path(sdist["path"]).absolute().as_uri()
        measured = keep(
            self.store,
            self.uv.with_login(place),
            offline=self.offline,
            transport=self.transport,
        )
        said = sdist.get("hashes", {}).get("sha256", "")
        if said and said != measured.sha256:
            raise IntegrityError(
                f"{name} {version}: the sdist is not what its index says", code="wrong-hash"
            )
        local = self._new_folder() / unquote(urlsplit(place).path.rsplit("/", 1)[-1])
        shutil.copyfile(self.store.path(Digest.from_hex(measured.sha256)), local)
        wheel = self._build(local, f"{name} {version}")
        return self._keep(wheel, credentials.recorded(place), "", built=True)[0]

    def python(self) -> Path:
        """The locked Python, installed once for this resolution."""
        if self._python is None:
            here = machine_platform()
            if here != self.platform:
                raise PlatformError(
                    f"a wheel for {self.platform} cannot be built on {here}",
                    code="pip-build-platform",
                    hint="lock on that platform, or use packages that have wheels",
                )
            closure = python_closure(self.chosen)
            nothing = Digest.of(b"")
            lock = LockedEnvironment(
                nothing, nothing, self.platform, LockedBase("scratch"), closure
            )
            self._python = install_python(lock, self._archive, self._new_folder() / "python")
        return self._python

    def _archive(self, package: LockedPackage) -> Path:
        if not self.store.has(package.sha256):
            writer = self.store.writer()
            try:
                fetch_package(
                    package, self.config, writer.write,
                    offline=self.offline, transport=self.transport,
                )  # fmt: skip
            except BaseException:
                writer.abort()
                raise
            writer.finish()
        return self.store.path(package.sha256)

    def _build(self, source: Path, title: str) -> Path:
        out = self._new_folder()
        shown = credentials.mask(title)
        done = self.uv.run(
            ["build", "--wheel", "--no-create-gitignore", "--python", str(self.python()),
             "--out-dir", str(out), *self.uv.common(), str(source)],
            out,
        )  # fmt: skip
        wheels = sorted(out.glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise BuildError(
                f"{shown} could not be built into a wheel",
                code="pip-build",
                detail=self.uv.tidy(done.stderr)[-8000:],
                hint="its build requirements come from the same indexes",
            )
        return wheels[0]

    def _keep(self, wheel: Path, recorded: str, extras: str, *, built: bool) -> Made:
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        try:
            name, version, _, _ = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename as error:
            raise InputError(f"{wheel.name} is no wheel's name", detail=str(error)) from None
        check_wheel(wheel, f"{name} {version}")
        measured = keep(self.store, wheel.absolute().as_uri(), offline=True, transport=None)
        package = LockedPackage(
            manager="pip",
            name=str(name),
            version=str(version),
            build="",
            subdir="",
            sha256=Digest.from_hex(measured.sha256),
            channel="",
            file_name=wheel.name,
            url=recorded,
            size=measured.size,
            reproducible=not built,
        )
        return package, extras, wheel.absolute()

    def _clone(self, url: str, line: PipLine) -> tuple[Path, str]:
        parts = urlsplit(url.removeprefix("git+"))
        if parts.scheme not in _GIT_SCHEMES:
            raise InputError(
                f"git over {parts.scheme or 'nothing'} is not supported",
                code="pip-git",
                source=line.source,
                hint="use git+https://, git+ssh:// or git+file://",
            )
        path, mark, revision = parts.path.rpartition("@")
        if not mark:
            path, revision = parts.path, "HEAD"
        named = [unquote(part) for part in (parts.netloc, parts.hostname or "", path, revision)]
        whole = url.lower().startswith(f"git+{parts.scheme}://")
        if not whole or any(part.startswith("-") for part in named):
            raise InputError(
                f"{credentials.clean(url)} holds what git may take for an option or a helper",
                code="pip-git",
                source=line.source,
                hint="write git+https://HOST/PATH@REVISION; none of them begins with a dash",
            )
        if self.offline and parts.scheme != "file":
            raise OfflineError(f"{credentials.clean(url)} would need a connection")
        folder = self._new_folder() / "source"
        remote = urlunsplit(parts._replace(path=path, fragment=""))
        shown = credentials.clean(remote)
        secrets = credentials.secrets_of(remote)
        self._git(["clone", "--quiet", "--no-checkout", "--", remote, str(folder)],
                  self.folder, shown, secrets)  # fmt: skip
        commit = ""
        for name in (f"origin/{revision}", revision):
            verify = ["rev-parse", "--quiet", "--verify", "--end-of-options", name + "^{commit}"]
            done = _run_git(verify, folder)
            if done.returncode == 0:
                commit = done.stdout.strip()
                break
        if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
            raise InputError(
                f"{shown} has no revision {revision!r}", code="pip-git", source=line.source
            )
        self._git(["checkout", "--quiet", "--detach", commit], folder, shown, secrets)
        subfolder = parse_qs(parts.fragment).get("subdirectory", [""])[0]
        inside = (folder / subfolder).resolve()
        if not inside.is_relative_to(folder.resolve()):
            raise InputError(f"{subfolder!r} leads out of {shown}", code="pip-git",
                             source=line.source)  # fmt: skip
        recorded = f"git+{shown}@{commit}" + (f"#subdirectory={subfolder}" if subfolder else "")
        return inside, recorded

    def _git(self, arguments: list[str], folder: Path, shown: str, secrets: Any) -> None:
        done = _run_git(arguments, folder)
        if done.returncode != 0:
            raise BuildError(
                f"{shown} could not be read by git",
                code="pip-git",
                detail=credentials.mask(done.stderr, secrets)[-4000:].strip(),
            )

    def _new_folder(self) -> Path:
        self._count += 1
        made = self.folder / f"work-{self._count}"
        made.mkdir(mode=0o700)
        return made


def _recorded(address: str) -> str:
    """What a lock records for a line's address; for git without the commit."""
    if not address.startswith("git+"):
        return credentials.recorded(address.partition("#")[0])
    parts = urlsplit(address.removeprefix("git+"))
    path = parts.path.rpartition("@")[0] or parts.path
    return "git+" + credentials.clean(urlunsplit(parts._replace(path=path, fragment="")))


def _run_git(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_CONFIG")}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(_GIT_SCHEMES)}
    try:
        return subprocess.run(
            ["git", "-c", "advice.detachedHead=false", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise PlatformError("git is needed for a VCS address and is not installed") from None


def machine_platform() -> str:
    """Conda's name for this machine."""
    import platform

    system = {"Linux": "linux", "Darwin": "osx", "Windows": "win"}.get(platform.system(), "")
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return f"{system}-64"
    if machine in ("arm64", "aarch64"):
        return f"{system}-arm64" if system in ("osx", "win") else f"{system}-aarch64"
    return f"{system}-{machine}"
