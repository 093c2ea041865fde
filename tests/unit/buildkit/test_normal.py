"""Layers written anew: what is dropped, what stays, and wrong bytes."""

from __future__ import annotations

import io
import tarfile

import pytest

from envgraph.api import Digest
from envgraph.errors import IntegrityError
from envgraph_buildkit.normal import normalise


def layer(form: int, when: float, names: str, **pax: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, kind, link, size in (
            ("d", tarfile.DIRTYPE, "", 0), ("d/f", tarfile.REGTYPE, "", 5),
            ("d/hard", tarfile.LNKTYPE, "d/f", 0), ("d/soft", tarfile.SYMTYPE, "f", 0),
            ("d/" + "n" * 150, tarfile.REGTYPE, "", 0), ("d/.wh.gone", tarfile.REGTYPE, "", 0),
            ("null", tarfile.CHRTYPE, "", 0), ("\u00fc\udcff", tarfile.REGTYPE, "", 0),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mtime = kind, link, size, when  # type: ignore[assignment]
            info.uid, info.gid, info.uname, info.gname = 12, 3_000_000_000, names, names
            info.mode, info.devmajor, info.devminor = 0o4751, 1, 3
            if form == tarfile.PAX_FORMAT:
                info.pax_headers = dict(pax)
            tar.addfile(info, io.BytesIO(b"hello"))
    return buffer.getvalue()


def anew(data: bytes, epoch: int = 1000) -> bytes:
    target = io.BytesIO()
    digest, size = normalise(io.BytesIO(data), Digest.of(data), target, epoch)
    assert (digest, size) == (Digest.of(target.getvalue()), len(target.getvalue()))
    return target.getvalue()


def test_times_names_and_forms_make_no_difference() -> None:
    one = layer(tarfile.PAX_FORMAT, 2000.5, "root", atime="3.5", ctime="4", comment="x")
    two = layer(tarfile.GNU_FORMAT, 9000, "")
    assert one != two
    assert anew(one) == anew(two)
    assert anew(anew(one)) == anew(one)


def test_what_says_something_about_files_stays() -> None:
    capability = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\udcff=\n"}
    made = anew(layer(tarfile.PAX_FORMAT, 900, "x", **capability))
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        members = {each.name: each for each in tar}
        assert tar.extractfile("d/hard").read() == b"hello"  # type: ignore[union-attr]
    assert members["d/hard"].linkname == "d/f"
    assert members["d/soft"].issym()
    assert members["null"].ischr()
    assert (members["null"].devmajor, members["null"].devminor) == (1, 3)
    assert {each.mtime for each in members.values()} == {900}  # earlier than the epoch
    assert {(each.mode, each.uid, each.gid) for each in members.values()} == {
        (0o4751, 12, 3_000_000_000)
    }
    assert (
        members["d/f"].pax_headers["SCHILY.xattr.security.capability"]
        == (capability["SCHILY.xattr.security.capability"])
    )
    assert "\u00fc\udcff" in members


def test_other_bytes_are_refused() -> None:
    data = layer(tarfile.PAX_FORMAT, 1, "")
    with pytest.raises(IntegrityError):
        normalise(io.BytesIO(data), Digest.of(b"other"), io.BytesIO(), 0)
    with pytest.raises(IntegrityError):
        normalise(io.BytesIO(data[:700]), Digest.of(data), io.BytesIO(), 0)
    noise = b"no tar at all" * 100
    with pytest.raises(IntegrityError):
        normalise(io.BytesIO(noise), Digest.of(noise), io.BytesIO(), 0)
    padded = data + b"\0" * 1024 + b"hidden"
    with pytest.raises(IntegrityError):
        normalise(io.BytesIO(padded), Digest.of(data), io.BytesIO(), 0)
