"""Archives made to harm: each is refused with one typed error that names the entry.

Numbers in test names are lines of RELIABILITY (30-41, 46, 70, 71).
"""

from __future__ import annotations

import base64
import bz2
import hashlib
import io
import json
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence

import pytest
import zstandard

from envgraph.image import tarread, zipread
from envgraph.image.archive_errors import ArchiveError, Reason
from envgraph.image.content import LayerContent
from envgraph.image.layer import write_conda_layer
from envgraph.image.options import LayerOptions
from envgraph.image.wheel import write_wheel_layer
from envgraph.model.locked import LockedPackage
from envgraph.testing.channel import PLACEHOLDER
from envgraph_store.digest import Digest

OPTIONS = LayerOptions(python="3.12", site_packages="lib/python3.12/site-packages")


def member(
    name: str,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    mode: int = 0o644,
    pax: Mapping[str, str] | None = None,
    fmt: int = tarfile.PAX_FORMAT,
) -> bytes:
    """One tar entry, headers included."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
    info.pax_headers = dict(pax or {})
    header = info.tobuf(fmt, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % 512)


def raw_member(
    name: bytes, data: bytes = b"", *, patch: Mapping[int, bytes] | None = None
) -> bytes:
    """A ustar entry whose header is patched at offsets, its checksum made right again."""
    header = bytearray(member("x", data, fmt=tarfile.USTAR_FORMAT)[:512])
    header[:100] = name.ljust(100, b"\0")
    for offset, value in (patch or {}).items():
        header[offset : offset + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


def row(path: str, data: bytes | None = None, **more: object) -> dict[str, object]:
    """A line of paths.json."""
    entry: dict[str, object] = {"_path": path, "path_type": "hardlink"}
    if data is not None:
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
    return entry | more


def conda(
    payload: bytes | Sequence[bytes],
    rows: Sequence[Mapping[str, object]] = (),
    *,
    end: bytes = bytes(1024),
    compressed: bytes | None = None,
    index: Mapping[str, object] | None = None,
    link: object = None,
    info: Mapping[str, bytes] | None = None,
) -> bytes:
    """A ``.conda`` whose payload and metadata need not agree."""
    if not isinstance(payload, bytes):
        payload = b"".join(payload)
    about = {"name": "evil", "version": "1", "build": "0", "build_number": 0, "depends": []}
    files = {
        "info/index.json": json.dumps({**about, **(index or {})}).encode(),
        "info/paths.json": json.dumps({"paths": list(rows), "paths_version": 1}).encode(),
    }
    if link is not None:
        files["info/link.json"] = json.dumps(link).encode()
    files |= {f"info/{name}": data for name, data in (info or {}).items()}
    info_tar = b"".join(member(name, data) for name, data in files.items()) + bytes(1024)
    squeeze = zstandard.ZstdCompressor(level=1).compress
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", b"{}")
        archive.writestr("info-evil-1-0.tar.zst", squeeze(info_tar))
        archive.writestr(
            "pkg-evil-1-0.tar.zst", squeeze(payload + end) if compressed is None else compressed
        )
    return out.getvalue()


def package(data: bytes, **more: object) -> LockedPackage:
    fields: dict[str, object] = {
        "manager": "conda",
        "name": "evil",
        "version": "1",
        "build": "0",
        "subdir": "linux-64",
        "sha256": Digest.of(data),
        "channel": "here",
    }
    return LockedPackage(**{**fields, **more})  # type: ignore[arg-type]


def assemble(data: bytes, options: LayerOptions = OPTIONS, **more: object) -> LayerContent:
    return write_conda_layer(io.BytesIO(data), package(data, **more), options, lambda _: None)


def refused(data: bytes, reason: Reason, naming: str = "", **more: object) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        assemble(data, **more)
    error = caught.value
    assert error.reason is reason, error
    assert naming in str(error)
    assert str(error).isprintable()
    assert len(error.diagnostics) == 1
    assert error.diagnostics[0].code == reason.value
    return error


# --- names (30, 34, 38, 41) ---------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "a/./x", "a//x", "..", "a\\b", "C:/x", "/"]
)
def test_30_a_name_that_is_not_plainly_inside(name: str) -> None:
    refused(conda(raw_member(name.encode(), b"1")), Reason.UNSAFE_NAME)
    listed = conda(member("a", b"1"), [row("a", b"1"), row(name, b"1")])
    refused(listed, Reason.UNSAFE_NAME)


def test_30_empty_and_nul_names() -> None:
    refused(conda(raw_member(b"", b"1")), Reason.UNSAFE_NAME)
    refused(conda(member("x", b"1", pax={"path": "a\0b"})), Reason.UNSAFE_NAME)
    refused(conda(member("x", b"1", pax={"path": ""})), Reason.UNSAFE_NAME)


@pytest.mark.parametrize("fmt", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_34_the_effective_name_counts(fmt: int) -> None:
    climbing = "../" * 60 + "etc/passwd"
    refused(conda(member(climbing, b"1", fmt=fmt)), Reason.UNSAFE_NAME, "../")


def test_34_numbers_and_sums_that_are_wrong() -> None:
    for size in (b"\xff" * 12, b"-0000000001\0", b"0000000008\0 ", b"12 34\0\0\0\0\0\0\0"):
        refused(conda(raw_member(b"x", b"1", patch={124: size})), Reason.MALFORMED)
    broken = bytearray(member("x", b"1"))
    broken[0] = ord("y")
    refused(conda(bytes(broken)), Reason.MALFORMED, "checksum")


def test_34_extended_headers_that_are_garbage() -> None:
    def extended(records: bytes, kind: bytes = b"x") -> bytes:
        return member("p", records, kind=kind, fmt=tarfile.USTAR_FORMAT) + member("x", b"1")

    for records in (b"8 path=a\n", b"99 path=a\n", b"path=a\n", b"10 path=ab", b"7 size\n"):
        refused(conda(extended(records)), Reason.MALFORMED)
    refused(conda(extended(b"11 size=-1\n")), Reason.MALFORMED)
    refused(conda(extended(b"14 size=1e400\n")), Reason.MALFORMED)
    refused(conda(extended(b"9 path=a\n9 path=b\n")), Reason.MALFORMED)
    refused(conda(extended(b"12 path=abc\n", b"g")), Reason.MALFORMED)
    alone = member("p", b"12 path=abc\n", kind=b"x", fmt=tarfile.USTAR_FORMAT)
    refused(conda(alone), Reason.MALFORMED)


def test_34_a_size_in_a_pax_header_is_the_size() -> None:
    record = b"12 size=100\n"
    data = conda(
        member("p", record, kind=b"x", fmt=tarfile.USTAR_FORMAT) + member("x", b"1" * 5),
        [row("x", b"1" * 5)],
    )
    refused(data, Reason.MISMATCH, "100 bytes")


def test_38_deep_long_and_many(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(conda(member("/".join("d" * 2500), b"1")), Reason.LIMIT)
    refused(conda(member("d/" + "n" * 256, b"1")), Reason.LIMIT)
    refused(conda(member("/".join(["n" * 99] * 42), b"1")), Reason.LIMIT)
    assert assemble(conda(member("n" * 255, b"1"), [row("n" * 255, b"1")])).paths[1] == "n" * 255
    monkeypatch.setattr(tarread, "MAX_ENTRIES", 10)
    refused(conda([member(f"f{n}", b"") for n in range(11)]), Reason.LIMIT)


def test_38_documents_that_are_deep() -> None:
    deep = b'{"paths": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    refused(conda(b"", info={"paths.json": deep}), Reason.METADATA, "paths.json")
    deep_link = conda(b"", index={"noarch": "python"}, info={"link.json": b"[" * 100_000})
    refused(deep_link, Reason.METADATA, "link.json", subdir="noarch")
    double = conda(b"", info={"paths.json": b'{"paths": [], "paths": []}'})
    refused(double, Reason.METADATA, "twice")


def test_41_odd_names_are_kept_and_escaped() -> None:
    names = ["A", "a", "é", "e\u0301", "x\ny", "\x1b[31mred", "\u202egnp", "aux", ".git", "e. "]
    content = assemble(conda([member(n, b"1") for n in names], [row(n, b"1") for n in names]))
    assert set(names) <= set(content.paths)
    assert sum("differ only in case" in note for note in content.notes) == 2
    assert all(note.isprintable() for note in content.notes)
    refused(conda(member("\x1b[31m", b"2"), [row("\x1b[31m", b"1")]), Reason.MISMATCH, "\\x1b[31m")


def test_46_a_name_that_an_image_reader_would_obey() -> None:
    for name in (".wh.lib", "lib/.wh..wh..opq", "lib/.wh.x/y"):
        refused(conda(member(name, b""), [row(name, b"")]), Reason.UNSAFE_NAME, ".wh.")


# --- links and special files (31, 32, 33, 35, 36) -----------------------------


def symlink(name: str, target: str) -> bytes:
    return member(name, kind=tarfile.SYMTYPE, link=target)


def link_row(path: str) -> dict[str, object]:
    return {"_path": path, "path_type": "softlink"}


@pytest.mark.parametrize(
    "target",
    ["../../x", "/etc", "/opt", "/opt/env/../x", "/opt/environment", "a/../../..", "./../../x"],
)
def test_31_a_symlink_that_leads_out(target: str) -> None:
    refused(conda(symlink("lib/l", target), [link_row("lib/l")]), Reason.UNSAFE_LINK, "lib/l")


@pytest.mark.parametrize("target", ["../x", "x", "./x/y", "/opt/env", "/opt/env/x", "../lib/x"])
def test_31_a_symlink_that_stays(target: str) -> None:
    content = assemble(conda(symlink("lib/l", target), [link_row("lib/l")]))
    assert "lib/l" in content.paths


def test_31_nothing_goes_through_a_symlink() -> None:
    payload = symlink("d", "lib") + member("d/x", b"1")
    refused(conda(payload, [link_row("d"), row("d/x", b"1")]), Reason.UNSAFE_LINK, "“d”")
    payload = member("d/x", b"1") + symlink("d", "lib")
    refused(conda(payload, [row("d/x", b"1"), link_row("d")]), Reason.UNSAFE_LINK, "“d”")


def test_31_an_entry_cannot_change_its_type() -> None:
    refused(conda(symlink("x", "lib"), [row("x", b"1")]), Reason.MISMATCH, "listed as a file")
    refused(conda(member("x", b"1"), [link_row("x")]), Reason.MISMATCH, "listed as a symlink")
    swap = symlink("x", "lib") + member("x", b"1")
    refused(conda(swap, [link_row("x")]), Reason.DUPLICATE, "twice")


def test_32_a_hard_link_names_an_earlier_file_of_the_package() -> None:
    def hard(target: str) -> bytes:
        return member("h", kind=tarfile.LNKTYPE, link=target)

    first = member("x", b"1")
    rows = [row("x", b"1"), row("h", b"1")]
    assert assemble(conda(first + hard("x"), rows)).files == 3
    for target in ("/etc/passwd", "../x", "nothing"):
        refused(conda(first + hard(target), rows), Reason.UNSAFE_LINK, "hard link")
    refused(conda(hard("x") + first, rows), Reason.UNSAFE_LINK, "no earlier file")
    refused(conda(hard("h"), [row("h", b"1")]), Reason.UNSAFE_LINK)
    via = symlink("l", "x") + member("h", kind=tarfile.LNKTYPE, link="l")
    refused(conda(via, [link_row("l"), row("h", b"1")]), Reason.UNSAFE_LINK)
    refused(conda(first + hard("x"), [row("x", b"1"), row("h", b"2")]), Reason.MISMATCH)
    other = row("h", b"1", file_mode="text", prefix_placeholder=PLACEHOLDER)
    refused(conda(first + hard("x"), [row("x", b"1"), other]), Reason.UNSAFE_LINK, "placeholder")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"s", b"Z"])
def test_35_devices_fifos_and_unknown_types(kind: bytes) -> None:
    refused(conda(member("dev", kind=kind), [row("dev")]), Reason.SPECIAL_FILE, "dev")


def test_35_special_mode_bits_do_not_survive() -> None:
    out: list[bytes] = []
    data = conda(
        [member("su", b"1", mode=0o6755), member("open", b"1", mode=0o1666)],
        [row("su", b"1"), row("open", b"1")],
    )
    write_conda_layer(io.BytesIO(data), package(data), OPTIONS, out.append)
    raw = zstandard.ZstdDecompressor().stream_reader(b"".join(out), read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert tar.getmember("opt/env/su").mode == 0o755
        assert tar.getmember("opt/env/open").mode == 0o644


def test_36_sparse_files_in_each_spelling() -> None:
    refused(conda(raw_member(b"s", patch={156: b"S"}), [row("s")]), Reason.SPARSE, "“s”")
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    refused(conda(member("s", b"1", pax=pax), [row("s")]), Reason.SPARSE)


# --- bombs, cut and padded archives (37, 40) ----------------------------------


def test_37_a_bomb_is_stopped_early() -> None:
    script = """
import io, resource, sys, zlib, bz2, zstandard, tarfile, zipfile
sys.path.insert(0, sys.argv[1])
import importlib.util
spec = importlib.util.spec_from_file_location("hostile", sys.argv[2])
hostile = importlib.util.module_from_spec(spec); spec.loader.exec_module(hostile)
kind = sys.argv[3]
header = hostile.raw_member(b"zeros", patch={124: b"77777777777\\0"})
def stream(compressor):
    yield compressor.compress(header)
    for _ in range(600):
        yield compressor.compress(bytes(1 << 20))
    yield compressor.flush()
if kind == "zstd":
    squeezed = b"".join(stream(zstandard.ZstdCompressor(level=1).compressobj()))
    data = hostile.conda(b"", [hostile.row("zeros")], compressed=squeezed)
else:
    data = b"".join(stream(bz2.BZ2Compressor(1)))
count = 0
def write(piece):
    global count
    count += len(piece)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()  # this script's own imports differ from Python to Python
try:
    hostile.write_conda_layer(io.BytesIO(data), hostile.package(data), hostile.OPTIONS, write)
except hostile.ArchiveError as error:
    print(error.reason.value, len(data), peak() - before)
"""
    for kind in ("zstd", "bz2"):
        done = subprocess.run(
            [sys.executable, "-c", script, "", __file__, kind],
            capture_output=True,
            text=True,
            check=True,
        )
        code, size, growth = done.stdout.split()
        assert code == Reason.LIMIT.value
        assert int(size) < 1 << 20
        assert int(growth) < 128, "MiB of memory"


def test_37_a_window_of_two_gib_is_not_allocated() -> None:
    block = (8 << 3 | 1).to_bytes(3, "little") + bytes(8)
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([21 << 3]) + block
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(conda(b"", compressed=frame), Reason.MALFORMED)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_37_metadata_has_its_own_limits() -> None:
    big = json.dumps({"name": "evil", "pad": " " * (5 << 20)}).encode()
    files = member("info/index.json", big) + bytes(1024)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("info-evil-1-0.tar.zst", zstandard.compress(files))
        archive.writestr("pkg-evil-1-0.tar.zst", zstandard.compress(bytes(1024)))
    refused(out.getvalue(), Reason.LIMIT, "index.json")


@pytest.mark.parametrize("suffix", ["conda", "bz2"])
def test_40_every_cut_is_refused(suffix: str) -> None:
    payload, rows = member("x", b"12345" * 100), [row("x", b"12345" * 100)]
    data = conda(payload, rows) if suffix == "conda" else old_style(payload, rows)
    assert assemble(data).files == 2
    for cut in range(len(data)):
        with pytest.raises(ArchiveError):
            assemble(data[:cut])


def old_style(payload: bytes, rows: Sequence[Mapping[str, object]], tail: bytes = b"") -> bytes:
    about = {"name": "evil", "version": "1", "build": "0", "build_number": 0, "depends": []}
    info = member("info/index.json", json.dumps(about).encode())
    info += member("info/paths.json", json.dumps({"paths": list(rows)}).encode())
    return bz2.compress(info + payload + bytes(1024)) + tail


def test_40_nothing_may_follow_the_end() -> None:
    payload, rows = member("x", b"1"), [row("x", b"1")]
    refused(conda(payload, rows, end=bytes(512) + b"y" * 512), Reason.TRAILING)
    refused(conda(payload, rows, end=bytes(1024) + b"y"), Reason.TRAILING)
    squeezed = zstandard.compress(payload + bytes(1024))
    refused(conda(b"", rows, compressed=squeezed + b"junk"), Reason.MALFORMED)
    refused(old_style(payload, rows, b"junk"), Reason.MALFORMED)
    refused(conda(payload, rows) + b"junk", Reason.TRAILING)
    refused(conda(payload, rows, end=b""), Reason.TRUNCATED)


def test_40_neither_format() -> None:
    for data in (b"", b"PK", b"BZh", b"not an archive", bytes(4096), b"PK\x05\x06" + bytes(18)):
        with pytest.raises(ArchiveError):
            assemble(data)


# --- zip structure (39) -------------------------------------------------------

GOOD = conda(member("x", b"1"), [row("x", b"1")])


def test_39_members_that_are_there_twice() -> None:
    refused(conda(member("x", b"1") * 2, [row("x", b"1")]), Reason.DUPLICATE, "“x”")
    out = io.BytesIO(GOOD)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("pkg-other-1-0.tar.zst", b"")
    refused(out.getvalue(), Reason.DUPLICATE, "pkg-other")


def test_39_local_header_and_directory_must_agree() -> None:
    for offset in (6, 8, 14, 18, 22, 30):  # flags, method, crc, sizes, name
        changed = bytearray(GOOD)
        changed[offset] ^= 1
        with pytest.raises(ArchiveError):
            zipread.read_zip(io.BytesIO(bytes(changed)))


def test_39_two_ends_prefix_and_gaps() -> None:
    refused(b"#!/bin/sh\n" + GOOD, Reason.MALFORMED)
    refused(b"PK\x03\x04" + GOOD, Reason.MALFORMED)
    end = GOOD[-22:]
    assert end[:4] == b"PK\x05\x06"
    refused(GOOD + end, Reason.MALFORMED)
    count, size, start = struct.unpack_from("<HLL", end, 10)
    gap = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, start + 4, 0)
    refused(GOOD[:start] + b"gap!" + GOOD[start:-22] + gap, Reason.MALFORMED)
    commented = bytearray(GOOD)
    commented[-2:] = struct.pack("<H", 22)
    refused(bytes(commented) + end, Reason.MALFORMED)


def test_39_a_zip_that_is_also_a_tar() -> None:
    tar_first = member("info/index.json", b"{}") + bytes(1024) + GOOD
    with pytest.raises(ArchiveError):
        assemble(tar_first)


# --- what the metadata says (69, 70, 71) --------------------------------------


def test_70_content_that_differs_from_paths_json() -> None:
    refused(conda(member("x", b"2"), [row("x", b"1")]), Reason.MISMATCH, "sha256")
    refused(conda(member("x", b"12"), [row("x", b"1")]), Reason.MISMATCH, "2 bytes")
    big = bytes(3 << 20)
    refused(conda(member("x", big), [row("x", big[:-1] + b"1")]), Reason.MISMATCH, "“x”")
    refused(conda(b"", [row("x", b"1")]), Reason.MISSING, "“x”")


def test_70_lists_that_contradict_themselves() -> None:
    refused(conda(member("x", b"1"), [row("x", b"1")] * 2), Reason.DUPLICATE)
    both = [row("site-packages/x", b"1"), row("lib/python3.12/site-packages/x", b"1")]
    data = conda(b"", both, index={"noarch": "python"}, link={"noarch": {"type": "python"}})
    refused(data, Reason.DUPLICATE, "go there", subdir="noarch")
    refused(conda(b"", [row("conda-meta/evil-1-0.json", b"1")]), Reason.UNSAFE_NAME)
    refused(conda(b"", [row("conda-meta/history", b"1")]), Reason.UNSAFE_NAME)
    refused(conda(b"", [row("info/x", b"1")]), Reason.UNSAFE_NAME)


@pytest.mark.parametrize(
    "item",
    [
        {"_path": 1},
        {},
        7,
        {"_path": "x", "path_type": "socket"},
        {"_path": "x", "sha256": "00"},
        {"_path": "x", "sha256": "A" * 64},
        {"_path": "x", "size_in_bytes": -1},
        {"_path": "x", "size_in_bytes": True},
        {"_path": "x", "file_mode": "elf", "prefix_placeholder": "/p"},
        {"_path": "x", "file_mode": "text", "prefix_placeholder": "/"},
        {"_path": "x", "file_mode": "text", "prefix_placeholder": ["/p"]},
    ],
)
def test_70_lines_of_another_shape(item: object) -> None:
    refused(conda(b"", [item]), Reason.METADATA)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("field", "value"), [("name", "other"), ("version", "2"), ("build", "1"), ("name", None)]
)
def test_70_another_package_than_the_lock_says(field: str, value: object) -> None:
    error = refused(conda(b"", index={field: value}), Reason.METADATA, field)
    assert "envgraph lock --update" in error.diagnostics[0].hint


@pytest.mark.parametrize(
    "entry_point",
    [
        "../../bin/pip = a:b",
        "a/b = a:b",
        ".. = a:b",
        "-x = a:b",
        " = a:b",
        "x = os;system:b",
        "x = a:b;c",
        "x = a:b()",
        "x = a.:b",
        "x = 1a:b",
        "x = a",
        "x\ny = a:b",
        "x = a\nimport os:b",
        7,
        "x" * 300 + " = a:b",
    ],
)
def test_71_entry_points_cannot_escape_or_inject(entry_point: object) -> None:
    link = {"noarch": {"type": "python", "entry_points": [entry_point]}}
    data = conda(b"", index={"noarch": "python"}, link=link)
    refused(data, Reason.ENTRY_POINT, subdir="noarch")


def test_a_prefix_that_does_not_fit_is_a_clear_error() -> None:
    text = b"\0/short/x\0"
    data = conda(
        member("lib", text), [row("lib", text, file_mode="binary", prefix_placeholder="/short")]
    )
    error = refused(data, Reason.PREFIX_TOO_LONG, "“lib”")
    assert "8 bytes" in str(error)
    assert error.diagnostics[0].hint


def test_a_package_that_needs_python_where_there_is_none() -> None:
    data = conda(b"", index={"noarch": "python"}, link={"noarch": {"type": "python"}})
    with pytest.raises(ArchiveError) as caught:
        assemble(data, LayerOptions(), subdir="noarch")
    assert caught.value.reason is Reason.UNSUPPORTED
    refused(data, Reason.METADATA, "noarch", subdir="linux-64")


# --- wheels (39, 70, 71) ------------------------------------------------------


def hashed(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"sha256={digest},{len(data)}"


def wheel(
    files: Mapping[str, bytes] | None = None,
    *,
    record: Callable[[list[str]], list[str]] = lambda rows: rows,
    extra: Sequence[tuple[zipfile.ZipInfo, bytes]] = (),
    method: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    contents = {
        "evil/__init__.py": b"x = 1\n",
        "evil-1.dist-info/METADATA": b"Name: evil\nVersion: 1\n",
        "evil-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
        **(files or {}),
    }
    rows = [f"{name},{hashed(data)}" for name, data in contents.items()]
    rows.append("evil-1.dist-info/RECORD,,")
    contents["evil-1.dist-info/RECORD"] = "\n".join(record(rows)).encode() + b"\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
        for info, data in extra:
            archive.writestr(info, data)
    return out.getvalue()


def assemble_wheel(data: bytes) -> LayerContent:
    locked = package(data, manager="pip", build="", subdir="", channel="")
    return write_wheel_layer(io.BytesIO(data), locked, OPTIONS, lambda _: None)


def refused_wheel(data: bytes, reason: Reason) -> None:
    with pytest.raises(ArchiveError) as caught:
        assemble_wheel(data)
    assert caught.value.reason is reason, caught.value


def test_wheel_is_good_before_it_is_bad() -> None:
    assert assemble_wheel(wheel()).files == 5
    assert assemble_wheel(wheel(method=zipfile.ZIP_STORED)).files == 5


def test_70_wheel_record_and_files_must_agree() -> None:
    changed = wheel(record=lambda rows: [rows[0].replace(",sha256=", ",sha256=A"), *rows[1:]])
    refused_wheel(changed, Reason.MISMATCH)
    refused_wheel(wheel(record=lambda rows: [rows[0] + "1", *rows[1:]]), Reason.MISMATCH)
    refused_wheel(wheel(record=lambda rows: rows[1:]), Reason.MISMATCH)
    refused_wheel(wheel(record=lambda rows: [*rows, "gone.py,sha256=x,1"]), Reason.MISSING)
    refused_wheel(wheel(record=lambda rows: [*rows, rows[0]]), Reason.METADATA)
    refused_wheel(wheel(record=lambda rows: ["evil/__init__.py,,", *rows[1:]]), Reason.METADATA)
    refused_wheel(
        wheel(record=lambda rows: ["evil/__init__.py,md5=x,6", *rows[1:]]), Reason.METADATA
    )
    refused_wheel(wheel(record=lambda rows: ["a,b", *rows]), Reason.METADATA)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\b", "C:/x"])
def test_30_wheel_names(name: str) -> None:
    refused_wheel(wheel({name: b"1"}), Reason.UNSAFE_NAME)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("evil-1.data/scripts/../../x", Reason.UNSAFE_NAME),
        ("evil-1.data/other/x", Reason.METADATA),
        ("evil-1.data/x", Reason.METADATA),
        ("evil-1.data/data/conda-meta/history", Reason.UNSAFE_NAME),
        ("evil-1.data/purelib/evil/__init__.py", Reason.DUPLICATE),
        ("evil-1.data/data/lib/python3.12/site-packages/evil/__init__.py", Reason.DUPLICATE),
        ("evil/__init__.py/x", Reason.DUPLICATE),
        ("evil-1.data/data/.wh.x", Reason.UNSAFE_NAME),
        ("other-2.dist-info/METADATA", Reason.METADATA),
    ],
)
def test_39_wheel_files_go_where_they_may(name: str, reason: Reason) -> None:
    refused_wheel(wheel({name: b"1"}), reason)


@pytest.mark.parametrize(
    "text",
    [
        b"[console_scripts]\n../../x = a:b\n",
        b"[console_scripts]\nx = os;system:b\n",
        b"[console_scripts]\nx = a\n",
        b"[console_scripts]\nx = a:b\nx = a:c\n",
        b"[console_scripts\n",
        b"\xff\xfe",
    ],
)
def test_71_wheel_entry_points(text: bytes) -> None:
    refused_wheel(wheel({"evil-1.dist-info/entry_points.txt": text}), Reason.ENTRY_POINT)


def test_35_wheel_links_and_foreign_methods() -> None:
    link = zipfile.ZipInfo("evil/link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    refused_wheel(wheel(extra=[(link, b"/etc")]), Reason.SPECIAL_FILE)
    refused_wheel(wheel(method=zipfile.ZIP_LZMA), Reason.UNSUPPORTED)


def test_37_wheel_bomb_and_lying_size() -> None:
    bomb = wheel({"evil/zeros": bytes(400 << 20)})
    refused_wheel(bomb, Reason.LIMIT)
    honest = wheel({"evil/data": b"0123456789" * 100})
    size = struct.pack("<L", 1000)
    assert honest.count(size) == 2, "local header and directory"
    refused_wheel(honest.replace(size, struct.pack("<L", 900)), Reason.MISMATCH)


def test_40_wheel_every_cut_is_refused() -> None:
    data = wheel()
    for cut in range(len(data)):
        with pytest.raises(ArchiveError):
            assemble_wheel(data[:cut])
