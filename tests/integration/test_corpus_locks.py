"""Every lock of the corpus is imported whole, or refused by name: beside independent readers.

Set ENVGRAPH_CORPUS to its folder. Nothing is fetched: this is about what the files say.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from rattler.explicit_environment import ExplicitEnvironmentSpec

from envgraph.errors import InputError
from envgraph.interchange.imports.foreign import ForeignLock
from envgraph.interchange.imports.read import read_foreign


@pytest.fixture(scope="module")
def corpus() -> Path:
    folder = os.environ.get("ENVGRAPH_CORPUS")
    if not folder:
        pytest.skip("ENVGRAPH_CORPUS is not set")
    return Path(folder)


def read(path: Path) -> ForeignLock | str:
    """The lock, or the code of why not."""
    try:
        return read_foreign(path)
    except InputError as error:
        return error.diagnostics[0].code


def test_conda_locks_have_the_packages_that_conda_lock_reads(corpus: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file

    compared = 0
    for path in sorted((corpus / "conda-lock").rglob("*lock.yml")):
        found = read(path)
        if isinstance(found, str):
            assert (path.name, found) == ("forward-compatible-lock.yml", "lock-version")
            continue
        mine = {
            (platform, p.manager, p.name, p.version, p.url, p.md5, p.sha256)
            for platform, packages in found.platforms.items()
            for p in packages
        }
        if path.parent.name == "pangeo":  # conda-lock itself refuses it: a virtual package
            assert len(mine) == 753
            continue
        theirs = {
            (p.platform, p.manager, p.name, p.version, p.url,
             p.hash.md5 or "", p.hash.sha256 or "")
            for p in parse_conda_lock_file(path).package
        }  # fmt: skip
        assert mine == theirs, path
        compared += len(mine)
    assert compared > 1800


def test_explicit_lists_have_the_packages_that_rattler_reads(corpus: Path) -> None:
    count = 0
    for path in sorted((corpus / "explicit-lock").rglob("*")):
        if not path.is_file():
            continue
        found = read(path)
        assert isinstance(found, ForeignLock), (path, found)
        [(platform, packages)] = found.platforms.items()
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        theirs = ExplicitEnvironmentSpec.from_str("\n".join(lines))  # blank ones it refuses
        assert [f"{p.url}#{p.md5}" if p.md5 else p.url for p in packages] == [
            e.url for e in theirs.packages
        ]
        if theirs.platform is not None:
            assert platform == str(theirs.platform)
        count += len(packages)
    assert count > 2500


def test_pixi_locks_are_read_or_refused_by_name(corpus: Path) -> None:
    verdicts: Counter[str] = Counter()
    sources = 0
    for path in sorted((corpus / "pixi-lock").rglob("*")):
        if not path.is_file() or path.suffix not in (".lock", ".yml"):
            continue
        found = read(path)
        verdicts[found if isinstance(found, str) else found.kind] += 1
        if isinstance(found, ForeignLock):
            for packages in found.platforms.values():
                sources += sum(1 for p in packages if p.problem)
                assert all(p.sha256 and p.md5 for p in packages if p.manager == "conda"
                           and not p.problem), path  # fmt: skip
    assert dict(verdicts) == {"pixi": 55, "import-environment": 1}
    assert sources > 20


def test_mlflow_models_are_read_or_refused_by_name(corpus: Path) -> None:
    verdicts: Counter[str] = Counter()
    for path in sorted((corpus / "mlflow-models").rglob("MLmodel")):
        found = read(path)
        verdicts[found if isinstance(found, str) else found.kind] += 1
    assert set(verdicts) <= {"mlflow", "missing-file", "mlflow-environment", "lock-yaml",
                             "template", "lock-format"}  # fmt: skip
    assert verdicts["mlflow"] > 15, verdicts
