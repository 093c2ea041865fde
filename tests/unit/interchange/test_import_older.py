"""Locks of older tools, and of tools that can write a known format."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from envgraph.apply.importing import ImportQuestion
from envgraph.errors import InputError, OfflineError
from envgraph.interchange.condalock import conda_lock
from envgraph.interchange.imports.read import read_foreign
from envgraph.spec import judge_file
from tests.exchange import Machine, good
from tests.services import Channel
from tests.unit.interchange.test_import import foreign, locked, same_packages, settled, take


@pytest.fixture
def giver(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", name="giver")
    machine.environment("train", "python", "alpha", "tool", "settings")
    good(machine.apply())
    return machine


@pytest.fixture
def taker(tmp_path: Path, demo_channel: Channel) -> Machine:
    return Machine(tmp_path / "taker", demo_channel.url, id="bbbb0002", name="taker")


def lock_document(giver: Machine) -> dict[str, object]:
    document: dict[str, object] = yaml.safe_load(foreign(conda_lock([locked(giver)]).text))
    return document


def test_channels_by_name_alone(giver: Machine, tmp_path: Path) -> None:
    """As conda-lock wrote them before 1.0."""
    document = lock_document(giver)
    document["metadata"]["channels"] = ["conda-forge", "demo"]  # type: ignore[index]
    file = tmp_path / "conda-lock.yml"
    file.write_text(yaml.safe_dump(document))
    assert read_foreign(file).channels[:2] == ("conda-forge", "demo")


def test_a_package_from_a_repository_stops_only_its_platform(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    document = lock_document(giver)
    commit = "9" * 40
    document["package"].append(  # type: ignore[attr-defined]
        {
            "name": "own", "version": "1", "manager": "pip", "platform": "osx-arm64",
            "dependencies": {}, "url": f"git+https://example.org/own.git@{commit}",
            "hash": {"sha256": commit}, "category": "main", "optional": False,
        }
    )  # fmt: skip
    document["metadata"]["platforms"].append("osx-arm64")  # type: ignore[index]
    document["metadata"]["content_hash"]["osx-arm64"] = "0" * 64  # type: ignore[index]
    file = tmp_path / "conda-lock.yml"
    file.write_text(yaml.safe_dump(document))
    done = take(taker, file, "again")
    assert list(done.packages) == ["linux-64"]
    with taker.open() as workspace, pytest.raises(InputError) as caught:
        workspace.importer.run(ImportQuestion(file, "other", ("osx-arm64",)))
    [problem] = caught.value.diagnostics
    assert problem.code == "import-source"
    assert "own 1" in problem.summary


def pixi_3(giver: Machine) -> str:
    """Version 3: the shape of conda-lock's, and `subdir` is the lock's platform."""
    lock = locked(giver)
    channel = lock.packages[0].url.rsplit("/", 2)[0]
    return yaml.safe_dump(
        {
            "version": 3,
            "metadata": {
                "content_hash": {"linux-64": "0" * 64},
                "channels": [{"url": channel + "/", "used_env_vars": []}],
                "platforms": ["linux-64"],
                "sources": [],
                "time_metadata": None,
                "git_metadata": None,
                "inputs_metadata": None,
                "custom_metadata": None,
            },
            "package": [
                {
                    "platform": "linux-64", "name": p.name, "version": p.version,
                    "category": "main", "manager": "conda", "build": p.build, "url": p.url,
                    "dependencies": list(p.depends), "size": p.size, "optional": False,
                    "hash": {"md5": p.md5, "sha256": p.sha256.hex}, "subdir": "linux-64",
                }
                for p in lock.packages
            ],
        }
    )  # fmt: skip


def test_version_3_of_pixi(giver: Machine, taker: Machine, tmp_path: Path) -> None:
    file = tmp_path / "pixi.lock"
    file.write_text(pixi_3(giver))
    assert judge_file(file).verdict == "recognised"
    done = take(taker, file, "again")
    assert done.kind == "pixi"
    assert done.fetched == sum(1 for p in locked(giver).packages if p.noarch)
    settled(taker)
    assert same_packages(locked_in_file(taker), locked(giver))


def locked_in_file(machine: Machine):  # type: ignore[no-untyped-def]
    from envgraph.lock.lockfile import read_lockfile

    return read_lockfile(machine.folder / "locks" / "again.conda-lock.yml").locks["linux-64"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("uv.lock", "version = 1\n", "uv export"),
        ("run.py.lock", '[[package]]\nname = "a"\nsource = { registry = "x" }\n', "uv export"),
        ("poetry.lock", "[metadata]\n", "poetry export"),
        ("Pipfile.lock", "{}", "pipenv requirements"),
        ("Cargo.lock", "version = 4\n", "this version reads"),
    ],
)
def test_other_locks_are_refused_with_a_way(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_foreign(tmp_path / name)
    assert words in caught.value.diagnostics[0].hint


def test_what_needs_a_connection_is_told_once(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    document = lock_document(giver)
    for item in document["package"]:  # type: ignore[attr-defined]
        item["url"] = item["url"].replace("file://", "https://example.org")
    file = tmp_path / "conda-lock.yml"
    file.write_text(yaml.safe_dump(document))
    with taker.open(offline=True) as workspace, pytest.raises(OfflineError) as caught:
        workspace.importer.run(ImportQuestion(file, "again"))
    [problem] = caught.value.diagnostics
    assert problem.code == "offline"
    assert f"{len(locked(giver).packages)} packages" in problem.summary
    assert locked(giver).packages[0].name in problem.detail
