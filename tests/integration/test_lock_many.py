"""Environments that are locked together: one state of a channel, one answer to a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.conda.channels import ChannelSource
from envgraph.conda.gateway import Gateways
from envgraph.lock.find import FoundLock, LockFinder
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest
from envgraph.model.spec import CondaSpec, EnvironmentSpec, Requirement
from envgraph.testing.channel import ChannelMaker, make_package
from envgraph.testing.http import ChannelServer
from envgraph_store import Store
from tests.integration.locking import NOW


@pytest.fixture
def maker(tmp_path: Path) -> ChannelMaker:
    maker = ChannelMaker(tmp_path / "channel").add(
        make_package("alpha", "1.0"), make_package("alpha", "1.1"), make_package("beta", "1.0")
    )
    maker.index()
    return maker


def spec(name: str, channel: str, *dependencies: str) -> EnvironmentSpec:
    wanted = tuple(Requirement(text) for text in dependencies)
    return EnvironmentSpec(
        name, image="scratch", conda=CondaSpec(channels=(channel,), dependencies=wanted)
    )


def found(finder: LockFinder, specs: Sequence[EnvironmentSpec]) -> list[FoundLock]:
    return [
        finder.find(item, definition_digest(item), ["linux-64"]).locks["linux-64"] for item in specs
    ]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store.open(tmp_path / "store")


def finder_of(tmp_path: Path, store: Store) -> LockFinder:
    config = WorkspaceConfig("many", "1", str(tmp_path))
    return LockFinder(config, store, offline=False, now=NOW)


def test_a_channel_is_asked_once(tmp_path: Path, store: Store, maker: ChannelMaker) -> None:
    with ChannelServer(maker.folder) as server:
        one = [spec("one", server.url, "alpha")]
        found(finder_of(tmp_path, store), one)
        alone = server.count()
        server.forget()
        more = [
            spec("one", server.url, "alpha"),
            spec("two", server.url, "alpha"),
            spec("other", server.url, "alpha <1.1"),
        ]
        locks = found(finder_of(tmp_path, store), more)
        assert 0 < server.count() <= alone
    assert [lock.lock.packages[0].version for lock in locks] == ["1.1", "1.1", "1.0"]
    assert locks[0].lock == locks[1].lock
    assert {lock.origin for lock in locks} == {"new"}


def test_the_next_piece_of_work_sees_what_is_new(
    tmp_path: Path, store: Store, maker: ChannelMaker
) -> None:
    url = maker.folder.as_uri()
    before = found(finder_of(tmp_path, store), [spec("one", url, "alpha")])
    maker.add(make_package("alpha", "1.2")).index()
    after = found(finder_of(tmp_path, store), [spec("one", url, "alpha")])
    assert [lock[0].lock.packages[0].version for lock in (before, after)] == ["1.1", "1.2"]


def test_one_definition_with_other_folders_is_asked_twice(
    tmp_path: Path, store: Store, maker: ChannelMaker
) -> None:
    """A relative channel's text is identity, its folder is not."""
    other = ChannelMaker(tmp_path / "other" / "channel").add(make_package("alpha", "3.0"))
    other.index()
    specs = []
    for name, folder in (("one", maker.folder), ("two", other.folder)):
        item = spec(name, "./channel", "alpha")
        assert item.conda is not None
        conda = replace(item.conda, channel_paths={"./channel": str(folder)})
        specs.append(replace(item, conda=conda))
    assert definition_digest(specs[0]) == definition_digest(specs[1])
    locks = found(finder_of(tmp_path, store), specs)
    assert [lock.lock.packages[0].version for lock in locks] == ["1.1", "3.0"]


def test_other_credentials_are_another_connection(tmp_path: Path) -> None:
    gateways = Gateways()
    first, second = (
        ChannelSource("c", "https://host/c", f"https://user:{word}@host/c", "https://host/c")
        for word in ("one", "two")
    )
    assert first == second
    opened = gateways.get([first], tmp_path)
    assert gateways.get([first], tmp_path) is opened
    assert gateways.get([second], tmp_path) is not opened
    assert gateways.get([first], tmp_path / "elsewhere") is not opened
