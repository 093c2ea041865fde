"""The memo of layers that builders made: what it answers, and that it never says too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.api import LayerSource
from envgraph.apply.known import StoredLayers
from envgraph.image.compress import default_compression
from envgraph.model.locked import BaseLayer
from envgraph_store import Digest, Store

SOURCE = LayerSource(Digest.of(b"as the server has it"), "normal form 1, epoch 7")
PLAIN = Digest.of(b"plain")
ZSTD, GZIP = default_compression("zstd"), default_compression("gzip")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def remembered(store: Store, *sources: LayerSource, size: int | None = 9) -> BaseLayer:
    known = StoredLayers(store, "buildkit", ZSTD)
    with store.transaction() as batch:
        digest = batch.add_bytes(b"compressed")
        layer = BaseLayer(ZSTD.media_type, digest, 10, PLAIN)
        known.remember([(PLAIN, source) for source in sources], [(layer, size)], batch)
        batch.commit()
    return layer


def test_a_layer_is_found_by_its_source(store: Store) -> None:
    stored = remembered(store, SOURCE)
    known = StoredLayers(store, "buildkit", ZSTD)
    assert known.given(PLAIN) is None
    found = known.layer(SOURCE)
    assert found is not None
    assert (found.diff_id, found.descriptor.digest, found.descriptor.size) == (PLAIN, PLAIN, 9)
    assert known.given(PLAIN) == stored
    assert known.source(PLAIN, SOURCE.rule) == SOURCE.digest


@pytest.mark.parametrize(
    ("builder", "compression", "source"),
    [
        ("other", ZSTD, SOURCE),
        ("buildkit", GZIP, SOURCE),
        ("buildkit", ZSTD, LayerSource(SOURCE.digest, "normal form 1, epoch 8")),
        ("buildkit", ZSTD, LayerSource(SOURCE.digest, "normal form 2, epoch 7")),
        ("buildkit", ZSTD, LayerSource(Digest.of(b"other"), SOURCE.rule)),
    ],
)
def test_nothing_else_is_known(
    store: Store, builder: str, compression: object, source: LayerSource
) -> None:
    remembered(store, SOURCE)
    known = StoredLayers(store, builder, compression)  # type: ignore[arg-type]
    assert known.layer(source) is None
    assert known.given(PLAIN) is None


def test_the_last_source_is_told(store: Store) -> None:
    other = LayerSource(Digest.of(b"gzip"), SOURCE.rule)
    remembered(store, other, SOURCE)
    known = StoredLayers(store, "buildkit", ZSTD)
    assert known.layer(other) is not None
    assert known.source(PLAIN, SOURCE.rule) == SOURCE.digest


def test_of_an_older_layer_only_the_source_is_kept(store: Store) -> None:
    remembered(store, SOURCE, size=None)
    known = StoredLayers(store, "buildkit", ZSTD)
    assert known.layer(SOURCE) is None
    assert known.source(PLAIN, SOURCE.rule) == SOURCE.digest


@pytest.mark.parametrize("damage", ["lost blob", "damaged records", "lost records"])
def test_what_is_damaged_is_not_known(store: Store, damage: str) -> None:
    stored = remembered(store, SOURCE)
    if damage == "lost blob":
        store.blobs.path(stored.digest).unlink()
    for path in (store.root / "actions").iterdir():
        if damage == "lost records":
            path.unlink()
        elif damage == "damaged records":
            path.chmod(0o600)
            path.write_bytes(path.read_bytes().replace(b"plain_size", b"plain_sise"))
    known = StoredLayers(store, "buildkit", ZSTD)
    assert known.layer(SOURCE) is None
