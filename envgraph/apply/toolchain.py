"""The locked Python, made runnable on this machine to compile bytecode."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from envgraph.model.locked import LockedEnvironment, LockedPackage
from envgraph_store import Digest, Store

if TYPE_CHECKING:
    from envgraph.image.bytecode import BytecodeCompiler


class Toolchains:
    """One compiler for each Python package, started when it is first needed.

    The prefix lies in the store's ``memo`` folder: deleting it costs only time.
    """

    def __init__(self, store: Store, processes: int) -> None:
        """Bind; nothing is installed or started yet.

        ``processes``: how many may compile at the same time.
        """
        self._processes = processes
        self._store = store
        self._stack = ExitStack()
        self._mutex = threading.Lock()
        self._compilers: dict[Digest, BytecodeCompiler] = {}

    @staticmethod
    def packages(lock: LockedEnvironment) -> tuple[LockedPackage, ...]:
        """The packages whose archives are needed: Python and what it stands on."""
        from envgraph.conda.link import python_closure

        return python_closure(lock.packages)

    def compiler(self, lock: LockedEnvironment) -> Callable[[str, bytes], bytes | None]:
        """Compile ``(path, source)`` to an unchecked-hash ``.pyc``; safe from threads."""
        python = lock.python
        if python is None:
            raise ValueError("a lock without Python compiles nothing")
        from envgraph.image.bytecode import BytecodeCompiler

        with self._mutex:
            if python.sha256 not in self._compilers:
                interpreter = self._interpreter(lock, python.sha256)
                compiler = BytecodeCompiler(interpreter, processes=self._processes)
                self._compilers[python.sha256] = self._stack.enter_context(compiler)
            return self._compilers[python.sha256].compile

    def _interpreter(self, lock: LockedEnvironment, python: Digest) -> Path:
        from envgraph.conda.link import install_python

        folder = self._store.root / "memo" / "pythons" / python.hex[:32]
        interpreter = folder / "bin" / "python"
        with self._store.file_lock(f"python-{python.hex[:32]}", purpose="unpacking Python"):
            if interpreter.exists():
                return interpreter
            return install_python(lock, self._archive, folder)

    def _archive(self, package: LockedPackage) -> Path:
        return self._store.packages.path(package.sha256)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
