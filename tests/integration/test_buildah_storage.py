"""What buildah's storage keeps, and what goes from it: with the real buildah."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from envgraph.api import Base, BuildRequest, Dockerfile, PluginContext
from envgraph.testing.base import make_base
from envgraph.testing.builder.contract_base import whole
from envgraph.testing.builder.material import EPOCH, MemoryContext, base_of_layout
from envgraph_buildah import BuildahOptions, open_buildah
from envgraph_buildah.builder import BuildahBuilder
from envgraph_buildah.cleaning import DAY, Cleaner
from envgraph_buildah.storage import Storage
from tests.services import require_tool

pytestmark = [pytest.mark.services, pytest.mark.slow]

LINES = b"FROM base\nRUN echo same > /same\nCOPY a /a\nRUN cat /a > /b\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    made = make_base(tmp_path_factory.mktemp("base"))
    return base_of_layout(made.layout, made.name)


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    require_tool("buildah")
    return Storage(BuildahOptions(), tmp_path / "storage")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cleaner(storage: Storage, clock: Clock) -> Cleaner:
    return Cleaner(storage, 14, clock)


def request(base: Base, text: str, lines: bytes = LINES) -> BuildRequest:
    from envgraph.api import Platform

    return BuildRequest(
        Platform("linux", "amd64" if os.uname().machine == "x86_64" else "arm64"),
        Dockerfile(lines, "Dockerfile", {"base": base}),
        context=MemoryContext({"a": text.encode()}),
        epoch=EPOCH,
    )


def images(storage: Storage) -> set[str]:
    return set(storage.ask("images", "-a", "-q", "--no-trunc").split())


def layers(storage: Storage) -> int:
    place = storage.folder / storage.driver / f"{storage.driver}-layers" / "layers.json"
    return place.read_text().count('"id":')


def test_what_nothing_uses_goes_and_what_is_used_stays(
    storage: Storage, cleaner: Cleaner, clock: Clock, base: Base
) -> None:
    builder = BuildahBuilder(storage, cleaner)
    for text in ("one", "two", "three"):
        whole(builder, request(base, text))
    assert cleaner.clean() == 0
    full = images(storage)
    assert len(full) > 4  # the base, the step that is shared, two each
    clock.now += 10 * DAY
    kept = whole(builder, request(base, "two"))
    clock.now += 5 * DAY
    assert cleaner.clean() > 0
    left = images(storage)
    assert left < full
    clock.now += 1  # what was used ten days ago is still known: nothing is made anew
    again = whole(builder, request(base, "two"))
    assert images(storage) == left
    assert again.blobs == kept.blobs
    clock.now += 15 * DAY
    assert cleaner.clean() == len(left)
    assert images(storage) == set()
    assert layers(storage) == 0
    assert not list((storage.folder / "used").glob("*/*"))
    assert whole(builder, request(base, "two")).blobs == kept.blobs


def test_what_a_failed_build_made_is_kept_for_the_next(
    storage: Storage, cleaner: Cleaner, clock: Clock, base: Base
) -> None:
    from envgraph.api import BuilderError

    builder = BuildahBuilder(storage, cleaner)
    with pytest.raises(BuilderError):
        whole(builder, request(base, "x", LINES + b"RUN exit 9\n"))
    made = images(storage)
    cleaner.clean()
    assert images(storage) == made
    clock.now += 15 * DAY
    cleaner.clean()
    assert images(storage) == set()


def test_it_waits_for_builds_and_for_a_day(
    storage: Storage, cleaner: Cleaner, clock: Clock, base: Base
) -> None:
    builder = BuildahBuilder(storage, cleaner)
    assert Cleaner(storage, 0, clock).clean() == 0  # nothing was built: nothing is looked at
    assert not storage.folder.exists()
    whole(builder, request(base, "x"))
    clock.now += 15 * DAY
    with (storage.folder / "builds.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert cleaner.clean() == 0
    left = storage.folder / "builds" / "of-a-killed-process"
    left.mkdir(parents=True)
    assert cleaner.clean() > 0
    assert not left.exists()
    whole(builder, request(base, "x"))
    clock.now += DAY / 2
    (storage.folder / "builds").mkdir(exist_ok=True)
    assert cleaner.clean() == 0
    assert (storage.folder / "builds").exists()


def test_with_no_days_nothing_stays(tmp_path: Path, base: Base) -> None:
    require_tool("buildah")
    context = PluginContext(str(tmp_path), lambda host, scope: None, {})
    options = BuildahOptions(storage="storage", keep_days=0)
    with open_buildah(options, context) as builder:
        whole(builder, request(base, "x"), threading.Event())
    assert images(Storage(options, tmp_path / "storage")) == set()
    with pytest.raises(ValueError, match="keep_days"):
        BuildahOptions(keep_days=-1)
