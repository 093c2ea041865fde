"""Tree digests: names, contents, x bit, links; after ignore rules; nothing that hangs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph.errors import InputError
from envgraph.spec.ignore import docker_rules, git_rules
from envgraph.spec.tree import MAX_PROBLEMS, context_tree, project_tree, read_tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "d/e").mkdir(parents=True)
    (root / "a").write_text("1")
    (root / "d/b").write_text("2")
    (root / "d/e/c").write_text("3")
    (root / "link").symlink_to("d/b")
    return root


def digest(folder: Path) -> str:
    return str(read_tree(folder).digest)


def test_the_format_is_for_ever(folder: Path) -> None:
    assert digest(folder) == (
        "sha256:a0e752834dab5a050982a6ce280c9765e982f295c1e1e1c811656bd668e2e084"
    )
    records = b"".join(sorted(entry.record() for entry in read_tree(folder).entries))
    assert records.startswith(b"f 1:a sha256:6b86b273ff34fce19d6b804eff5a3f57")
    assert b"l 4:link 3:d/b\n" in records


@pytest.mark.parametrize(
    "change",
    [
        lambda r: (r / "a").write_text("x"),
        lambda r: (r / "a").chmod(0o755),
        lambda r: (r / "a").rename(r / "z"),
        lambda r: (r / "new").write_text(""),
        lambda r: (r / "d/e/c").unlink(),
        lambda r: (r / "empty").mkdir(),
        lambda r: ((r / "link").unlink(), (r / "link").symlink_to("a")),
        lambda r: ((r / "link").unlink(), (r / "link").write_text("2")),
        lambda r: (r / "d/b").rename(r / "b"),
    ],
)
def test_what_changes_it(folder: Path, change: Callable[[Path], object]) -> None:
    before = digest(folder)
    change(folder)
    assert digest(folder) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda r: (r / "a").chmod(0o600),
        lambda r: (r / "a").chmod(0o666),
        lambda r: (r / "a").chmod(0o654),
        lambda r: os.utime(r / "a", (1, 1)),
        lambda r: (r / "d").chmod(0o700),
        lambda r: r.rename(r.parent / "elsewhere") and (r.parent / "elsewhere").rename(r),
    ],
)
def test_what_does_not(folder: Path, change: Callable[[Path], object]) -> None:
    before = digest(folder)
    change(folder)
    assert digest(folder) == before


def test_names_cannot_forge_records(tmp_path: Path) -> None:
    """A name with a newline, a space or a colon is another tree than two names."""
    digests = set()
    for names in (["a", "b"], ["a\nf 1:b"], ["a b"], ["a:b"], ["é"], ["e\u0301"], [b"\xff"]):
        root = tmp_path / str(len(digests))
        root.mkdir()
        for name in names:
            Path(os.fsdecode(os.fsencode(root) + b"/" + os.fsencode(name))).write_text("")
        digests.add(digest(root))
    assert len(digests) == 7


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_tree(folder)
    return caught.value.diagnostics[0].code


def test_special_files_are_named(folder: Path) -> None:
    os.mkfifo(folder / "d/pipe")
    assert refused(folder) == "special-file"
    (folder / "d/pipe").unlink()
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("sock")
    finally:
        os.chdir(here)
    assert refused(folder) == "special-file"


def test_all_that_cannot_belong_is_named_at_once(folder: Path) -> None:
    os.mkfifo(folder / "d/pipe")
    for name in ("out", "d/up"):
        (folder / name).symlink_to("../../elsewhere")
    with pytest.raises(InputError) as caught:
        read_tree(folder)
    found = sorted((each.code, each.summary.split("'")[1]) for each in caught.value.diagnostics)
    assert found == [
        ("link-escape", "d/up"), ("link-escape", "out"), ("special-file", "d/pipe"),
    ]  # fmt: skip
    for count in range(30):
        (folder / f"out{count}").symlink_to("/elsewhere")
    with pytest.raises(InputError) as caught:
        read_tree(folder)
    assert len(caught.value.diagnostics) == MAX_PROBLEMS


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "d/../../outside", ".."])
def test_links_that_lead_out_are_named(folder: Path, target: str) -> None:
    (folder / "out").symlink_to(target)
    assert refused(folder) == "link-escape"


@pytest.mark.parametrize("target", ["gone", "d", "d/../a", ".", "link2"])
def test_links_that_stay_inside_are_kept_as_links(folder: Path, target: str) -> None:
    (folder / "link2").symlink_to(target)
    entries = {entry.path: entry for entry in read_tree(folder).entries}
    assert entries["link2"].kind == "link"
    assert entries["link2"].target == target


def test_mount_points_and_proc_are_named() -> None:
    with pytest.raises(InputError):
        read_tree(Path("/dev"))


def test_a_missing_folder_and_a_file(folder: Path) -> None:
    assert refused(folder / "gone") == "missing-folder"
    assert refused(folder / "a") == "not-a-folder"


def test_deep_folders_end_in_an_error(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert refused(tmp_path) == "too-deep"


def test_a_file_that_changes_while_it_is_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = os.fstat, 0

    def fstat(fd: int) -> os.stat_result:
        nonlocal count
        count += 1
        (folder / "a").write_text("x" * count)
        return real(fd)

    monkeypatch.setattr("envgraph.spec.tree.os.fstat", fstat)
    with pytest.raises(InputError, match="changes while it is read"):
        read_tree(folder)


def paths(folder: Path, dockerfile: str = "Dockerfile") -> set[str]:
    return {entry.path for entry in context_tree(folder, dockerfile).entries}


def test_azure_ignores_come_before_dockers(folder: Path) -> None:
    (folder / "Dockerfile").write_text("")
    (folder / ".gitignore").write_text("a\n")
    assert "a" not in paths(folder)
    (folder / ".amlignore").write_text("d/\n")
    assert paths(folder) == {"a", "link", "Dockerfile", ".gitignore", ".amlignore"}
    (folder / ".dockerignore").write_text("*\n!a\n")
    assert paths(folder) == {"a", "Dockerfile"}
    (folder / "Dockerfile.dockerignore").write_text("a\n")
    assert "a" not in paths(folder)
    assert "link" in paths(folder)


def test_an_exception_brings_back_what_is_below(folder: Path) -> None:
    (folder / ".dockerignore").write_text("d\n!d/e/c\n")
    assert {"d/e/c"} <= paths(folder)
    assert "d/b" not in paths(folder)


def test_rule_files_and_folders_are_inputs(folder: Path) -> None:
    """Also those that are ignored, or not there yet: when they come, the answer changes."""
    (folder / ".dockerignore").write_text("*\n")
    inputs = {
        str(Path(p).relative_to(folder)) for p in context_tree(folder, "d/Dockerfile").inputs()
    }
    rules = {".amlignore", ".gitignore", ".dockerignore", "d/Dockerfile.dockerignore"}
    assert rules | {"."} <= inputs
    (folder / ".dockerignore").write_text("a\n")
    inputs = {str(Path(p).relative_to(folder)) for p in context_tree(folder).inputs()}
    assert {"d", "d/e", "d/b"} <= inputs


def test_a_bad_pattern_names_its_file(folder: Path) -> None:
    (folder / ".dockerignore").write_text("[a\n")
    with pytest.raises(InputError) as caught:
        context_tree(folder)
    assert caught.value.diagnostics[0].code == "ignore-file"


def test_the_folders_of_git_are_never_part_of_it(folder: Path) -> None:
    before = context_tree(folder).digest
    (folder / ".git/objects").mkdir(parents=True)
    (folder / ".git/HEAD").write_text("x")
    assert context_tree(folder).digest == before


def test_what_builds_leave_behind_is_no_part_of_a_project(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("")
    before = project_tree(folder).digest
    (folder / "d/__pycache__").mkdir()
    (folder / "d/__pycache__/b.pyc").write_text("")
    (folder / "x.egg-info").mkdir()
    (folder / "x.egg-info/PKG-INFO").write_text("")
    assert project_tree(folder).digest == before
    (folder / "d/new.py").write_text("")
    assert project_tree(folder).digest != before


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("a", "a", True), ("a", "a/b", True), ("a", "b/a", False), ("/a", "a", True),
        ("*/a", "b/a", True), ("*/a", "a", False), ("**/a", "a", True), ("**/a", "x/y/a", True),
        ("a/**", "a/b/c", True), ("a/**", "a", False), ("**", "x/y", True), ("*.py", "x.py", True),
        ("*.py", "d/x.py", False), ("**/*.py", "d/x.py", True), ("a?c", "abc", True),
        ("a?c", "a/c", False), ("[a-c]x", "bx", True), ("[^a]x", "bx", True),
        ("[^a]x", "ax", False), ("a\n!a", "a", False), ("*\n!a/b", "a/b", False),
        ("*\n!a/b", "a/c", True),
        ("!a\na", "a", True), ("# a", "# a", False), ("  a  ", "a", True), ("./a/", "a", True),
        ("a/../b", "b", True), ("\\*", "*", True), ("\\*", "x", False), (".", "a", False),
        ("", "a", False), ("a.c", "abc", False), ("foo**bar", "fooxbar", True),
    ],
)  # fmt: skip
def test_docker_patterns(patterns: str, path: str, ignored: bool) -> None:
    assert docker_rules(patterns.split("\n")).ignored(path, False) is ignored


@pytest.mark.parametrize(
    ("patterns", "path", "is_folder", "ignored"),
    [
        ("a", "b/a", False, True), ("/a", "b/a", False, False), ("a/", "a", True, True),
        ("a/", "a", False, False), ("*.o\n!x.o", "x.o", False, False), ("# a", "a", False, False),
    ],
)  # fmt: skip
def test_git_patterns(patterns: str, path: str, is_folder: bool, ignored: bool) -> None:
    assert git_rules(patterns.split("\n")).ignored(path, is_folder) is ignored
