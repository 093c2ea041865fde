"""Logins in docker's own places: config.json, helpers, and what is kept there by us."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import Credentials, RegistryError
from envgraph_oci.auth import IDENTITY
from envgraph_oci.dockerconfig import DockerConfig
from tests.oci import code_of

HUB = "https://index.docker.io/v1/"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Home:
    """A home with docker's file, and a PATH of credential helpers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / ".docker" / "config.json"
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.environ = {"HOME": str(folder), "PATH": f"{self.programs}:{os.defpath}"}
        self.config = DockerConfig.of(self.environ)

    def write(self, document: object) -> None:
        self.file.parent.mkdir(exist_ok=True)
        text = document if isinstance(document, str) else json.dumps(document)
        self.file.write_text(text)

    def read(self) -> Any:
        return json.loads(self.file.read_text())

    def helper(self, name: str, script: str) -> None:
        program = self.programs / f"docker-credential-{name}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def same(found: Credentials | None, name: str, password: str = "", token: str = "") -> bool:
    return found == Credentials(name, password, token)


def test_without_a_file_there_is_no_login(home: Home) -> None:
    assert home.config.login("ghcr.io") is None


def test_the_folder_can_be_named(home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"auths": {"a": {"auth": encoded("n:p")}}}))
    named = DockerConfig.of({**home.environ, "DOCKER_CONFIG": str(other)})
    assert same(named.login("a"), "n", "p")
    assert home.config.login("a") is None


@pytest.mark.parametrize(
    ("entry", "name", "password", "token"),
    [
        ({"auth": encoded("ada:se:cret é")}, "ada", "se:cret é", ""),
        ({"auth": encoded("ada:padded\0\0")}, "ada", "padded", ""),
        ({"username": "ada", "password": "pw"}, "ada", "pw", ""),
        ({"auth": encoded("ada:new"), "username": "old", "password": "old"}, "ada", "new", ""),
        ({"auth": encoded("u:"), "identitytoken": "idt"}, IDENTITY, "idt", ""),
        ({"auth": encoded("u:p"), "registrytoken": "rt"}, "", "", "rt"),
    ],
)
def test_entries(home: Home, entry: dict[str, str], name: str, password: str, token: str) -> None:
    home.write({"auths": {"r.example:5000": entry}})
    assert same(home.config.login("r.example:5000"), name, password, token)
    assert home.config.login("r.example") is None
    assert home.config.login("r.example:5001") is None
    assert home.config.login("example:5000") is None


@pytest.mark.parametrize("entry", [{}, {"auth": ""}, {"auth": encoded(":")}, {"email": "x"}, 3])
def test_entries_without_a_login(home: Home, entry: object) -> None:
    home.write({"auths": {"r.example": entry}})
    assert home.config.login("r.example") is None


@pytest.mark.parametrize(
    "key",
    ["r.example", "https://r.example", "http://r.example/", "https://r.example/v1/", "R.example",
     "r.example/v2/"],
)  # fmt: skip
def test_spellings_of_keys(home: Home, key: str) -> None:
    home.write({"auths": {"evil.example/r.example": {"auth": encoded("x:x")},
                          key: {"auth": encoded("n:p")}}})  # fmt: skip
    assert same(home.config.login("r.example"), "n", "p")


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_has_a_key_of_its_own(home: Home, host: str) -> None:
    home.write({"auths": {HUB: {"auth": encoded("n:p")}}})
    assert same(home.config.login(host), "n", "p")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", "", "[" * 100_000, "\xff",
     json.dumps({"auths": {"a": {"auth": "%%%s3cret"}}}),
     json.dumps({"auths": {"a": {"auth": base64.b64encode(b"\xff\xfe:x").decode()}}})],
)  # fmt: skip
def test_broken_files_are_named_and_not_repeated(home: Home, text: str) -> None:
    home.write(text)
    with pytest.raises(RegistryError) as caught:
        home.config.login("a")
    assert code_of(caught.value) == "registry-options"
    assert str(home.file) in str(caught.value)
    assert "s3cret" not in repr(caught.value.diagnostics)


GET = """test "$1" = get || exit 9
read host
case "$host" in
%s) echo '{"ServerURL": "x", "Username": "%s", "Secret": "%s"}';;
*) echo 'credentials not found in native keychain'; exit 1;;
esac"""


def test_helpers_come_first(home: Home) -> None:
    home.helper("all", GET % ("b.example|both", "from-all", "1"))
    home.helper("one", GET % ("a.example:5000", "from-one", "2"))
    home.write(
        {
            "credsStore": "all",
            "credHelpers": {"a.example:5000": "one"},
            "auths": {"a.example:5000": {"auth": encoded("file:3")},
                      "b.example": {"auth": encoded("file:3")},
                      "c.example": {"auth": encoded("file:3")}},
        }
    )  # fmt: skip
    for host, name in (("a.example:5000", "from-one"), ("b.example", "from-all")):
        found = home.config.login(host)
        assert found is not None
        assert found.username == name
    assert same(home.config.login("c.example"), "file", "3")
    assert home.config.login("d.example") is None


def test_helpers_are_told_docker_hub_s_key(home: Home) -> None:
    home.helper("all", GET % (HUB, IDENTITY, "identity"))
    home.write({"credsStore": "all"})
    assert same(home.config.login("docker.io"), IDENTITY, "identity")


@pytest.mark.parametrize(
    "script",
    ["echo s3cret; exit 1", "echo s3cret >&2; exit 1", "echo '{\"Secret\": \"s3cret\"}'",
     "echo not json s3cret", "echo '[]'", "kill -9 $$", "echo '{\"Username\": 1, \"Secret\": 2}'"],
)  # fmt: skip
def test_helpers_that_fail(home: Home, script: str, capfd: pytest.CaptureFixture[str]) -> None:
    home.helper("bad", script)
    home.write({"credsStore": "bad"})
    with pytest.raises(RegistryError, match="docker-credential-bad") as caught:
        home.config.login("a.example")
    assert code_of(caught.value) == "registry-options"
    assert "s3cret" not in repr(caught.value.diagnostics) + "".join(capfd.readouterr())


@pytest.mark.parametrize("name", ["../bin/sh", "a/b", "", " ", "-x", "a\0b", "not-installed"])
def test_names_of_helpers_that_are_none(home: Home, name: str) -> None:
    home.write({"credHelpers": {"a.example": name}})
    if not name:
        assert home.config.login("a.example") is None
        return
    with pytest.raises(RegistryError) as caught:
        home.config.login("a.example")
    assert code_of(caught.value) == "registry-options"


def test_a_login_is_kept_for_the_owner_alone(home: Home) -> None:
    old = os.umask(0)
    try:
        where = home.config.keep("r.example", Credentials("ada", "se:cret é"))
    finally:
        os.umask(old)
    assert where == str(home.file)
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.file.parent.stat().st_mode) == 0o700
    assert same(home.config.login("r.example"), "ada", "se:cret é")
    assert home.read() == {"auths": {"r.example": {"auth": encoded("ada:se:cret é")}}}


def test_the_rest_of_the_file_stays(home: Home) -> None:
    document = {
        "HttpHeaders": {"X": "é\u2028"},
        "auths": {"z.example": {"auth": encoded("a:b"), "email": "e"}, "a.example": {}},
        "detachKeys": "ctrl-e,e",
        "currentContext": "x",
    }
    home.write(document)
    home.file.chmod(0o644)
    home.config.keep("r.example", Credentials("n", "p"))
    home.config.keep("docker.io", Credentials("h", "p"))
    added = {"r.example": {"auth": encoded("n:p")}, HUB: {"auth": encoded("h:p")}}
    assert home.read() == {**document, "auths": {**document["auths"], **added}}  # type: ignore[dict-item]
    assert list(home.read()) == list(document)
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600
    assert [path.name for path in home.file.parent.iterdir()] == ["config.json"]


def test_a_linked_file_stays_a_link(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "dotfiles" / "docker.json"
    target.parent.mkdir()
    target.write_text("{}")
    home.file.parent.mkdir()
    home.file.symlink_to(target)
    home.config.keep("r.example", Credentials("n", "p"))
    assert home.file.is_symlink()
    assert json.loads(target.read_text())["auths"]


@pytest.mark.parametrize("text", ["{", '{"auths": 3}'])
def test_a_broken_file_is_not_replaced(home: Home, text: str) -> None:
    home.write(text)
    with pytest.raises(RegistryError):
        home.config.keep("r.example", Credentials("n", "p"))
    assert home.file.read_text() == text


def test_a_login_that_cannot_be_written(home: Home) -> None:
    home.file.parent.write_text("a file where the folder should be")
    with pytest.raises(RegistryError) as caught:
        home.config.keep("r.example", Credentials("n", "s3cret"))
    assert code_of(caught.value) == "registry-options"
    assert "s3cret" not in repr(caught.value.diagnostics)


def test_a_helper_keeps_the_login(home: Home, tmp_path: Path) -> None:
    home.helper("all", f'test "$1" = store && cat > {tmp_path}/kept')
    home.write({"credsStore": "all"})
    assert home.config.keep("docker.io", Credentials("n", "p")) == (
        "docker's credential helper all"
    )
    assert json.loads((tmp_path / "kept").read_text()) == {
        "ServerURL": HUB, "Username": "n", "Secret": "p",
    }  # fmt: skip
    assert home.read() == {"credsStore": "all"}
    home.helper("all", "exit 1")
    with pytest.raises(RegistryError):
        home.config.keep("docker.io", Credentials("n", "p"))
