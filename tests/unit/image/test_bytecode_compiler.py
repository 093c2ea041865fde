"""The process that compiles: its bytes are Python's own and depend on nothing else."""

from __future__ import annotations

import importlib.util
import marshal
import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envgraph.errors import BuildError, PlatformError
from envgraph.image.bytecode import BytecodeCompiler

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def compiler() -> Iterator[BytecodeCompiler]:
    with BytecodeCompiler(Path(sys.executable), version=VERSION) as compiler:
        yield compiler


def standard_library() -> list[tuple[str, bytes]]:
    folder = Path(os.__file__).parent
    found = sorted(folder.glob("*.py")) + sorted(folder.glob("json/*.py"))
    return [(f"/opt/env/lib/{path.name}", path.read_bytes()) for path in found]


def test_it_is_an_unchecked_hash_pyc_with_the_images_path(compiler: BytecodeCompiler) -> None:
    source = b"x = {'a', 'b'}\nprint(__file__)\n"
    data = compiler.compile("/opt/env/lib/m.py", source)
    assert data is not None
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == (1).to_bytes(4, "little"), "hash-based, not checked"
    assert data[8:16] == importlib.util.source_hash(source)
    assert marshal.loads(data[16:]).co_filename == "/opt/env/lib/m.py"


@pytest.mark.parametrize(
    "source",
    [b"def (", b"\0", b"# -*- coding: nothing -*-\n", b"\xff\xfe", b"print 'x'", b"(" * 10_000],
)
def test_what_does_not_compile_is_skipped(compiler: BytecodeCompiler, source: bytes) -> None:
    assert compiler.compile("/x.py", source) is None
    assert compiler.compile("/x.py", b"x = 1") is not None


def test_order_processes_and_threads_change_nothing() -> None:
    work = standard_library()
    with BytecodeCompiler(Path(sys.executable)) as compiler:
        first = {path: compiler.compile(path, source) for path, source in work}
    shuffled = list(work)
    random.Random(7).shuffle(shuffled)
    with (
        BytecodeCompiler(Path(sys.executable), processes=2) as compiler,
        ThreadPoolExecutor(3) as threads,
    ):
        results = threads.map(lambda item: compiler.compile(*item), shuffled)
        second = {path: data for (path, _), data in zip(shuffled, results, strict=True)}
    assert first == second


NAMES = ["getregentry", "IncrementalDecoder", "decoding_table", "normalize", "latin1", "axis"]
SETS = "".join(f"def f{n}(x):\n    return x in {{'axis', 'a{n % 3}', 'b'}}\n" for n in range(20))
TARGET = (SETS + "\n".join(f"{name} = {name!r}" for name in NAMES)).encode()


@pytest.mark.parametrize(
    "before",
    [
        b"x = 'axis' in {'axis', 'a1', 'b'}\n" + TARGET,
        "é = normalize = 1\n".encode(),
        b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
        b"# coding: cp1252\nx = 1\n",
        b"# vim: set fileencoding=UTF-8 :\nx = 1\n",
        b"def (",
        b"x = '\\d'\n",
        b"assert (1, 'always')\n",
    ],
)
def test_an_earlier_file_leaves_nothing_behind(before: bytes) -> None:
    with BytecodeCompiler(Path(sys.executable)) as compiler:
        fresh = compiler.compile("/t.py", TARGET)
    with BytecodeCompiler(Path(sys.executable)) as compiler:
        compiler.compile("/b.py", before)
        assert compiler.compile("/t.py", TARGET) == fresh


def test_an_old_codec_is_understood(compiler: BytecodeCompiler) -> None:
    data = compiler.compile("/x.py", b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    assert data is not None
    assert marshal.loads(data[16:]).co_consts[0] == "é"


def test_the_environment_has_no_influence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = b"def f(x):\n    '''doc'''\n    assert x in {'a', 'b', 'c', 'd'}\n"
    with BytecodeCompiler(Path(sys.executable)) as compiler:
        plain = compiler.compile("/x.py", source)
    (tmp_path / "struct.py").write_text("raise SystemExit\n")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("PYTHONHASHSEED", "77"),
        ("PYTHONOPTIMIZE", "2"),
        ("PYTHONPATH", str(tmp_path)),
        ("PYTHONSTARTUP", "/nowhere"),
        ("LC_ALL", "C"),
        ("TZ", "Asia/Tokyo"),
    ):
        monkeypatch.setenv(name, value)
    with BytecodeCompiler(Path(sys.executable)) as compiler:
        assert compiler.compile("/x.py", source) == plain


def test_a_python_that_is_not_there_or_another_one(tmp_path: Path) -> None:
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    for path, version in (
        (tmp_path / "none", ""),
        (silent, ""),
        (Path(sys.executable), "2.7"),
    ):
        with BytecodeCompiler(path, version=version) as compiler, pytest.raises(PlatformError):
            compiler.compile("/x.py", b"")


def test_a_python_that_dies_is_an_error_and_the_next_works(tmp_path: Path) -> None:
    marker = tmp_path / "died"
    wrapper = tmp_path / "python"
    wrapper.write_text(
        f'#!/bin/sh\n[ -e "{marker}" ] && exec "{sys.executable}" "$@"\n'
        f': > "{marker}"\nprintf "\\001\\000\\000\\000\\000\\000\\000\\000\\0043.11"\n'
    )
    wrapper.chmod(0o755)
    with BytecodeCompiler(wrapper) as compiler:
        with pytest.raises(BuildError, match="died"):
            compiler.compile("/x.py", b"x = 1")
        assert compiler.compile("/x.py", b"x = 1") is not None


def test_closed_is_closed() -> None:
    compiler = BytecodeCompiler(Path(sys.executable))
    compiler.close()
    with pytest.raises(ValueError, match="closed"):
        compiler.compile("/x.py", b"")
