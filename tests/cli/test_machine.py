"""The doctor's checks, on machines that lack things."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envgraph.cli import machine
from envgraph.cli.builder_here import check_auto
from envgraph.cli.machine import Check
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.plugins import Plugins
from tests.cli.conftest import Cli


def test_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    check = machine.check_store(tmp_path / "a/b/store")
    assert check.status == "ok"
    assert "the first apply makes it" in check.summary
    assert not (tmp_path / "a").exists()


def test_a_store_that_others_may_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    check = machine.check_store(tmp_path)
    assert (check.status, check.hint) == ("missing", f"chmod go-w {tmp_path}")


def test_a_store_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    check = machine.check_store(tmp_path)
    assert check.status == "missing"
    assert "another user" in check.summary


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert machine.check_store(tmp_path).hint == f"chmod u+wx {tmp_path}"
    assert machine.check_store(tmp_path / "new").status == "missing"
    assert machine.check_file_locks(tmp_path).status == "remark"


def test_file_locks_syncfs_and_space_of_this_machine(tmp_path: Path) -> None:
    assert machine.check_file_locks(tmp_path / "new").status == "ok"
    assert machine.check_syncfs(tmp_path / "new").status in ("ok", "remark")
    assert "free" in machine.check_space(tmp_path / "new").summary
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    check = machine.check_file_locks(tmp_path)
    assert check.status == "missing"
    assert "Operation not supported" in check.summary


def test_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)

    class Small:
        f_bavail, f_frsize, f_files, f_favail = 1000, 4096, real.f_files, 10**6

    monkeypatch.setattr(os, "statvfs", lambda path: Small)
    check = machine.check_space(tmp_path)
    assert check.status == "remark"
    assert check.summary.startswith("4.1 MB free")
    Small.f_favail, Small.f_files = 5, 100
    assert machine.check_space(tmp_path).summary == "only 5 inodes free"


def test_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (256, 4096))
    assert machine.check_open_files() == Check(
        "open files", "remark", "at most 256", "ulimit -n 1024"
    )


def test_no_tool_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    for check in (machine.check_graphviz(), machine.check_container()):
        assert check.status == "remark"
        assert "apt install" in check.hint
    assert machine.check_docker().status == "ok"


def test_no_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("uv")

    monkeypatch.setattr("uv.find_uv_bin", nowhere)
    assert machine.check_uv().status == "remark"


def test_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envgraph.run.prefixes.host_platform", lambda: "osx-arm64")
    check = machine.check_platform()
    assert check.status == "remark"
    assert "images are for Linux" in check.summary


def test_every_remark_has_a_fix(cli: Cli) -> None:
    document = cli("doctor --json", PATH="/nowhere").json
    lacking = [check for check in document["checks"] if check["status"] != "ok"]
    assert lacking
    assert all(check["hint"] for check in lacking)
    text = cli("doctor", PATH="/nowhere").out
    assert text.count("to fix: ") == len(lacking)


def test_builders_are_looked_at_and_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BUILDKIT_HOST", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")

    def look(**builder: object) -> Check:
        options = {key: value for key, value in builder.items() if key != "type"}
        provider = Provider(str(builder.get("type", "auto")), options)
        return check_auto(WorkspaceConfig("w", "id", "/", builder=provider), Plugins())

    none = look(type="buildah")
    assert (none.status, "install buildah" in none.hint) == ("remark", True)
    far = look(type="buildkit", address="tcp://far.example:1")
    assert far.status == "ok"
    assert "buildkit at tcp://far.example:1 (builder.address), not asked" in far.summary
    outside = look(type="buildkit", address="tcp://far.example:1", reach="local")
    assert outside.status == "remark"
    assert "outside of builder.reach (local)" in outside.summary
    file = tmp_path / "d.sock"
    missing = look(type="buildkit", address=f"unix://{file}")
    assert (missing.status, "No such file" in missing.summary) == ("remark", True)
    file.write_text("")
    assert "it is no socket" in look(type="buildkit", address=f"unix://{file}").summary
    program = tmp_path / "buildah"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    both = look(reach=["local"])
    assert both.status == "ok"
    assert f"buildah at {program} (PATH)" in both.summary
    assert "kaniko" in look(type="kaniko").summary
    assert look(reach="locl").status == "remark"
