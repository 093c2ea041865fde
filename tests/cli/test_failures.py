"""Whatever is raised ends as an exit code and diagnostics, never as a traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from envgraph.cli import verbs
from envgraph.cli.options import Signature
from envgraph.cli.run import run_command
from envgraph.errors import (
    Diagnostic,
    EnvgraphError,
    InputError,
    LockedError,
    OfflineError,
    SourceLocation,
)
from envgraph_store.errors import Holder, StoreFull, StoreLocked

Captured = pytest.CaptureFixture[str]


class Verb:
    """A verb of the test's own: ``raising`` is what it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, raising: BaseException | int) -> None:
        module = ModuleType("envgraph.cli.commands.init")
        vars(module).update(
            SIGNATURE=Signature(), read=lambda values: SimpleNamespace(), run=self.run
        )
        monkeypatch.setitem(sys.modules, verbs.module_of("init"), module)
        self.raising = raising

    def run(self, arguments: object, session: object) -> int:
        if isinstance(self.raising, int):
            return self.raising
        raise self.raising


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("a"), 1),
        (OfflineError("a"), 1),
        (LockedError("a"), 11),
        (StoreFull("a"), 1),
        (StoreLocked("the workspace", Holder(7, "here", "envgraph", "apply"), 60.0), 11),
        (MemoryError(), 1),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (RuntimeError("a"), 70),
        (RecursionError("a"), 70),
        (OSError("no number"), 70),
        (type("PanicException", (BaseException,), {})("rust"), 70),
        (KeyboardInterrupt(), 130),
        (0, 0),
        (2, 2),
        (3, 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_exit_codes(
    error: BaseException | int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    Verb(monkeypatch, error)
    assert run_command(["init"])[0] == code
    assert run_command(["init", "--json"])[0] == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    if isinstance(error, BaseException):
        last = json.loads(err.splitlines()[-1])
        assert (last["type"], last["exit"]) == ("error", code)
        assert set(last["diagnostics"][0]) == {
            "code", "severity", "summary", "detail", "source", "hint",
        }  # fmt: skip
    else:
        assert err == ""


def test_all_diagnostics_are_printed_with_their_places(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    here = SourceLocation(str(tmp_path / "env.yml"), 3, 5)
    Verb(
        monkeypatch,
        InputError(
            [
                Diagnostic("a-code", "first", "because\nof this", here, "do that"),
                Diagnostic("b-code", "second \x1b[31m", severity="warning"),
            ]
        ),
    )
    assert run_command(["init"])[0] == 1
    assert capsys.readouterr().err == (
        "error: env.yml:3:5: first [a-code]\n"
        "  because\n"
        "  of this\n"
        "  hint: do that\n"
        "warning: second \\x1b[31m [b-code]\n"
    )


def test_long_text_is_wrapped_at_the_width(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    place = SourceLocation("a/rather/long/folder/of/environments/with/a/file.yml", 12, 34)
    text = "a summary that is longer than the line that it has to stand in, by some words"
    Verb(monkeypatch, InputError(Diagnostic("code", text, text, place, text)))
    run_command(["init"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: a/rather/long/folder/of/environments/with/a/file.yml:12:34:"
    assert max(len(line) for line in lines) <= 80
    assert " ".join(" ".join(lines).split()).count(text) == 3


def test_no_credential_of_an_address_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, own_home: Path
) -> None:
    address = "https://user:CANARY1@host/t/CANARY2/channel"
    Verb(monkeypatch, EnvgraphError(f"cannot read {address}", detail=address, hint=address))
    run_command(["init"])
    run_command(["init", "--json"])
    Verb(monkeypatch, RuntimeError(f"cannot read {address}"))
    run_command(["init", "-v", "--store", address])
    out, err = capsys.readouterr()
    logs = "".join(p.read_text() for p in own_home.rglob("*.log"))
    assert "https://***@host/t/***/channel" in err
    assert "https://***@host" in logs
    assert "CANARY" not in out + err + logs


def test_a_bug_names_its_log_file_which_holds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, own_home: Path
) -> None:
    Verb(monkeypatch, RuntimeError("out of cheese"))
    assert run_command(["init"])[0] == 70
    err = capsys.readouterr().err
    assert "this is a bug in envgraph [bug]" in err
    assert "RuntimeError: out of cheese" in err
    [log] = (own_home / "XDG_STATE_HOME" / "envgraph").iterdir()
    assert log.name in re.sub(r"\s", "", err)
    text = log.read_text()
    assert "Traceback" in text
    assert "command: envgraph init" in text
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_bug_shows_its_traceback_with_v(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    Verb(monkeypatch, RuntimeError("out of cheese"))
    assert run_command(["init", "-v"])[0] == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_where_no_log_can_be_written_shows_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    Verb(monkeypatch, RuntimeError("out of cheese"))
    assert run_command(["init"])[0] == 70
    assert "Traceback" in capsys.readouterr().err


def test_leaving_at_once_only_after_what_may_have_left_threads_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    Verb(monkeypatch, KeyboardInterrupt())
    assert run_command(["init"]) == (130, True)
    Verb(monkeypatch, InputError("a"))
    assert run_command(["init"]) == (1, False)
    capsys.readouterr()


def test_errors_of_the_command_line_itself_are_json_too(capsys: Captured) -> None:
    assert run_command(["plan", "--json", "--nonsense"])[0] == 1
    document = json.loads(capsys.readouterr().err)
    assert document["diagnostics"][0]["code"] == "unknown-flag"


def test_the_verbs_of_the_test_left_no_trace() -> None:
    module = sys.modules.get(verbs.module_of("init"))
    assert module is None or module.__spec__ is not None
    assert os.environ.get("COLUMNS") == "80"
