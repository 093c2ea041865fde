"""One way to write files and read them: ``read({...})`` → what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from envgraph.spec import LoadResult, load_environment


class Read(Protocol):
    """Write these files into an empty folder and read the first one."""

    def __call__(self, files: Mapping[str, str | bytes] | str | bytes) -> LoadResult: ...


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    monkeypatch.chdir(tmp_path)

    def write_and_read(files: Mapping[str, str | bytes] | str | bytes) -> LoadResult:
        if isinstance(files, str | bytes):
            files = {"environment.yml": files}
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_environment(next(iter(files)))

    return write_and_read


@pytest.fixture
def said() -> Callable[[LoadResult], list[str]]:
    """``environment.yml:3:1 code`` of each diagnostic, warnings with a ``?``."""

    def lines(result: LoadResult) -> list[str]:
        return [
            f"{d.source} {d.code}{'?' if d.severity == 'warning' else ''}"
            for d in result.diagnostics
        ]

    return lines
