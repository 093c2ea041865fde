"""verify names what is bad and who uses it; repair takes away that and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envgraph_store import Digest, Store, StoreLocked
from envgraph_store.check import BadObject, VerifyReport

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Image:
    """A small but complete store: two layers, a config, a manifest, actions and a ref."""

    def __init__(self, store: Store) -> None:
        with store.transaction() as transaction:
            self.layers = [
                transaction.add_bytes(b"\x1f\x8b" + bytes([number]) * 500) for number in range(3)
            ]
            self.package = transaction.add_bytes(b"PK\x03\x04 archive", area="packages")
            self.config = transaction.add_bytes(b'{"rootfs":{}}')
            named = [{"digest": str(layer), "size": 502} for layer in self.layers[:2]]
            document = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"digest": str(self.config)},
                "layers": named,
            }
            data = json.dumps(document).encode()
            self.manifest = transaction.add_bytes(data)
            for number, layer in enumerate(self.layers):
                transaction.put_action(
                    f"layer{number}",
                    {"layer": str(layer), "from": str(self.package), "diff": "sha256:" + "0" * 64},
                )
            value = {"mediaType": MANIFEST, "digest": str(self.manifest), "size": len(data)}
            transaction.set_ref("images/ws/env:1", {**value, "ref_name": "ws/env:1"}, None)
            transaction.commit()
        store.rewrite_index()


@pytest.fixture
def image(store: Store) -> Image:
    return Image(store)


def files_of(store: Store) -> dict[str, bytes]:
    """The content of everything that repair must not touch."""
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes()
        for folder in ("blobs", "packages", "actions", "refs")
        for path in (store.root / folder).rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def bit_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])


def emptied(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"")


def longer(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data + b"\0")


def linked(path: Path) -> None:
    copy = path.parent.parent.parent / "memo"
    path.rename(copy)
    path.symlink_to(copy)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def gone(path: Path) -> None:
    path.unlink()


DAMAGES = [bit_flip, cut, emptied, longer, linked, pipe, folder, gone]
Damage = Callable[[Path], None]


def test_a_good_store_is_good(store: Store, image: Image) -> None:
    seen: list[tuple[int, int]] = []
    before = store.generation()
    report = store.verify(progress=lambda done, total: seen.append((done, total)))
    assert report.bad == ()
    assert report.checked == 6 + 3 + 1 + 1
    assert report.bytes == sum(
        path.stat().st_size
        for place in ("blobs/sha256", "packages")
        for path in (store.root / place).iterdir()
    )
    assert seen == [(number + 1, 6) for number in range(6)]
    assert store.generation() == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", ["layer", "config", "manifest", "package"])
def test_every_damage_is_named_and_repaired(
    store: Store, image: Image, damage: Damage, which: str
) -> None:
    digest, area = {
        "layer": (image.layers[0], store.blobs),
        "config": (image.config, store.blobs),
        "manifest": (image.manifest, store.blobs),
        "package": (image.package, store.packages),
    }[which]
    path = area.path(digest)
    good = files_of(store)
    damage(path)
    before = store.generation()

    report = store.verify()
    assert [bad.digest for bad in report.bad] == [str(digest)]
    bad = report.bad[0]
    users = {
        "layer": {"action:layer0", "ref:images/ws/env:1"},
        "config": {"ref:images/ws/env:1"},
        "manifest": {"ref:images/ws/env:1"},
        "package": {"action:layer0", "action:layer1", "action:layer2"},
    }[which]
    assert set(bad.used_by) == users
    assert store.generation() != before
    if damage is not gone:
        assert os.path.lexists(path), "looking removes nothing"

    between = store.generation()
    assert store.verify(repair=True).repaired
    assert store.generation() != between
    assert not os.path.lexists(path)
    lost = {path.relative_to(store.root).as_posix()}
    lost |= {f"actions/{user.removeprefix('action:')}" for user in users if "action" in user}
    left = files_of(store)
    assert left == {name: data for name, data in good.items() if name not in lost}


def test_what_was_made_again_is_good(store: Store, image: Image) -> None:
    bit_flip(store.blobs.path(image.layers[0]))
    store.verify(repair=True)
    assert store.actions.get("layer0") is None
    with store.transaction() as transaction:
        layer = transaction.add_bytes(b"\x1f\x8b" + bytes([0]) * 500)
        transaction.put_action("layer0", {"layer": str(layer)})
        transaction.commit()
    assert store.verify().bad == ()


def test_repair_twice_is_repair_once(store: Store, image: Image) -> None:
    bit_flip(store.packages.path(image.package))
    store.verify(repair=True)
    after = files_of(store)
    report = store.verify(repair=True)
    assert report.bad == ()
    assert files_of(store) == after


def test_repair_waits_for_writers(store: Store, image: Image) -> None:
    bit_flip(store.blobs.path(image.config))
    with store.lease("a build"), pytest.raises(StoreLocked):
        store.verify(repair=True, timeout=0)
    assert os.path.lexists(store.blobs.path(image.config))


def test_what_was_healed_between_look_and_repair_stays(
    store: Store, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envgraph_store import check

    path = store.blobs.path(image.config)
    good = path.read_bytes()
    bit_flip(path)
    real = check._look

    def look_then_heal(*args: object) -> VerifyReport:
        report = real(*args)  # type: ignore[arg-type]
        with store.transaction() as transaction:
            transaction.add_bytes(good)
            transaction.commit()
        return report

    monkeypatch.setattr(check, "_look", look_then_heal)
    store.verify(repair=True)
    assert store.blobs.read(image.config) == good


def test_stray_files_are_named_and_set_aside(store: Store, image: Image) -> None:
    (store.root / "blobs" / "sha256" / "notes.txt").write_text("x")
    (store.root / "packages" / ("A" * 64)).write_text("x")
    report = store.verify(repair=True)
    assert {bad.digest for bad in report.bad} == {"notes.txt", "A" * 64}
    assert store.verify().bad == ()
    assert len(list((store.root / "quarantine").iterdir())) == 2


def test_a_damaged_action_is_named_and_removed(store: Store, image: Image) -> None:
    cut(store.root / "actions" / "layer1")
    report = store.verify(repair=True)
    assert [bad.digest for bad in report.bad] == ["action:layer1"]
    assert report.bad[0].area == "actions"
    assert store.verify().bad == ()
    assert store.blobs.has(image.layers[1])


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"schemaVersion":2}', None, b"\xff"])
def test_index_and_other_derived_files_cost_nothing(
    store: Store, image: Image, data: bytes | None
) -> None:
    path = store.root / "index.json"
    good = path.read_bytes()
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    report = store.verify(repair=True)
    assert [bad.digest for bad in report.bad] == ["index.json"]
    assert path.read_bytes() == good
    assert store.verify().bad == ()


def test_a_lost_generation_file_is_a_changed_generation(store: Store) -> None:
    before = store.generation()
    (store.root / "generation").unlink()
    assert store.generation() not in (before, "")
    (store.root / "blobs" / "sha256" / "stray").write_text("x")
    store.verify(repair=True)
    assert store.generation() not in (before, "none")


def test_hashing_may_run_in_threads(store: Store, image: Image) -> None:
    bit_flip(store.blobs.path(image.layers[2]))
    with ThreadPoolExecutor(2) as pool:
        report = store.verify(mapper=pool.map)
    assert report == store.verify()
    assert report.bad == (
        BadObject(
            str(image.layers[2]), "its bytes have another digest", ("action:layer2",), "blobs"
        ),
    )


def test_a_diff_id_that_never_was_here_is_not_missed(store: Store, image: Image) -> None:
    assert not store.blobs.has(Digest("sha256:" + "0" * 64))
    assert store.verify().bad == ()


def test_a_layer_that_only_the_ref_leads_to_is_missed(store: Store, image: Image) -> None:
    for name in ("layer0", "layer1", "layer2"):
        (store.root / "actions" / name).unlink()
    store.blobs.path(image.layers[0]).unlink()
    report = store.verify()
    assert [(bad.digest, bad.problem) for bad in report.bad] == [
        (str(image.layers[0]), "it is gone")
    ]
    assert report.bad[0].used_by == ("ref:images/ws/env:1",)


def test_without_preadv_hashing_is_the_same(
    store: Store, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    bit_flip(store.blobs.path(image.layers[2]))
    expected = store.verify()
    monkeypatch.delattr(os, "preadv")
    assert store.verify() == expected
    with store.blobs.open(image.config) as file:
        assert file.read() == store.blobs.read(image.config)
