"""What is taken out of a layer that buildah made, and that nothing else is."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from envgraph_buildah.results import _clean, _empty
from envgraph_store import Digest

OVERLAY = "SCHILY.xattr.user.overlay.origin"
CAPABILITY = "SCHILY.xattr.security.capability"


def tar_of(*entries: tuple[str, bytes, dict[str, str]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data, headers in entries:
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = len(data), headers
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def cleaned(tmp_path: Path, data: bytes) -> bytes:
    path = tmp_path / "layer"
    path.write_bytes(data)
    digest, size = _clean(path)
    found = path.read_bytes()
    assert (Digest.of(found), len(found)) == (digest, size)
    return found


def without_end(data: bytes) -> bytes:
    return data.rstrip(b"\0")


def test_what_needs_no_cleaning_stays_byte_for_byte(tmp_path: Path) -> None:
    data = tar_of(("a", b"x" * 1000, {}), ("b", b"", {CAPABILITY: "cap"}), ("c", b"y" * 512, {}))
    assert without_end(cleaned(tmp_path, data)) == without_end(data)


def test_empty_mount_points_go_and_files_of_that_name_stay(tmp_path: Path) -> None:
    data = tar_of(("etc/hosts", b"", {}), ("a", b"1", {}), ("etc/resolv.conf", b"mine", {}))
    expected = tar_of(("a", b"1", {}), ("etc/resolv.conf", b"mine", {}))
    assert without_end(cleaned(tmp_path, data)) == without_end(expected)


def test_notes_of_overlayfs_go_and_other_attributes_stay(tmp_path: Path) -> None:
    noted = tar_of(("a", b"1", {OVERLAY: ""}), ("b", b"2", {OVERLAY: "y", CAPABILITY: "cap"}))
    plain = tar_of(("a", b"1", {}), ("b", b"2", {CAPABILITY: "cap"}))
    found = cleaned(tmp_path, noted)
    assert without_end(found) == without_end(plain)
    with tarfile.open(fileobj=io.BytesIO(found)) as archive:
        assert [member.pax_headers for member in archive] == [{}, {CAPABILITY: "cap"}]


def test_an_empty_layer(tmp_path: Path) -> None:
    assert cleaned(tmp_path, tar_of()) == bytes(1024)


@pytest.mark.parametrize(
    ("made", "layers", "expected"),
    [
        ([("RUN a", False)], 1, [False]),
        ([("WORKDIR /a", True)], 1, [False]),
        ([("WORKDIR /a", True)], 0, [True]),
        ([("ENV A=b", True), ("RUN a", False), ("WORKDIR /a", True)], 2, [True, False, False]),
        ([("RUN a", False), ("RUN b", False)], 1, [True, False]),
    ],
)
def test_history_says_which_instructions_made_layers(
    made: list[tuple[str, bool]], layers: int, expected: list[bool]
) -> None:
    entries = [{"created_by": text, "empty_layer": empty} for text, empty in made]
    assert _empty(entries, layers) == expected
