"""One scalar changes, every other byte stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.errors import InputError, StalePlanError
from envgraph.spec.edit import edit_scalar


@pytest.mark.parametrize(
    ("before", "new", "after"),
    [
        (b"image: a:1\n", "b:2", b"image: b:2\n"),
        (b"image: a:1", "b:2", b"image: b:2"),
        (b"image:   a:1   # base\nname: x\n", "b:2", b"image:   b:2   # base\nname: x\n"),
        (b"image: 'a:1' # it's\n", "b:2", b"image: 'b:2' # it's\n"),
        (b"image: 'a'\n", "oci:it's", b"image: 'oci:it''s'\n"),
        (b'image: "a:1"\n', "b:2", b'image: "b:2"\n'),
        (b"image:\n  a:1\n", "b:2", b"image:\n  b:2\n"),
        (b"image: a\n", "oci:with space # x", b'image: "oci:with space # x"\n'),
        (b"image: a\n", "oci:p: q", b'image: "oci:p: q"\n'),
        (b"image: a\n", "oci:../b:small", b"image: oci:../b:small\n"),
        (b"image: a\n", "h:5/a@sha256:00", b"image: h:5/a@sha256:00\n"),
        (b"{name: x, image: a:1, tags: {image: a:1}}\n", "b:2",
         b"{name: x, image: b:2, tags: {image: a:1}}\n"),
        (b'{"name": "x", "image": "a:1"}', "b:2", b'{"name": "x", "image": "b:2"}'),
        (b"tags:\n  image: a:1\nlist: [image, a:1]\nimage: a:1\n", "b:2",
         b"tags:\n  image: a:1\nlist: [image, a:1]\nimage: b:2\n"),
        (b"# \xc3\xa9\xf0\x9f\x98\x80\r\nname: \xc3\xa9\r\nimage: a:1\r\nx: 1\r\n", "b:2",
         b"# \xc3\xa9\xf0\x9f\x98\x80\r\nname: \xc3\xa9\r\nimage: b:2\r\nx: 1\r\n"),
        (b"\xef\xbb\xbfimage: a:1\n", "b:2", b"\xef\xbb\xbfimage: b:2\n"),
        (b"---\nimage: a:1\n...\n", "b:2", b"---\nimage: b:2\n...\n"),
        (b"? image\n: a:1\n", "b:2", b"? image\n: b:2\n"),
    ],
)  # fmt: skip
def test_nothing_else_changes(tmp_path: Path, before: bytes, new: str, after: bytes) -> None:
    path = tmp_path / "e.yml"
    path.write_bytes(before)
    edit = edit_scalar(str(path), "image", new)
    assert edit is not None
    assert edit.after == after
    assert path.read_bytes() == before
    edit.write()
    edit.write()
    assert path.read_bytes() == after
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: x\nimage: &a b\n", "2:8"),
        ("x: &a b\nimage: *a\n", "2:8"),
        ("image: !!str b\n", "1:8"),
        ("image: |\n  b\n", "1:8"),
        ("image: 'b\n  c'\n", "1:8"),
        ("image: [b]\n", "1:8"),
        ("image: '{{ base }}'\n", "1:8"),
        ("x: &x {image: b}\n<<: *x\n", "1:1"),
    ],
)
def test_what_cannot_be_changed_alone_is_refused_with_its_place(
    tmp_path: Path, text: str, place: str
) -> None:
    path = tmp_path / "e.yml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        edit_scalar(str(path), "image", "b:2")
    [problem] = caught.value.diagnostics
    assert problem.code == "edit-refused"
    assert str(problem.source) == f"{path}:{place}"


def test_a_file_without_the_key_has_no_edit(tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    path.write_text("name: x\ntags: {image: a}\n")
    assert edit_scalar(str(path), "image", "b") is None


def test_a_file_that_changed_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    path.write_text("image: a\n")
    edit = edit_scalar(str(path), "image", "b")
    assert edit is not None
    path.write_text("image: c\n")
    with pytest.raises(StalePlanError):
        edit.write()
    assert path.read_text() == "image: c\n"


def test_links_and_modes_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "e.yml", tmp_path / "link.yml"
    path.write_text("image: a\n")
    path.chmod(0o640)
    link.symlink_to("e.yml")
    edit = edit_scalar(str(link), "image", "b")
    assert edit is not None
    edit.write()
    assert link.is_symlink()
    assert path.read_text() == "image: b\n"
    assert path.stat().st_mode & 0o777 == 0o640
