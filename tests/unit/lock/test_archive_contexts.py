"""Build contexts in archives: pinned by sha256, judged before anything is kept."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from envgraph.errors import EnvgraphError
from envgraph.lock import archivetree, fetcharchive
from envgraph.lock.contexts import Contexts, FoundContext
from envgraph.model.config import WorkspaceConfig
from envgraph.model.spec import BuildSpec
from envgraph.spec.tree import context_tree
from envgraph.testing.http import ChannelServer, Fault
from envgraph_store import Store

FILES = {
    "Dockerfile": "FROM scratch\nCOPY . /\n", "deep/a.txt": "a\n", "big": "x" * 300_000,
    "noise.log": "n\n", ".dockerignore": "*.log\n",
}  # fmt: skip

Change = Callable[[tarfile.TarFile], None]


def tar(change: Change | None = None, files: dict[str, str] = FILES) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in files.items():
            add(archive, name, text.encode())
        if change is not None:
            change(archive)
    return out.getvalue()


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **more: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def lock(store: Store, address: str, *, offline: bool = False) -> FoundContext:
    config = WorkspaceConfig("w", "i", "/", secrets={"SIGNATURE": "env:SIGNATURE"})
    return Contexts(config, store, offline=offline).lock(BuildSpec(address), None)


def code(store: Store, path: Path, data: bytes) -> str:
    path.write_bytes(data)
    before = set(store.blobs.digests())
    with pytest.raises(EnvgraphError) as caught:
        lock(store, path.as_uri())
    assert set(store.blobs.digests()) == before
    return caught.value.diagnostics[0].code


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "c.tar": bytes,
    "c.tar.gz": gzip.compress,
    "c.tgz": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "c.tar.xz": lzma.compress,
    "c.tar.bz2": bz2.compress,
    "c.tar.zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("name", PACKERS)
def test_every_compression_gives_the_tree_of_the_folder(
    store: Store, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "folder"
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (tmp_path / name).write_bytes(PACKERS[name](tar()))
    found = lock(store, (tmp_path / name).as_uri(), offline=True)
    assert found.locked.tree == context_tree(folder).digest


def test_modes_links_and_folders(store: Store, tmp_path: Path) -> None:
    def more(archive: tarfile.TarFile) -> None:
        add(archive, "./run", b"#!", mode=0o4755)
        add(archive, "empty/", type=tarfile.DIRTYPE, mode=0o777)
        add(archive, "link", type=tarfile.SYMTYPE, linkname="deep/a.txt")
        add(archive, "hard", type=tarfile.LNKTYPE, linkname="deep/a.txt")

    (tmp_path / "c.tar").write_bytes(tar(more))
    found = lock(store, (tmp_path / "c.tar").as_uri())
    config = WorkspaceConfig("w", "i", "/")
    listed = Contexts(config, store, offline=True).bring(found.build, found.locked)
    entries = {e.path: e for e in listed}
    assert (entries["run"].kind, entries["run"].mode) == ("file", 0o755)
    assert entries["empty"].kind == "folder"
    assert entries["link"].target == "deep/a.txt"
    assert entries["hard"].digest == entries["deep/a.txt"].digest
    assert "noise.log" not in entries


def link_then_file(archive: tarfile.TarFile) -> None:
    add(archive, "way", type=tarfile.SYMTYPE, linkname="deep")
    add(archive, "way/b.txt", b"b")


HOSTILE: dict[str, Change] = {
    "up": lambda a: add(a, "../x", b"x"),
    "absolute": lambda a: add(a, "/etc/x", b"x"),
    "inside-up": lambda a: add(a, "a/../../x", b"x"),
    "backslash": lambda a: add(a, "a\\x", b"x"),
    "drive": lambda a: add(a, "c:x", b"x"),
    "link-out": lambda a: add(a, "l", type=tarfile.SYMTYPE, linkname="../../etc"),
    "link-absolute": lambda a: add(a, "l", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "below-a-link": link_then_file,
    "below-a-file": lambda a: add(a, "Dockerfile/x", b"x"),
    "twice": lambda a: add(a, "big", b"x"),
    "device": lambda a: add(a, "d", type=tarfile.CHRTYPE),
    "pipe": lambda a: add(a, "d", type=tarfile.FIFOTYPE),
    "hard-out": lambda a: add(a, "h", type=tarfile.LNKTYPE, linkname="../x"),
    "hard-later": lambda a: add(a, "h", type=tarfile.LNKTYPE, linkname="later"),
    "long": lambda a: add(a, "n" * 256, b"x"),
    "deep": lambda a: add(a, "d/" * 300 + "x", b"x"),
    "pax": lambda a: add(a, "fine", b"x", pax_headers={"path": "../x"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_member_is_refused_and_nothing_is_kept(
    store: Store, tmp_path: Path, name: str
) -> None:
    found = code(store, tmp_path / "c.tar", tar(HOSTILE[name]))
    assert found in {"context-archive", "context-path", "link-escape", "too-deep"}


def test_what_is_no_whole_archive_is_refused(store: Store, tmp_path: Path) -> None:
    path, whole = tmp_path / "c.tar.gz", tar()
    packed = gzip.compress(whole)
    for data in (
        b"", b"<html>log in</html>", packed[:-100], packed + b"more", whole + b"more",
        whole[:-10240], whole[: 512 * 3], gzip.compress(b"no tar"),
        zstandard.ZstdCompressor().compress(whole)[:-3], lzma.compress(whole)[:-9],
        bz2.compress(whole)[:-9], b"PK\x03\x04zip",
    ):  # fmt: skip
        assert code(store, path, data) == "context-archive", data[:20]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_ends_early(
    store: Store, tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archivetree, "_FREE", 1 << 20)
    monkeypatch.setattr(archivetree, "_RATIO", 10)
    assert code(store, tmp_path / "c.tar", pack(bytes(40 << 20))) == "context-archive"


def test_a_sparse_giant_is_refused(store: Store, tmp_path: Path) -> None:
    member = tarfile.TarInfo("giant")
    member.size = 0
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[386:398] = b"00000000000\0"
    head[398:410] = b"00000000000\0"
    head[483:495] = b"17777777777\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    assert code(store, tmp_path / "c.tar", bytes(head) + bytes(10240)) == "context-archive"


# -- over HTTP ---------------------------------------------------------------


def test_the_archive_is_fetched_once_and_then_what_was_pinned(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNATURE", "canary-sig")
    served = tmp_path / "served"
    served.mkdir()
    (served / "c.tar.gz").write_bytes(gzip.compress(tar()))
    with ChannelServer(served) as server:
        address = f"{server.url}/c.tar.gz?v=1&sig=${{SIGNATURE}}"
        found = lock(store, address)
        origin = found.locked.origin
        assert origin is not None
        assert (origin.kind, origin.address) == ("archive", f"{server.url}/c.tar.gz")
        assert origin.validator == fetcharchive.mark_now(f"{server.url}/c.tar.gz", offline=False)
        server.forget()
        build = BuildSpec(address)
        config = WorkspaceConfig("w", "i", "/", secrets={"SIGNATURE": "env:SIGNATURE"})
        Contexts(config, store, offline=False).bring(build, found.locked)
        assert server.count() == 0
        with Store.open(tmp_path / "empty") as other:
            Contexts(config, other, offline=False).bring(build, found.locked)
        (served / "c.tar.gz").write_bytes(gzip.compress(tar(files=FILES | {"new": "n"})))
        with Store.open(tmp_path / "third") as other, pytest.raises(EnvgraphError) as caught:
            Contexts(config, other, offline=False).bring(build, found.locked)
        assert caught.value.diagnostics[0].code == "context-changed"
        assert fetcharchive.mark_now(f"{server.url}/c.tar.gz", offline=False) != origin.validator
    kept = b"".join(p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file())
    assert b"canary" not in kept


def test_a_server_in_trouble_is_named_without_the_signature(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served").mkdir()
    with ChannelServer(tmp_path / "served") as server:
        server.fault("/c.tar", Fault(status=403))
        for path in ("c.tar", "gone.tar"):
            with pytest.raises(EnvgraphError) as caught:
                lock(store, f"{server.url}/{path}?sig=canary-sig")
            assert f"{server.url}/{path}" in str(caught.value)
            assert "canary" not in repr(caught.value.diagnostics)
        with pytest.raises(EnvgraphError) as caught:
            lock(store, f"{server.url}/c.tar", offline=True)
        assert caught.value.diagnostics[0].code == "offline"
