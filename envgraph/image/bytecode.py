"""Bytecode by the locked Python itself: long-lived processes that compile over pipes.

Unchecked-hash ``.pyc`` files (PEP 552) hold no time; the hash seed is fixed, no site
and no ``PYTHON*`` variable is read, and the path in the code is the one in the
image. Equal sources, paths and Python builds give equal bytes in any order.
"""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from envgraph.errors import BuildError, PlatformError
from envgraph.image.archive_errors import shown

_REQUEST: Final = struct.Struct(">IQ")
_ANSWER: Final = struct.Struct(">?Q")
_PATIENCE: Final = 300.0
"""Seconds for one file; the largest known needs about five."""

_COOKIE: Final = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_USUAL: Final = frozenset((b"utf-8", b"utf8", b"UTF-8", b"UTF8"))

_MAX_PYC: Final = 1 << 30


class BytecodeCompiler:
    """Compile with the Python at ``python``; usable from several threads at once.

    Processes start when they are needed, ``processes`` at most. A file that does
    not compile gives None (as conda skips it). Raises PlatformError when that Python
    does not run here or is not ``version`` (``3.12``), BuildError when it dies.
    """

    def __init__(self, python: Path, *, version: str = "", processes: int = 1) -> None:
        """Start nothing yet. An empty ``version`` accepts any."""
        self._python = python
        self._version = version
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._free = threading.Semaphore(max(1, processes))
        self._closed = False

    def compile(self, path: str, source: bytes) -> bytes | None:
        """The ``.pyc`` of ``source``, whose code says that it lies at ``path``."""
        if not _is_usual(source):
            return self._compile_apart(path, source)
        with self._free:
            with self._lock:
                if self._closed:
                    raise ValueError("the compiler is closed")
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                worker = _Worker(self._python, self._version)
            try:
                compiled = worker.compile(path, source)
            except BaseException:
                worker.kill()
                raise
            with self._lock:
                self._idle.append(worker)
            return compiled

    def _compile_apart(self, path: str, source: bytes) -> bytes | None:
        """In a process of its own: the codec that it loads must not meet other files."""
        with self._free:
            worker = _Worker(self._python, self._version)
            try:
                return worker.compile(path, source)
            finally:
                worker.kill()

    def close(self) -> None:
        """End all processes and wait for them."""
        with self._lock:
            self._closed = True
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


class _Worker:
    """One process of the locked Python."""

    def __init__(self, python: Path, version: str) -> None:
        worker = Path(__file__).with_name("bytecode_worker.py").read_text(encoding="utf-8")
        # Not -I: it would ignore the hash seed, and frozensets in code depend on it.
        command = [str(python), "-s", "-S", "-B", "-X", "utf8", "-c", worker]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PYTHONHASHSEED": "0"},
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise _cannot_run(python, str(error)) from error
        try:
            good, hello = self._answer()
        except (EOFError, TimeoutError) as error:
            self.kill()
            raise _cannot_run(python, "it ended at once") from error
        is_version = hello.decode("ascii", "replace").partition(" ")[0]
        if not good or (version and is_version != version):
            self.kill()
            raise PlatformError(
                f"{python} is Python {is_version}, and the lock has {version}", code="bytecode"
            )

    def compile(self, path: str, source: bytes) -> bytes | None:
        assert self._process.stdin is not None
        name = path.encode("utf-8", "surrogateescape")
        message = _REQUEST.pack(len(name), len(source)) + name + source
        try:
            view = memoryview(message)
            while view:
                view = view[self._process.stdin.write(view) :]
            good, data = self._answer()
        except (OSError, EOFError) as error:
            raise BuildError(
                f"the Python that compiles died at {shown(path)}", code="bytecode"
            ) from error
        return data if good else None

    def _answer(self) -> tuple[bool, bytes]:
        good, length = _ANSWER.unpack(self._read(_ANSWER.size))
        if length > _MAX_PYC:
            raise EOFError
        return bool(good), self._read(length)

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(output, select.POLLIN)
        data = bytearray()
        while len(data) < count:
            if not poll.poll(_PATIENCE * 1000):
                raise TimeoutError("the Python that compiles does not answer")
            piece = os.read(output, min(count - len(data), 1 << 20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close_pipes()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _is_usual(source: bytes) -> bool:
    """Whether the source names no codec in its first two lines, or UTF-8."""
    for line in source.split(b"\n", 2)[:2]:
        match = _COOKIE.match(line)
        if match is not None:
            return match[1] in _USUAL
    return True


def _cannot_run(python: Path, why: str) -> PlatformError:
    return PlatformError(
        f"the locked Python does not run here: {why}",
        code="bytecode",
        detail=str(python),
        hint="set image.bytecode to none",
    )
