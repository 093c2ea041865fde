"""The user's folders without HOME: an empty one is as none, and the system knows better."""

from __future__ import annotations

import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from envgraph.cli.run import run_command
from envgraph.conda.logins import Logins
from envgraph.errors import PlatformError
from envgraph.folders import default_store, state_folder
from envgraph.lock.resolve import default_cache
from envgraph.run.kept import cache_folder

VARIABLES = ("HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "ENVGRAPH_STORE")


@pytest.fixture(params=["unset", "empty"])
def no_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    given = {"HOME": ""} if request.param == "empty" else {}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def test_the_password_database_says_where_the_home_is(
    no_home: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir="/homes/me"))
    assert default_store(no_home) == "/homes/me/.local/share/envgraph/store"
    assert cache_folder("prefixes", no_home) == Path("/homes/me/.cache/envgraph/prefixes")
    assert state_folder(no_home) == "/homes/me/.local/state/envgraph"
    assert default_cache(no_home) == Path("/homes/me/.cache/envgraph")
    (tmp_path / ".netrc").write_text("machine h login u password p\n")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=str(tmp_path)))
    assert Logins(no_home).header("https://h/x") == "Basic dTpw"


def test_a_user_without_any_home_is_told_so(
    no_home: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(PlatformError):
        cache_folder("prefixes", no_home)
    with pytest.raises(FileNotFoundError):
        default_store(no_home)
    monkeypatch.chdir(tmp_path)
    assert run_command(["list"])[0] == 1
    assert "HOME is not set, and the system has no home" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_set_is_taken() -> None:
    assert default_store({"HOME": "/h"}) == "/h/.local/share/envgraph/store"
    assert default_store({"HOME": "/h", "XDG_DATA_HOME": "/d"}) == "/d/envgraph/store"
    assert default_store({"HOME": "", "ENVGRAPH_STORE": "/s"}) == "/s"
