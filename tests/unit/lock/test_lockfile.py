"""Lockfiles: strict and bounded reading, hand edits noticed, atomic writing."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
import yaml

from envgraph.errors import InputError
from envgraph.lock import lockfile
from envgraph.lock.lockfile import (
    NewLockfile,
    lockfile_text,
    read_lockfile,
    write_lockfile,
    write_lockfiles,
)
from envgraph.model.locked import BaseLayer, LockedBase, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def package(name: str, **more: object) -> LockedPackage:
    values: dict[str, object] = {
        "manager": "conda",
        "name": name,
        "version": "1.10",
        "build": "py311_0",
        "subdir": "linux-64",
        "sha256": digest(name),
        "channel": "conda-forge",
        "file_name": f"{name}-1.10-py311_0.conda",
        "url": f"https://conda.anaconda.org/conda-forge/linux-64/{name}-1.10-py311_0.conda",
        "size": 12345,
        "md5": "0" * 32,
        "build_number": 3,
        "depends": ("python >=3.11", "python <3.12", "__glibc >=2.17", "plain"),
        "constrains": ("other <3",),
        "timestamp_ms": 1_700_000_000_000,
        "license": "BSD: \u201cnew\u201d #3",
        "direct": True,
    }
    return LockedPackage(**(values | more))  # type: ignore[arg-type]


def make_lock(count: int = 2, platform: str = "linux-64") -> LockedEnvironment:
    layer = BaseLayer("application/vnd.oci.image.layer.v1.tar", digest("l"), 10, digest("d"))
    wheel = package(
        "wheel-package", manager="pip", build="", subdir="", channel="", md5="", depends=(),
        constrains=(), build_number=0, file_name="w-1.10-py3-none-any.whl",
        url="https://files.example/w-1.10-py3-none-any.whl", reproducible=False,
    )  # fmt: skip
    return LockedEnvironment(
        definition=digest("definition"),
        pin_key=digest("pin" + platform),
        platform=platform,
        base=LockedBase(
            "docker.io/library/python:3.12",
            digest("m"),
            "application/vnd.oci.image.manifest.v1+json",
            digest("c"),
            (layer,),
        ),
        packages=(*(package(f"p{i:04}") for i in range(count)), wheel),
        steps=("RUN true", "COPY a b\na sha256:0"),
        created="2026-11-23T04:25:00Z",
        solver={"conda": "py-rattler 0.28.0"},
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "env.conda-lock.yml"
    write_lockfile(path, [make_lock()])
    return path


def test_nothing_is_lost(written: Path) -> None:
    content = read_lockfile(written)
    lock = make_lock()
    assert content.locks == {"linux-64": lock}
    assert content.locks["linux-64"].created == lock.created
    assert not content.edited


def test_equal_locks_give_equal_text() -> None:
    assert lockfile_text([make_lock()]) == lockfile_text([make_lock()])
    with pytest.raises(InputError):
        lockfile_text([make_lock(), make_lock()])


def test_a_changed_package_changes_its_own_lines() -> None:
    before = lockfile_text([make_lock()]).splitlines()
    lock = make_lock()
    changed = package("p0001", version="1.11", sha256=digest("new"), size=1)
    from dataclasses import replace

    packages = tuple(changed if p.name == "p0001" else p for p in lock.packages)
    after = lockfile_text([replace(lock, packages=packages)]).splitlines()
    different = [line for line in after if line not in set(before)]
    assert len(different) == 4  # the content's digest, its metadata, version, sha256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: '1.10'", "version: '1.11'"),
        ("sha256: " + digest("p0000").hex, "sha256: " + "0" * 64),
        ('"size": 12345', '"size": 1'),
        ("file_name", "file_nome"),
        (str(digest("m")), str(digest("other"))),
        ("category: main", "category: dev"),
        ("conda-forge/linux-64/p0001", "evil/linux-64/p0001"),
    ],
)
def test_hand_edits_are_noticed(old: str, new: str, written: Path) -> None:
    text = written.read_text()
    assert old in text
    written.write_text(text.replace(old, new, 1))
    assert read_lockfile(written).edited


def test_comments_line_ends_and_order_of_keys_are_no_edit(written: Path) -> None:
    text = written.read_text()
    written.write_bytes(("# a comment\n" + text).replace("\n", "\r\n").encode())
    assert not read_lockfile(written).edited
    document = yaml.safe_load(text)
    written.write_text(yaml.safe_dump(document, sort_keys=True))
    assert not read_lockfile(written).edited
    written.write_text(text.replace("created_at: '2026-11-23T04:25:00Z'", "created_at: 'later'"))
    assert not read_lockfile(written).edited


@pytest.mark.parametrize(
    ("old", "new", "code", "line_has"),
    [
        ("version: 1\n", "version: 2\n", "lock-version", "version: 2"),
        ("version: 1\n", "version: true\n", "lock-version", "version: true"),
        ("version: '1.10'", "version: 1.10", "lock-format", "version: 1.10"),
        ("manager: conda", "manager: 7", "lock-format", "manager: 7"),
        ("package:\n", "packages:\n", "lock-format", "packages:"),
        ("name: p0001", "name: p0000", "lock-format", "name: p0000"),
        ("sha256: " + digest("p0000").hex, "sha256: abc", "lock-format", "sha256: abc"),
        ("sha256: " + digest("p0000").hex, "sha256: null", "lock-no-hash", "hash:"),
        ('"definition": "sha256:', '"definition": "md5:', "lock-format", "envgraph.lock/linux-64"),
        ("optional: false", "optional: [[[[[[[[[[[[]]]]]]]]]]]]", "lock-format", "optional:"),
        ("metadata:\n", "metadata: !!python/object:os.system\n", "lock-yaml", ""),
        ("version: 1\n", "version: 1\nx: &a [1]\ny: *a\n", "lock-yaml", ""),
        ("version: 1\n", "version: [1\n", "lock-yaml", ""),
        ("metadata:\n", "metadata:\n\tx: 1\n", "lock-yaml", ""),
    ],
)
def test_wrong_files_are_refused_with_their_line(
    old: str, new: str, code: str, line_has: str, written: Path
) -> None:
    text = written.read_text()
    assert old in text
    written.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_lockfile(written)
    assert code in {d.code for d in caught.value.diagnostics}
    if line_has:
        lines = written.read_text().splitlines()
        places = [d.source for d in caught.value.diagnostics if d.code == code]
        assert any(p and p.line and line_has in lines[p.line - 1] for p in places), places


def test_all_problems_come_at_once(written: Path) -> None:
    text = written.read_text()
    text = re.sub(r"sha256: [0-9a-f]{64}", "sha256: nothex", text)
    written.write_text(text)
    with pytest.raises(InputError) as caught:
        read_lockfile(written)
    assert len(caught.value.diagnostics) == 3


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock.yml"
    for content in (b"\xff\xfe\x00", b"- a list\n", b"", b"[" * 100_000, b"a: " * 5000):
        path.write_bytes(content)
        with pytest.raises(InputError):
            read_lockfile(path)
    for wrong in (tmp_path / "absent.yml", tmp_path):
        with pytest.raises(InputError):
            read_lockfile(wrong)
    path.write_text("x" * 100)
    monkeypatch.setattr(lockfile, "LARGEST_LOCKFILE", 99)
    with pytest.raises(InputError) as caught:
        read_lockfile(path)
    assert caught.value.diagnostics[0].code == "lock-size"


def test_writing_is_all_or_nothing(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError) as caught:
        write_lockfile(written, [make_lock(5)])
    assert caught.value.diagnostics[0].code == "lock-write"
    assert written.read_bytes() == before
    assert [p.name for p in written.parent.iterdir()] == [written.name]


def test_mode_follows_the_old_file_or_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "lock.yml"
    before = os.umask(0o027)
    try:
        write_lockfile(path, [make_lock()])
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o600)
        write_lockfile(path, [make_lock(3)])
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_reading_what_we_wrote_needs_no_conda_lock(written: Path, tmp_path: Path) -> None:
    """``import conda_lock`` takes longer than a whole plan may."""
    import subprocess
    import sys

    script = (
        "import sys; from pathlib import Path; from envgraph.lock.lockfile import read_lockfile\n"
        f"content = read_lockfile(Path({str(written)!r})); assert content.locks\n"
        "assert not {'conda_lock', 'rattler', 'pydantic', 'requests'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


def test_three_thousand_packages_use_the_c_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "big.yml"
    lock = make_lock(3000)
    write_lockfile(path, [lock])

    def slow(*_: object, **__: object) -> None:
        raise AssertionError("the Python loader is five times slower")

    monkeypatch.setattr(yaml.reader.Reader, "__init__", slow)
    assert read_lockfile(path).locks["linux-64"] == lock


@pytest.mark.parametrize("syncs", [True, False], ids=["together", "one by one"])
def test_many_files_are_made_durable_before_one_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: bool
) -> None:
    files = [NewLockfile(tmp_path / f"e{n}.conda-lock.yml", [make_lock(1)]) for n in range(20)]
    steps: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def together(disk: lockfile.Disk, handle: int) -> bool:
        steps.append("everything")
        return syncs

    def one(handle: int) -> None:
        steps.append("file" if stat.S_ISREG(os.fstat(handle).st_mode) else "folder")
        fsync(handle)

    def moved(path: Path, target: Path) -> Path:
        steps.append("replace")
        return replace(path, target)

    monkeypatch.setattr(lockfile.Disk, "sync_everything", together)
    monkeypatch.setattr(os, "fsync", one)
    monkeypatch.setattr(Path, "replace", moved)
    digests = write_lockfiles(files)
    by_file = [] if syncs else ["file"] * 20
    assert steps == ["everything", *by_file, *["replace"] * 20, "folder"]
    assert digests == [Digest.of(file.path.read_bytes()) for file in files]
    assert len(list(tmp_path.iterdir())) == 20


def test_where_one_of_many_cannot_be_written_none_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [NewLockfile(tmp_path / f"e{n}.conda-lock.yml", [make_lock(1)]) for n in range(20)]
    for file in files:
        file.path.write_text("old")

    def full(disk: lockfile.Disk, handle: int) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lockfile.Disk, "sync_everything", full)
    with pytest.raises(InputError, match="cannot be written"):
        write_lockfiles(files)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}
    assert len(list(tmp_path.iterdir())) == 20


def test_a_lock_without_packages_is_as_the_models_would_write_it() -> None:
    from envgraph.lock.condalock import build_document

    locks = [make_lock(0), make_lock(0, "linux-aarch64")]
    custom = {"envgraph.format": "1", "note": "ü"}
    sources = ["../environments/train.yml"]
    assert lockfile._document(locks, sources, custom) == build_document(locks, [], sources, custom)
    assert list(lockfile._document(locks, sources, custom)["metadata"]) == list(
        build_document(locks, [], sources, custom)["metadata"]
    )


def test_the_lockfile_names_folders_and_not_what_is_in_them(tmp_path: Path) -> None:
    from envgraph.lock.find import lock_sources
    from envgraph.spec.load import load_environment

    folder = tmp_path / "environments"
    for name in ("context/Dockerfile", "context/app/main.py", "data/a/b", "data/c", "one.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("FROM scratch\n")
    (folder / "context.yml").write_text("name: c\nbuild: {path: context}\n")
    (folder / "steps.yml").write_text(
        "name: s\nimage: scratch\ndocker_steps: ['COPY data /data', 'COPY one.txt /']\n"
    )
    found = {}
    for name in ("context", "steps"):
        spec = load_environment(folder / f"{name}.yml").spec
        assert spec is not None
        found[name] = lock_sources(spec, tmp_path / "locks" / "x.conda-lock.yml")
    assert found["context"] == (
        "../environments/context.yml", "../environments/context",
        "../environments/context/Dockerfile",
    )  # fmt: skip
    assert found["steps"] == (
        "../environments/steps.yml", "../environments/data", "../environments/one.txt",
    )  # fmt: skip
