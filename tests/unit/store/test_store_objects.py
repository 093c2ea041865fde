"""Reading objects: the bytes of the digest, or an error; never other bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph_store import Digest, DigestError, Store
from envgraph_store.errors import ObjectCorrupt, ObjectMissing, ObjectTooBig, StoreError

DATA = bytes(range(256)) * 40


def add(store: Store, data: bytes = DATA) -> Digest:
    with store.transaction() as transaction:
        digest = transaction.add_bytes(data)
        transaction.commit()
    return digest


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def damaged_by(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "bit flip":
        position = len(data) // 3
        replace(path, data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
    elif how == "empty":
        replace(path, b"")
    elif how == "half":
        replace(path, data[: len(data) // 2])
    elif how == "one more byte":
        replace(path, data + b"\0")
    elif how == "link to the same bytes":
        path.rename(path.parent.parent / "same")
        path.symlink_to(path.parent.parent / "same")
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "hard link to other bytes":
        other = path.parent.parent / "other"
        other.write_bytes(b"other")
        path.unlink()
        path.hardlink_to(other)


DAMAGES = [
    "bit flip", "empty", "half", "one more byte",
    "link to the same bytes", "pipe", "folder", "hard link to other bytes",
]  # fmt: skip


def test_what_was_added_can_be_read(store: Store) -> None:
    digest = add(store)
    assert digest == Digest.of(DATA)
    assert store.blobs.has(digest)
    assert store.blobs.size(digest) == len(DATA)
    assert store.blobs.read(digest) == DATA
    with store.blobs.open(digest) as file:
        assert file.read(10) == DATA[:10]
        file.seek(-10, io.SEEK_END)
        assert file.read() == DATA[-10:]
    assert list(store.blobs.digests()) == [digest]
    assert store.blobs.path(digest).read_bytes() == DATA


def test_areas_are_apart(store: Store) -> None:
    digest = add(store)
    assert not store.packages.has(digest)
    assert store.packages.missing([digest, Digest.of(b"")]) == {digest, Digest.of(b"")}
    assert store.blobs.missing([digest, Digest.of(b"")]) == {Digest.of(b"")}


def test_the_empty_object_is_an_object(store: Store) -> None:
    digest = add(store, b"")
    assert store.blobs.read(digest) == b""
    with store.blobs.open(digest) as file:
        assert file.read() == b""


def test_absent_objects_are_one_error(store: Store) -> None:
    digest = Digest.of(b"never seen")
    for ask in (store.blobs.read, store.blobs.open, store.blobs.size, store.blobs.check):
        with pytest.raises(ObjectMissing):
            ask(digest)


def test_read_is_bounded(store: Store) -> None:
    digest = add(store)
    with pytest.raises(ObjectTooBig):
        store.blobs.read(digest, limit=len(DATA) - 1)
    assert store.blobs.read(digest, limit=len(DATA)) == DATA


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_objects_are_never_handed_out(store: Store, how: str) -> None:
    digest = add(store)
    damaged_by(store.blobs.path(digest), how)
    asks: list[Callable[[Digest], object]] = [
        store.blobs.read,
        store.blobs.check,
        lambda digest: store.blobs.open(digest).read(1),
    ]
    for ask in asks:
        with pytest.raises(ObjectCorrupt) as caught:
            ask(digest)
        assert "verify --repair" in caught.value.hint


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_objects_are_healed_by_adding_them_again(store: Store, how: str) -> None:
    digest = add(store)
    damaged_by(store.blobs.path(digest), how)
    assert add(store) == digest
    assert store.blobs.read(digest) == DATA
    assert store.verify().bad == ()


def test_a_change_while_reading_is_noticed(store: Store) -> None:
    data = os.urandom(1 << 20)
    digest = add(store, data)
    path = store.blobs.path(digest)
    with store.blobs.open(digest) as file:
        assert file.read(1000) == data[:1000]
        path.chmod(0o644)
        with path.open("r+b") as other:
            other.seek(900_000)
            other.write(b"evil")
        with pytest.raises(ObjectCorrupt):
            file.read()


def test_a_replacement_while_reading_does_not_matter(store: Store) -> None:
    data = os.urandom(1 << 20)
    digest = add(store, data)
    with store.blobs.open(digest) as file:
        first = file.read(1000)
        replace(store.blobs.path(digest), b"other")
        assert first + file.read() == data
    with pytest.raises(ObjectCorrupt):
        store.blobs.read(digest)


def test_being_used_again_while_reading_does_not_matter(store: Store) -> None:
    data = os.urandom(1 << 20)
    digest = add(store, data)
    with store.blobs.open(digest) as file:
        first = file.read(1000)
        add(store, data)
        assert first + file.read() == data


def test_every_way_of_reading_notices(store: Store) -> None:
    digest = add(store)
    path = store.blobs.path(digest)
    ways: list[Callable[[io.BufferedReader], object]] = [
        lambda file: file.read(),
        lambda file: file.read(5),
        lambda file: file.read1(5),
        lambda file: file.readline(),
        lambda file: file.readinto(bytearray(5)),
        lambda file: file.peek(1),
        lambda file: file.raw.read(5),
        lambda file: file.raw.read(-1),
    ]
    path.chmod(0o644)
    for number, way in enumerate(ways):
        path.write_bytes(DATA)
        with store.blobs.open(digest) as file:
            path.write_bytes(DATA[:-1] + b"%d" % (number % 10))
            with pytest.raises(ObjectCorrupt):
                way(file)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 65,
        "md5:" + "a" * 32, "sha512:" + "a" * 128, "", "a" * 64, "sha256:" + "a" * 64 + "\n",
        "SHA256:" + "a" * 64, "sha256:" + "\uff41" * 64, "sha256:" + "a" * 63 + "/",
    ],
)  # fmt: skip
def test_what_is_no_digest_is_refused_before_any_io(text: str) -> None:
    with pytest.raises(DigestError):
        Digest(text)


def test_unreadable_objects_are_one_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = add(store)

    def refuse(*args: object, **kwargs: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError) as caught:
        store.blobs.read(digest)
    assert caught.value.code == "store-io"
    assert caught.value.hint
