"""A transaction is visible whole and durable, or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envgraph_store import Digest, Store, files
from envgraph_store.errors import (
    DigestMismatch,
    ObjectCollision,
    RefConflict,
    StoreFull,
    StoreIOError,
)


class Recorder(files.Disk):
    """Writes down every sync and every named point."""

    def __init__(self, syncfs: bool = True) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.syncfs = syncfs

    def sync_file(self, fd: int) -> None:
        self.steps.append("file")
        super().sync_file(fd)

    def sync_folder(self, fd: int) -> None:
        self.steps.append("folder")
        super().sync_folder(fd)

    def sync_everything(self, fd: int) -> bool:
        self.steps.append("everything" if self.syncfs else "no syncfs")
        return self.syncfs and super().sync_everything(fd)

    def point(self, name: str) -> None:
        self.steps.append(name)


def stage_is_empty(store: Store) -> bool:
    return not list((store.root / "stage").iterdir())


def test_nothing_is_visible_before_commit(store: Store) -> None:
    with store.transaction() as transaction:
        digest = transaction.add_bytes(b"data")
        transaction.put_action("key", {"a": 1})
        transaction.set_ref("name", {"b": 2}, None)
        assert not store.blobs.has(digest)
        assert store.actions.get("key") is None
        assert store.refs.get("name") is None
        transaction.commit()
    assert store.blobs.has(digest)
    assert store.actions.get("key") == {"a": 1}
    ref = store.refs.get("name")
    assert ref is not None
    assert ref == (1, {"b": 2})
    assert stage_is_empty(store)


def test_leaving_without_commit_drops_everything(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction() as transaction:  # noqa: PT012
        digest = transaction.add_bytes(b"data")
        transaction.set_ref("name", {}, None)
        raise RuntimeError
    assert not store.blobs.has(digest)
    assert store.refs.get("name") is None
    assert stage_is_empty(store)


def test_few_files_are_synced_one_by_one(tmp_path: Path) -> None:
    disk = Recorder()
    with Store.open(tmp_path / "store", disk=disk) as store, store.transaction() as transaction:
        disk.steps.clear()
        transaction.add_bytes(b"one")
        transaction.add_bytes(b"two")
        transaction.put_action("key", {})
        transaction.set_ref("name", {}, None)
        transaction.commit()
    assert disk.steps == [
        "staged", "file", "file", "file", "file", "synced", "placed",
        "folder", "folder", "folder", "actions", "folder", "folder", "refs",
    ]  # fmt: skip


def test_many_files_are_synced_at_once(tmp_path: Path) -> None:
    disk = Recorder()
    with Store.open(tmp_path / "store", disk=disk) as store, store.transaction() as transaction:
        disk.steps.clear()
        for number in range(1000):
            transaction.add_bytes(b"%d" % number)
        transaction.commit()
    assert disk.steps == [
        "staged", "everything", "synced", "placed", "folder", "folder", "actions", "refs",
    ]  # fmt: skip


def test_without_syncfs_every_file_is_synced(tmp_path: Path) -> None:
    disk = Recorder(syncfs=False)
    with Store.open(tmp_path / "store", disk=disk) as store, store.transaction() as transaction:
        disk.steps.clear()
        for number in range(100):
            transaction.add_bytes(b"%d" % number)
        transaction.commit()
    assert disk.steps.count("file") == 100
    assert disk.steps.index("synced") == 102


def test_the_second_time_nothing_is_written(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(os.urandom(100_000))
    with store.transaction() as transaction:
        digest = transaction.add_file(source)
        transaction.commit()
    before = store.blobs.path(digest).stat()
    with store.transaction() as transaction:
        assert transaction.add_file(source) == digest
        assert transaction.add_file(source, expect=digest) == digest
        assert transaction.add_bytes(source.read_bytes()) == digest
        staged = [path for path in (store.root / "stage").rglob("*") if path.suffix != ".lock"]
        assert [path.is_dir() for path in staged] == [True]
        transaction.commit()
    after = store.blobs.path(digest).stat()
    assert (after.st_ino, after.st_ctime_ns >= before.st_ctime_ns) == (before.st_ino, True)


def test_large_files_are_copied_in_pieces(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    with source.open("wb") as file:
        file.truncate(40 << 20)
        file.seek(33 << 20)
        file.write(b"here")
    with store.transaction() as transaction:
        digest = transaction.add_file(source, area="packages")
        transaction.commit()
    assert store.packages.check(digest) == 40 << 20
    with store.transaction() as transaction:
        assert transaction.add_file(source, area="packages") == digest
        transaction.commit()


def test_a_writer_hashes_what_was_written(store: Store) -> None:
    pieces: list[bytes | bytearray | memoryview] = [
        b"a" * 10, bytearray(b"b" * 100_000), memoryview(b"c" * 70_000), b"", b"d",
    ]  # fmt: skip
    whole = b"".join(bytes(piece) for piece in pieces)
    with store.transaction() as transaction:
        writer = transaction.writer(size=len(whole), expect=Digest.of(whole))
        assert [writer.write(piece) for piece in pieces] == [len(piece) for piece in pieces]
        assert writer.size == len(whole)
        digest = writer.finish()
        transaction.commit()
    assert store.blobs.read(digest) == whole


@pytest.mark.parametrize("announced", [{"size": 3}, {"size": 5}, {"expect": Digest.of(b"x")}])
def test_what_was_not_announced_is_refused(store: Store, announced: dict[str, object]) -> None:
    with store.transaction() as transaction:
        writer = transaction.writer(**announced)  # type: ignore[arg-type]
        with pytest.raises(DigestMismatch):  # noqa: PT012
            writer.write(b"data")
            writer.finish()
        with pytest.raises(ValueError, match="finished"):
            writer.write(b"more")
        transaction.commit()
    assert list(store.blobs.digests()) == []
    assert stage_is_empty(store)


def test_a_file_that_is_not_what_was_expected_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with store.transaction() as transaction, pytest.raises(DigestMismatch):
        transaction.add_file(tmp_path / "file", expect=Digest.of(b"other"))


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_refused_and_does_not_hang(
    store: Store, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "source"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with store.transaction() as transaction, pytest.raises(StoreIOError, match="source"):
        transaction.add_file(path)


def test_an_unfinished_writer_stops_the_commit(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.writer().write(b"half")
        with pytest.raises(ValueError, match="not finished"):
            transaction.commit()
    assert stage_is_empty(store)


def test_after_the_end_nothing_works(store: Store) -> None:
    with store.transaction() as transaction:
        writer = transaction.writer()
    uses: list[Callable[[], object]] = [
        transaction.commit,
        transaction.writer,
        lambda: transaction.add_bytes(b"x"),
        lambda: transaction.put_action("k", {}),
        lambda: transaction.set_ref("n", {}, None),
        lambda: writer.write(b"x"),
        writer.finish,
    ]
    for use in uses:
        with pytest.raises(ValueError, match=r"over|finished"):
            use()


def test_writers_may_run_in_threads(store: Store) -> None:
    contents = [os.urandom(200_000 + number) for number in range(40)] * 2

    def write(data: bytes) -> Digest:
        with transaction.writer() as writer:
            for start in range(0, len(data), 30_000):
                writer.write(data[start : start + 30_000])
            return writer.finish()

    with store.transaction() as transaction, ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(write, contents))
        transaction.commit()
    assert digests == [Digest.of(data) for data in contents]
    assert store.verify().bad == ()
    assert len(set(store.blobs.digests())) == 40


def test_closing_under_running_writers_is_safe(store: Store) -> None:
    started = threading.Barrier(5)
    ends: list[str] = []

    def write() -> None:
        writer = transaction.writer()
        started.wait()
        try:
            while True:
                writer.write(b"x" * 100_000)
        except ValueError:
            ends.append("refused")

    with store.transaction() as transaction:
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
    for thread in threads:
        thread.join()
    assert ends == ["refused"] * 4
    assert stage_is_empty(store)


def test_two_contents_with_one_digest_are_a_loud_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Weak:
        """Looks at the first two bytes only."""

        def __init__(self) -> None:
            self.seen = b""

        def update(self, data: bytes | bytearray | memoryview, /) -> None:
            self.seen += bytes(data)

        def hexdigest(self) -> str:
            return Digest.of(self.seen[:2]).hex

    monkeypatch.setattr(files, "new_hash", Weak)
    with store.transaction() as transaction:
        digest = transaction.add_bytes(b"same, first")
        transaction.commit()
    for add in ("bytes", "writer"):
        with store.transaction() as transaction:
            if add == "bytes":
                transaction.add_bytes(b"same, second")
            else:
                writer = transaction.writer()
                writer.write(b"same, second")
                writer.finish()
            with pytest.raises(ObjectCollision):
                transaction.commit()
    assert store.blobs.path(digest).read_bytes() == b"same, first"


class Failing(files.Disk):
    """Fails the n-th sync, once; the next would succeed, as the kernel's does."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(5, "Input/output error")

    def sync_file(self, fd: int) -> None:
        self._step()
        super().sync_file(fd)

    def sync_folder(self, fd: int) -> None:
        self._step()
        super().sync_folder(fd)

    def sync_everything(self, fd: int) -> bool:
        self._step()
        return super().sync_everything(fd)


@pytest.mark.parametrize("objects", [2, 50])
def test_every_failed_sync_is_a_failure(tmp_path: Path, objects: int) -> None:
    disk = Failing()
    failures = 0
    with Store.open(tmp_path / "store", disk=disk) as store:
        while True:
            disk.left = failures + 1
            try:
                with store.transaction() as transaction:
                    for number in range(objects):
                        transaction.add_bytes(b"%d %d" % (failures, number))
                    transaction.put_action(f"key{failures}", {})
                    transaction.set_ref(f"name{failures}", {}, None)
                    transaction.commit()
                break
            except StoreIOError:
                failures += 1
            assert store.verify().bad == ()
            assert stage_is_empty(store)
    assert failures == (objects + 2 if objects == 2 else 1) + 2 + 1 + 2


def test_a_full_disk_is_an_error_of_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object) -> None:
        raise OSError(28, "No space left on device")

    with store.transaction() as transaction:
        monkeypatch.setattr(files, "write_all", full)
        with pytest.raises(StoreFull) as caught:
            transaction.add_bytes(b"data")
        assert caught.value.code == "no-space"
        writer = transaction.writer()
        with pytest.raises(StoreFull):
            writer.write(b"x" * 100_000)
    assert stage_is_empty(store)


def test_short_writes_are_completed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    calls: list[int] = []

    def short(fd: int, data: memoryview) -> int:
        calls.append(len(data))
        return real(fd, data[: max(1, len(data) // 2)])

    monkeypatch.setattr(os, "write", short)
    with store.transaction() as transaction:
        digest = transaction.add_bytes(b"0123456789" * 1000)
        transaction.commit()
    assert len(calls) > 10
    assert store.blobs.read(digest) == b"0123456789" * 1000


def test_a_lost_race_leaves_objects_but_no_ref(store: Store) -> None:
    with store.transaction() as transaction:
        digest = transaction.add_bytes(b"data")
        transaction.set_ref("name", {"mine": True}, None)
        store.refs.set("name", {"mine": False}, None)
        with pytest.raises(RefConflict) as caught:
            transaction.commit()
    assert caught.value.current == 1
    ref = store.refs.get("name")
    assert ref is not None
    assert ref.value == {"mine": False}
    assert store.blobs.missing([digest]) == {digest}


def test_what_a_killed_process_staged_is_removed_by_the_next_transaction(store: Store) -> None:
    left = store.root / "stage" / "1-dead"
    left.mkdir()
    (left / "0").write_bytes(b"half")
    (store.root / "stage" / "1-dead.lock").write_bytes(b"")
    with store.transaction():
        assert not left.exists()
    assert stage_is_empty(store)


def test_records_that_json_cannot_hold_are_refused(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.put_action("key", {"a": float("nan")})
        with pytest.raises(ValueError, match="JSON"):
            transaction.commit()
    assert store.actions.get("key") is None


def test_many_new_names_are_one_sync_of_their_folder(tmp_path: Path) -> None:
    """One for ``refs/`` where a name is new, and one for each name; no less, and no more."""
    disk = Recorder()
    names = [f"environments/ws/{number}" for number in range(20)]
    with Store.open(tmp_path / "store", disk=disk) as store:
        for expected, syncs in ((None, 1 + 20), (1, 20)):
            disk.steps.clear()
            with store.transaction() as transaction:
                for name in names:
                    transaction.set_ref(name, {"value": str(expected)}, expected)
                transaction.commit()
            placed = disk.steps.index("actions")
            assert disk.steps[placed:].count("folder") == syncs
        # the folder of a name that a killed process left before it was durable
        (tmp_path / "store/refs/left").mkdir(mode=0o755)
        disk.steps.clear()
        store.refs.set("left", {"value": "1"}, None)
        placed = disk.steps.index("actions")
        assert disk.steps[placed:].count("folder") == 2


def test_what_is_renewed_begins_its_grace_anew(store: Store) -> None:
    with store.transaction() as batch:
        kept, lost = batch.add_bytes(b"{kept}"), batch.add_bytes(b"{lost}")
        batch.put_action("word:" + "1" * 64, {"a": str(kept)})
        batch.put_action("word:" + "2" * 64, {"a": str(lost)})
        batch.commit()
    for folder in (store.root / "blobs" / "sha256", store.root / "actions"):
        for path in folder.iterdir():
            os.utime(path, (1, 1))
    with store.transaction() as batch:
        batch.renew([kept, Digest.of(b"never here")], ["word:" + "1" * 64, "word:never"])
    store.gc()
    assert store.blobs.has(kept)
    assert not store.blobs.has(lost)
    assert store.actions.get("word:" + "1" * 64) is not None
    assert store.actions.get("word:" + "2" * 64) is None


def test_the_names_of_an_image_are_those_in_the_index(store: Store) -> None:
    with store.transaction() as batch:
        image = batch.add_bytes(b"{}")
        value = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
                 "digest": str(image), "ref_name": "w/train:1"}  # fmt: skip
        batch.set_ref("images/id/train", value, None)
        batch.commit()
    assert store.names_of(image) == []  # the index is not written yet: it is a hint
    store.rewrite_index()
    assert store.names_of(image) == ["w/train:1"]
    assert store.names_of(Digest.of(b"other")) == []
    (store.root / "index.json").write_text("[]")
    assert store.names_of(image) == []
