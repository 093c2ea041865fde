"""Docker daemons for tests, each with folders of its own: the system is left as it is.

A current one, with containerd's snapshotter (all of BuildKit), comes from the Debian suite
that has it: its packages are unpacked into the cache folder and run from there. The old one is
the machine's own ``dockerd``, without the snapshotter.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.services import missing, require_root, require_tool

SUITE = os.environ.get("ENVGRAPH_TEST_DOCKER_SUITE") or "trixie"
"""A stable suite, so that the same engine comes every time; ``forky`` has a newer one."""

PACKAGES = ("docker.io", "containerd")
CLIENT_PACKAGES = ("docker-cli", "docker-buildx")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running dockerd: the address of its socket, its version, its process, its data."""

    address: str
    version: str
    process: subprocess.Popen[bytes]
    data: Path

    def kill(self) -> None:
        """End it with no time for last words, and the containerd that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _apt(folder: Path, *arguments: str) -> None:
    """apt-get with lists, state and sources of its own."""
    settings = {
        "Dir::Etc": folder / "etc",
        "Dir::Etc::sourcelist": folder / "etc/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    done = subprocess.run(
        ["apt-get", "-q", *options, *arguments],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        missing(f"no current dockerd: apt-get {arguments[0]}: {done.stderr.strip()[-300:]}")


def _mirror() -> str:
    """The Debian mirror that this machine uses, whatever its suite."""
    asked = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", asked, "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        origin, suite, address = line.split("|")
        if origin == "Debian" and "-" not in suite:
            return address
    return missing("no current dockerd: apt knows no Debian mirror (apt-get update?)")


def current_docker(cache: Path) -> Path:
    """The folder with a current dockerd and containerd; unpacked once per cache folder."""
    require_root()
    require_tool("runc")
    return _unpacked(cache, "docker", PACKAGES)


def current_client(cache: Path) -> Path:
    """The folder with docker's current command line, and buildx as its plugin."""
    return _unpacked(cache, "docker-cli", CLIENT_PACKAGES)


def _unpacked(cache: Path, name: str, packages: Sequence[str]) -> Path:
    """A folder with these packages of the suite, unpacked."""
    for tool in ("apt-get", "dpkg"):
        require_tool(tool)
    if not Path(KEYRING).exists():
        missing("no current docker: this is not Debian")
    root = cache / f"{name}-{SUITE}"
    with (cache / "docker.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if root.is_dir():
            return root
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder)
            for each in ("etc/preferences.d", "lists/partial", "cache/archives/partial", "root"):
                (made / each).mkdir(parents=True)
            shutil.copytree("/etc/apt/apt.conf.d", made / "etc/apt.conf.d")
            (made / "status").touch()
            (made / "etc/sources.list").write_text(
                f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n"
            )
            _apt(made, "update")
            _apt(made, "download", *packages)
            for package in made.glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, made / "root"], check=True)
            (made / "root").rename(root)
    return root


@contextmanager
def dockerd(folder: Path, programs: Path | None = None) -> Iterator[Daemon]:
    """A dockerd for as long as it is entered; ``programs`` is from :func:`current_docker`."""
    require_root()
    require_tool("runc")
    require_tool("setpriv")
    if programs is None:
        require_tool("dockerd")
    path = SBIN if programs is None else f"{programs}/usr/bin:{programs}/usr/sbin:{SBIN}"
    # a socket's path has at most 107 bytes
    with tempfile.TemporaryDirectory(prefix="eg-", dir="/tmp") as short:
        address = f"{short}/d.sock"
        settings = {
            "features": {"containerd-snapshotter": programs is not None},
            "iptables": False, "ip6tables": False, "bridge": "none", "ip-forward": False,
            "hosts": [f"unix://{address}"],
            "data-root": str(folder / "data"), "exec-root": f"{short}/x",
            "pidfile": f"{short}/pid",
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "daemon.json").write_text(json.dumps(settings))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                # it ends with this process, however that ends
                ["setpriv", "--pdeathsig", "TERM", "dockerd",
                 f"--config-file={folder}/daemon.json"],
                env={**os.environ, "PATH": path}, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            version = _wait(address, process, folder / "log")
            yield Daemon(f"unix://{address}", version, process, folder / "data")
        finally:
            _stop(process)
            _end_steps(folder / "data")
            shutil.rmtree(folder / "data", ignore_errors=True)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """Its version, as soon as it answers."""
    for _ in range(600):
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(address)
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            answer = client.recv(4096).decode()
            if " 200 " in answer.partition("\r\n")[0]:
                return answer.partition("Server: Docker/")[2].split()[0]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    return missing(f"dockerd does not start: {log.read_text(errors='replace')[-600:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it, and the containerd that it started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def steps_of(data: Path) -> list[int]:
    """The processes that run in containers of the daemon whose data is there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines = (process / "mountinfo").read_text().splitlines()
            if any(line.split()[4] == "/" and f"{data}/" in line for line in lines):
                found.append(int(process.name))
    return found


def _end_steps(data: Path) -> None:
    """End what a daemon left running and mounted that was killed."""
    for process in steps_of(data):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    lines = Path("/proc/self/mounts").read_text().splitlines()
    for place in reversed([line.split()[1] for line in lines]):
        if place.startswith(f"{data}"):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)
