"""An ordinary user for tests of root: in a mount namespace of its own, so /etc stays as it is.

The user is in no file of the machine: copies of ``/etc/passwd`` and the like, with a line for
it, lie over the real ones where it looks. What only root may enter (a checkout or an
interpreter below ``/root``) is laid open there too.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services import missing, require_root, require_tool

NAME = "envgraph-tests"
ID = 51515
_REPOSITORY = Path(__file__).resolve().parent.parent
_UNSHARE = {"x86_64": 272, "aarch64": 97}
_NEW_USER = 0x10000000


@dataclass(frozen=True, slots=True)
class User:
    """Runs commands as somebody. ``home`` is its own folder, gone at the end."""

    home: Path
    _files: Path

    def run(
        self, *command: str, ids: bool = True, namespaces: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end. ``ids``: it has some in ``/etc/subuid``. ``namespaces``: the kernel
        lets it make user namespaces."""
        return subprocess.run(
            ["unshare", "--mount", "sh", "-ec", self._script(ids), "sh", *command],
            capture_output=True, text=True, check=False, cwd="/",
            preexec_fn=None if namespaces else _forbid_user_namespaces,
        )  # fmt: skip

    def _script(self, ids: bool) -> str:
        ranges = "ids" if ids else "none"
        lines = [f"mount --bind {self._files}/{ranges} /etc/sub{kind}" for kind in ("uid", "gid")]
        lines += [f"mount --bind {self._files}/{name} /etc/{name}" for name in ("passwd", "group")]
        lines += self._open_up()
        path = shlex.quote(os.environ["PATH"])
        lines.append(
            f"exec env -i PATH={path} HOME={self.home} USER={NAME} LOGNAME={NAME}"
            f' setpriv --reuid {ID} --regid {ID} --clear-groups "$@"'
        )
        return "\n".join(lines)

    def _open_up(self) -> Iterator[str]:
        """Lay folders that others may not enter open: an empty one over them, with what is
        needed bound into it."""
        needed = {str(Path(p).resolve()) for p in (sys.base_prefix, sys.prefix, _REPOSITORY)}
        hidden: dict[str, list[str]] = {}
        for path in sorted(needed):
            for parent in reversed(Path(path).parents):
                if not parent.stat().st_mode & 0o001:
                    hidden.setdefault(str(parent), []).append(path)
                    break
        for parent, paths in hidden.items():
            stash = self._files / "stash"
            for number, path in enumerate(paths):
                yield f"mkdir -p {stash}/{number} && mount --bind {path} {stash}/{number}"
            yield f"mount -t tmpfs -o mode=755 tmpfs {parent}"
            for number, path in enumerate(paths):
                yield f"mkdir -p {path} && mount --move {stash}/{number} {path}"


@contextmanager
def ordinary_user() -> Iterator[User]:
    """A user with a home of its own; skips where the machine cannot give one."""
    require_root()
    for tool in ("unshare", "setpriv", "newuidmap"):
        require_tool(tool)
    with tempfile.TemporaryDirectory(prefix="eg-user-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir()
        os.chown(home, ID, ID)
        line = {"passwd": f"{NAME}:x:{ID}:{ID}::{home}:/bin/sh\n", "group": f"{NAME}:x:{ID}:\n"}
        for each, more in line.items():
            (folder / each).write_text(Path(f"/etc/{each}").read_text() + more)
        (folder / "ids").write_text(f"{NAME}:600000000:65536\n")
        (folder / "none").write_text("")
        user = User(home, folder)
        if user.run("true").returncode != 0:
            missing(f"no ordinary user: {user.run('true').stderr.strip()[-300:]}")
        yield user


def _forbid_user_namespaces() -> None:
    """``unshare`` with a new user namespace is refused from now on, as some hosts do it."""
    number = _UNSHARE.get(os.uname().machine)
    if number is None:
        raise OSError("not known for this machine")
    allow, refuse = 0x7FFF0000, 0x00050001
    program = b"".join(
        struct.pack("HBBI", *each)
        for each in (
            (0x20, 0, 0, 0),  # the call's number
            (0x15, 0, 3, number),
            (0x20, 0, 0, 16),  # its first argument
            (0x45, 0, 1, _NEW_USER),
            (0x06, 0, 0, refuse),
            (0x06, 0, 0, allow),
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, ctypes.c_char_p(filters), 0, 0) != 0:  # PR_SET_SECCOMP, a filter
        raise OSError(ctypes.get_errno(), "seccomp")
