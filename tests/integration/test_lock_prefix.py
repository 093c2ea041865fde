"""Installing a lock into a prefix: whole or not at all, and nobody else's bytes."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.conda import link
from envgraph.conda.link import install_prefix, install_python, python_closure, sweep
from envgraph.errors import BuildError, EnvgraphError, InputError, IntegrityError
from envgraph.model.documents import package_document
from envgraph.testing.channel import PLACEHOLDER, ChannelMaker, File, make_package
from envgraph_store.digest import Digest
from tests.integration.locking import Locker, make_wheel
from tests.services import Channel


@pytest.fixture
def locker(tmp_path: Path) -> Locker:
    return Locker(tmp_path / "work")


def leftovers(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if ".installing-" in entry.name]


def test_a_prefix_names_itself_and_nothing_temporary(
    demo_channel: Channel, locker: Locker, tmp_path: Path
) -> None:
    lock = locker.lock(["beta", "gamma", "tool", "settings"], (demo_channel.url,))
    target = tmp_path / "prefix"
    report = install_prefix(lock, locker.archive, target)
    assert report.prefix == target
    assert report.clobbers == report.post_link == ()
    assert (target / "bin" / "beta").read_text().startswith(f"#!{target}/bin/sh")
    assert (target / "etc" / "settings.conf").read_text() == f"prefix={target}\n"
    assert str(target).encode() in (target / "lib" / "libgamma.so.1").read_bytes()
    assert (target / "bin" / "tool").read_text().startswith(f"#!{target}/bin/python")
    assert (target / "bin" / "tool").stat().st_mode & 0o111
    assert (target / "lib/python3.12/site-packages/tool/__init__.py").is_file()
    for path in target.rglob("*"):
        if path.is_file():
            assert b".installing-" not in path.read_bytes(), path
    record = json.loads(next((target / "conda-meta").glob("beta-*.json")).read_text())
    assert record["requested_specs"] == ["beta"]
    assert record["url"].startswith(demo_channel.url)
    assert leftovers(tmp_path) == []


def test_prefix_in_files_may_be_another(
    demo_channel: Channel, locker: Locker, tmp_path: Path
) -> None:
    lock = locker.lock(["beta", "gamma", "tool"], (demo_channel.url,))
    target = tmp_path / "staged"
    install_prefix(lock, locker.archive, target, prefix_in_files="/opt/env")
    assert (target / "bin" / "beta").read_text().startswith("#!/opt/env/bin/sh")
    for path in target.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes().replace(
                demo_channel.url.encode(), b""
            ), path


def test_editing_a_prefix_damages_nothing_else(
    demo_channel: Channel, locker: Locker, tmp_path: Path
) -> None:
    """Sharp edge 6: no inode is shared with the store or with another prefix."""
    lock = locker.lock(["alpha=1.0", "beta"], (demo_channel.url,))
    first, second = tmp_path / "first", tmp_path / "second"
    install_prefix(lock, locker.archive, first)
    install_prefix(lock, locker.archive, second)
    for path in first.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.stat().st_nlink == 1, path
    edited = first / "share" / "alpha" / "version"
    with edited.open("r+") as stream:
        stream.write("damaged")
    assert (second / "share" / "alpha" / "version").read_text() == "1.0"
    third = tmp_path / "third"
    install_prefix(lock, locker.archive, third)
    assert (third / "share" / "alpha" / "version").read_text() == "1.0"
    for package in lock.packages:
        archive = locker.packages.path(package.sha256)
        assert Digest.of(archive.read_bytes()) == package.sha256


def test_file_archives_are_checked(demo_channel: Channel, locker: Locker, tmp_path: Path) -> None:
    """Sharp edge 2: rattler installs a ``file://`` archive whatever its hash."""
    lock = locker.lock(["alpha"], (demo_channel.url,))
    other = locker.archive(locker.lock(["gamma"], (demo_channel.url,)).packages[0])
    with pytest.raises(IntegrityError) as caught:
        install_prefix(lock, lambda _: other, tmp_path / "prefix")
    assert caught.value.diagnostics[0].code == "wrong-hash"
    assert not (tmp_path / "prefix").exists()
    with pytest.raises(IntegrityError) as caught:
        install_prefix(lock, lambda _: tmp_path / "absent", tmp_path / "prefix")
    assert caught.value.diagnostics[0].code == "archive-missing"


def test_a_file_that_its_list_does_not_know(locker: Locker, tmp_path: Path) -> None:
    """RELIABILITY 70: the archive's hash fits, one of its files does not."""
    honest = make_package("liar", files={"share/liar": "the truth"})
    lying = ChannelMaker(tmp_path / "channel").add(honest)
    archive = tmp_path / "channel" / "linux-64" / "liar-1.0-0.conda"
    paths = json.dumps(
        {
            "paths_version": 1,
            "paths": [
                {
                    "_path": "share/liar",
                    "path_type": "hardlink",
                    "sha256": "0" * 64,
                    "size_in_bytes": 9,
                }
            ],
        }
    ).encode()
    archive.write_bytes(
        make_package(
            "liar", files={"share/liar": "the truth"}, info_files={"paths.json": paths}
        ).to_bytes()
    )
    lock = locker.lock(["liar"], (lying.index().url,))
    with pytest.raises(EnvgraphError) as caught:
        install_prefix(lock, locker.archive, tmp_path / "prefix")
    assert caught.value.diagnostics[0].code in ("package-lies", "install-failed")
    assert not (tmp_path / "prefix").exists()


def test_failing_link_script_is_told(locker: Locker, tmp_path: Path) -> None:
    """Sharp edge 4: rattler's install() succeeds when a post-link script fails."""
    maker = ChannelMaker(tmp_path / "channel").add(
        make_package("good", post_link="#!/bin/sh\nexit 0\n"),
        make_package("evil", post_link="#!/bin/sh\nexit 3\n"),
    )
    url = maker.index().url
    lock = locker.lock(["good", "evil"], (url,))
    report = install_prefix(lock, locker.archive, tmp_path / "not-run")
    assert report.post_link == ("evil", "good")
    assert [d.code for d in report.diagnostics()] == ["post-link", "post-link"]
    with pytest.raises(BuildError) as caught:
        install_prefix(lock, locker.archive, tmp_path / "run", run_link_scripts=True)
    assert caught.value.diagnostics[0].code == "post-link-failed"
    assert "evil" in caught.value.diagnostics[0].summary
    assert "good" not in caught.value.diagnostics[0].summary
    assert not (tmp_path / "run").exists()
    fine = locker.lock(["good"], (url,))
    assert (
        install_prefix(fine, locker.archive, tmp_path / "run", run_link_scripts=True).post_link
        == ()
    )


def test_a_path_of_two_packages_is_named(locker: Locker, tmp_path: Path) -> None:
    """Sharp edge 11."""
    maker = ChannelMaker(tmp_path / "channel").add(
        make_package("one", files={"share/same": "1", "share/one": "1"}),
        make_package("two", files={"share/same": "2"}),
    )
    lock = locker.lock(["one", "two"], (maker.index().url,))
    report = install_prefix(lock, locker.archive, tmp_path / "prefix")
    assert report.clobbers == (("share/same", ("one", "two")),)
    assert [d.code for d in report.diagnostics()] == ["clobber"]


@pytest.mark.parametrize(
    "script",
    [
        "kill -SEGV $$",
        "kill -ABRT $$",
        "exit 0",
        "exit 1",
        'echo \'{"ok": true, "post_link": [], "clobbers": []}\' > "$4/result.json"; kill -SEGV $$',
        'echo \'{"ok": tru\' > "$4/result.json"; exit 0',
    ],
)
def test_a_crash_is_never_a_success(
    script: str,
    demo_channel: Channel,
    locker: Locker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sharp edge 1: an exit code must never lie, in either direction."""
    lock = locker.lock(["alpha"], (demo_channel.url,))
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nmkdir -p "$4/prefix"\n{script}\n')
    fake.chmod(0o755)
    monkeypatch.setattr(link.sys, "executable", str(fake))
    with pytest.raises(BuildError) as caught:
        install_prefix(lock, locker.archive, tmp_path / "prefix")
    assert caught.value.diagnostics[0].code == "install-crashed"
    assert not (tmp_path / "prefix").exists()
    assert leftovers(tmp_path) == []


CALLER = """
import json, signal, sys
from pathlib import Path
from envgraph.conda.link import install_prefix
from envgraph.model.documents import package_from_document
from envgraph.model.locked import LockedBase, LockedEnvironment
from envgraph_store.digest import Digest

signal.signal(signal.SIGINT, signal.default_int_handler)
document, archive, target = sys.argv[1:]
package = package_from_document(json.loads(document))
nothing = Digest.of(b"")
lock = LockedEnvironment(nothing, nothing, "linux-64", LockedBase("scratch"), (package,))
install_prefix(lock, lambda _: Path(archive), Path(target))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_install_ends_with_its_caller(
    number: signal.Signals, demo_channel: Channel, locker: Locker, tmp_path: Path
) -> None:
    """A worker that waits for an archive: the caller's group gets a signal, as from a terminal."""
    [package] = locker.lock(["alpha"], (demo_channel.url,)).packages
    fifo = tmp_path / "archive"
    os.mkfifo(fifo)
    document = json.dumps(package_document(package))
    command = [sys.executable, "-c", CALLER, document, str(fifo), str(tmp_path / "prefix")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as caller:
        handle = os.open(fifo, os.O_WRONLY)  # returns when the worker has opened it
        try:
            assert len(leftovers(tmp_path)) == 1
            os.killpg(caller.pid, number)
            assert caller.wait(60) != 0
            ended = select.poll()
            ended.register(handle, 0)
            assert ended.poll(60_000) == [(handle, select.POLLERR)]  # nobody reads it any more
        finally:
            os.close(handle)
        assert caller.stderr is not None
        assert b"crashed" not in caller.stderr.read()
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "prefix").exists()


def test_the_worker_always_ends_well(demo_channel: Channel, locker: Locker, tmp_path: Path) -> None:
    """Sharp edge 1: about one ordinary end in ten crashed; ``os._exit`` never does."""
    lock = locker.lock(["alpha", "gamma"], (demo_channel.url,))
    for number in range(12):
        install_prefix(lock, locker.archive, tmp_path / str(number))


def test_leftovers_of_a_killed_install_are_swept(
    demo_channel: Channel, locker: Locker, tmp_path: Path
) -> None:
    """Sharp edge 9."""
    dead = tmp_path / ".old.installing-dead"
    (dead / "prefix").mkdir(parents=True)
    (dead / "prefix" / "file").write_text("x")
    (dead / "prefix").chmod(0o555)
    alive = tmp_path / ".new.installing-alive"
    alive.mkdir()
    handle = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        lock = locker.lock(["alpha"], (demo_channel.url,))
        install_prefix(lock, locker.archive, tmp_path / "prefix")
        assert leftovers(tmp_path) == [".new.installing-alive"]
    finally:
        os.close(handle)
    assert sweep(tmp_path) == 1
    assert leftovers(tmp_path) == []


def test_a_target_that_is_there_is_left_alone(
    demo_channel: Channel, locker: Locker, tmp_path: Path
) -> None:
    lock = locker.lock(["alpha"], (demo_channel.url,))
    target = tmp_path / "prefix"
    target.mkdir()
    (target / "mine").write_text("keep")
    with pytest.raises(InputError) as caught:
        install_prefix(lock, locker.archive, target)
    assert caught.value.diagnostics[0].code == "prefix-exists"
    assert (target / "mine").read_text() == "keep"
    (target / "mine").unlink()
    install_prefix(lock, locker.archive, target)
    assert (target / "share" / "alpha" / "version").is_file()


def test_a_prefix_too_long(demo_channel: Channel, locker: Locker, tmp_path: Path) -> None:
    lock = locker.lock(["gamma"], (demo_channel.url,))
    with pytest.raises(InputError) as caught:
        install_prefix(lock, locker.archive, tmp_path / ("x" * 200) / ("y" * 100))
    assert caught.value.diagnostics[0].code == "prefix-too-long"
    long = "/" + "p" * 254
    install_prefix(lock, locker.archive, tmp_path / "ok", prefix_in_files=long)
    assert long.encode() in (tmp_path / "ok" / "lib" / "libgamma.so.1").read_bytes()


def test_umask_of_the_caller_has_no_part(
    demo_channel: Channel, locker: Locker, tmp_path: Path
) -> None:
    lock = locker.lock(["beta"], (demo_channel.url,))
    before = os.umask(0o077)
    try:
        install_prefix(lock, locker.archive, tmp_path / "prefix")
    finally:
        os.umask(before)
    modes = {
        stat.S_IMODE(path.lstat().st_mode)
        for path in (tmp_path / "prefix").rglob("*")
        if not path.is_symlink()
    }
    assert modes <= {0o755, 0o644}
    assert stat.S_IMODE((tmp_path / "prefix").stat().st_mode) == 0o755


def test_python_alone(demo_channel: Channel, locker: Locker, tmp_path: Path) -> None:
    lock = locker.lock(["tool", "alpha"], (demo_channel.url,))
    assert [p.name for p in python_closure(lock.packages)] == ["python"]
    executable = install_python(lock, locker.archive, tmp_path / "python")
    assert executable == tmp_path / "python" / "bin" / "python"
    assert executable.exists()
    assert not (tmp_path / "python" / "bin" / "tool").exists()
    without = replace(lock, packages=tuple(p for p in lock.packages if p.name != "python"))
    with pytest.raises(InputError):
        install_python(without, locker.archive, tmp_path / "none")


Wheel = Callable[..., Path]


def wheel_lock(locker: Locker, url: str, wheel: Path, tmp_path: Path) -> tuple[object, object]:
    from envgraph.model.locked import LockedPackage

    lock = locker.lock(["python", "alpha"], (url,))
    name, version = wheel.name.split("-")[:2]
    package = LockedPackage(
        "pip", name, version, "", "", Digest.of(wheel.read_bytes()), "",
        file_name=wheel.name, url=wheel.as_uri(), size=wheel.stat().st_size,
    )  # fmt: skip
    lock = replace(lock, packages=(*lock.packages, package))
    return lock, lambda p: wheel if p.manager == "pip" else locker.archive(p)


def test_wheels_are_written_without_running_python(
    demo_channel: Channel, locker: Locker, tmp_path: Path
) -> None:
    wheel = make_wheel(
        tmp_path / "wheels", "extra", entry_points="[console_scripts]\nextra = extra:main\n"
    )
    lock, archives = wheel_lock(locker, demo_channel.url, wheel, tmp_path)
    target = tmp_path / "prefix"
    install_prefix(lock, archives, target, prefix_in_files="/opt/env")  # type: ignore[arg-type]
    site = target / "lib/python3.12/site-packages"
    assert (site / "extra" / "__init__.py").is_file()
    assert (site / "extra-1.0.dist-info" / "INSTALLER").read_text() == "envgraph\n"
    assert (target / "bin" / "extra").read_text().startswith("#!/opt/env/bin/python3.12\n")
    assert not list(target.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("entry_points", "files", "code"),
    [
        ("[console_scripts]\n../../bin/pip = extra:main\n", None, "wheel-entry-point"),
        ("[console_scripts]\na/b = extra:main\n", None, "wheel-entry-point"),
        ("[console_scripts]\nfine = os;system\n", None, "wheel-entry-point"),
        ("", {"../outside.py": "x"}, "wheel-escapes"),
        ("", {"/etc/outside.py": "x"}, "wheel-escapes"),
        ("", {"extra-1.0.data/data/share/alpha/version": "mine"}, "clobber"),
    ],
)
def test_hostile_wheels_are_refused(
    entry_points: str,
    files: dict[str, str] | None,
    code: str,
    demo_channel: Channel,
    locker: Locker,
    tmp_path: Path,
) -> None:
    """RELIABILITY 71, and a path that conda owns already."""
    wheel = make_wheel(tmp_path / "wheels", "extra", entry_points=entry_points, files=files)
    lock, archives = wheel_lock(locker, demo_channel.url, wheel, tmp_path)
    with pytest.raises(IntegrityError) as caught:
        install_prefix(lock, archives, tmp_path / "prefix")  # type: ignore[arg-type]
    assert caught.value.diagnostics[0].code == code
    assert not (tmp_path / "prefix").exists()
    assert not (tmp_path / "outside.py").exists()


def test_the_real_python_runs(real_channel: Channel, locker: Locker, tmp_path: Path) -> None:
    lock = locker.lock(["python", "tqdm"], (real_channel.url,))
    target = tmp_path / "prefix"
    install_prefix(lock, locker.archive, target)
    done = subprocess.run(
        [target / "bin" / "python", "-c", "import ssl, sqlite3, sys, tqdm; print(sys.prefix)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(target)
    assert PLACEHOLDER.encode() not in (target / "bin" / "tqdm").read_bytes()
    executable = install_python(lock, locker.archive, tmp_path / "only-python")
    subprocess.run([executable, "-c", "import ssl, sqlite3"], check=True)


def test_read_only_folders_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    (folder / "deep").chmod(0o555)
    link.remove_tree(folder)
    assert not folder.exists()
    assert File("x").executable is False
