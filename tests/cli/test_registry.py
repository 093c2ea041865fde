"""``registry login`` and ``registry list`` through the command line, with real registries."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.registries import RunningRegistry, docker_registry, make_certificates

PASSWORD = "s3cret-word"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry with a login, by TLS with an authority of its own."""
    folder = tmp_path_factory.mktemp("registry")
    certificates = make_certificates(folder / "tls")
    with docker_registry(folder, users={"ada": PASSWORD}, certificates=certificates) as found:
        yield found


def login(cli: Cli, line: str, password: str) -> subprocess.CompletedProcess[str]:
    """The command with a password on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "envgraph", *line.split()],
        cwd=cli.folder,
        env=cli.environment,
        input=password,
        capture_output=True,
        text=True,
        timeout=300,
    )


def workspace(cli: Cli, running: RunningRegistry, *lines: str) -> Path:
    ca = running.folder.parent / "tls" / "ca.pem"
    cli.write("ca.pem", ca.read_text())
    cli.write(
        "envgraph.yaml",
        "workspace: demo\nid: '12345678'\n"
        f"registry: {{type: oci, url: '{running.host}/ml', ca: ca.pem}}\n" + "\n".join(lines),
    )
    return Path(cli.environment["HOME"], ".docker", "config.json")


def test_a_login_is_tried_then_kept_then_used(cli: Cli, running: RunningRegistry) -> None:
    config = workspace(cli, running)
    before = cli("registry list --json").json["registries"]
    assert [(r["name"], r["type"], r["place"], r["answers"]) for r in before] == [
        ("registry", "oci", running.host, False)
    ]
    assert before[0]["problem"]["code"] == "registry-denied"
    wrong = login(cli, f"registry login {running.host} -u ada --password-stdin", "wr0ng")
    assert wrong.returncode == 1
    assert "[registry-denied]" in wrong.stderr
    assert not config.exists()
    done = login(cli, f"registry login {running.host} -u ada --password-stdin", PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    assert f"{running.host} takes the login. It is kept in {config}." in done.stdout
    pair = base64.b64encode(f"ada:{PASSWORD}".encode()).decode()
    assert json.loads(config.read_text()) == {"auths": {running.host: {"auth": pair}}}
    assert config.stat().st_mode & 0o777 == 0o600
    assert cli("registry list --json").json["registries"][0]["answers"] is True
    assert "yes" in cli("registry list").out
    said = wrong.stdout + wrong.stderr + done.stdout + done.stderr + cli.story()
    for secret in ("wr0ng", PASSWORD, pair):
        assert secret not in said


def test_login_asks_on_a_terminal_and_shows_no_password(cli: Cli, running: RunningRegistry) -> None:
    config = workspace(cli, running)
    keyboard, terminal = pty.openpty()

    def begin() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "envgraph", "registry", "login", running.host],
        cwd=cli.folder,
        env=cli.environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=begin,
    )
    os.close(terminal)
    shown = ""
    for question, answer in (("Username: ", "ada\n"), ("Password: ", PASSWORD + "\n"), ("", "")):
        while not question or question not in shown:
            try:
                data = os.read(keyboard, 4096)
            except OSError:  # the other end is closed
                data = b""
            shown += data.decode()
            if not data:
                break
        os.write(keyboard, answer.encode()) if answer else None
    os.close(keyboard)
    assert process.wait() == 0, shown
    assert "takes the login" in shown
    assert PASSWORD not in shown
    assert running.host in config.read_text()


def test_docker_reads_what_we_keep(cli: Cli, running: RunningRegistry, need: object) -> None:
    """skopeo stands for everyone who reads docker's file."""
    assert callable(need)
    skopeo = need("skopeo")
    config = workspace(cli, running)
    command = [skopeo, "list-tags", "--tls-verify=false", f"docker://{running.host}/none"]
    environment = {**cli.environment, "DOCKER_CONFIG": str(config.parent)}

    def listed() -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.stderr

    assert "404" not in listed()
    login(cli, f"registry login {running.host} -u ada --password-stdin", PASSWORD)
    assert "404" in listed()


def test_a_credential_helper_keeps_it(cli: Cli, running: RunningRegistry) -> None:
    config = workspace(cli, running)
    programs = Path(cli.environment["HOME"], "bin")
    programs.mkdir()
    helper = programs / "docker-credential-box"
    helper.write_text('#!/bin/sh\ncat > "$HOME/box-$1"\ntest $1 = store || exit 1\n')
    helper.chmod(0o755)
    cli.environment["PATH"] = f"{programs}:{cli.environment['PATH']}"
    config.parent.mkdir()
    config.write_text('{"credsStore": "box"}')
    done = login(
        cli, f"registry login {running.host} -u ada --password-stdin --json", PASSWORD + "\r\n"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["host"], answer["username"], answer["kept"], answer["tried"]) == (
        running.host,
        "ada",
        "docker's credential helper box",
        True,
    )
    kept = json.loads(Path(cli.environment["HOME"], "box-store").read_text())
    assert kept["Secret"] == PASSWORD
    assert config.read_text() == '{"credsStore": "box"}'


def test_a_list_of_all_kinds(cli: Cli, running: RunningRegistry) -> None:
    lines = [
        "registries:",
        "  folder: {type: dirs, path: shared}",
        "  gone: {type: oci, url: '127.0.0.1:1'}",
        "  strange: {type: nothing-offers-this}",
        "  wrong: {type: oci, adress: x}",
    ]
    workspace(cli, running, *lines)
    found = {r["name"]: r for r in cli("registry list --json").json["registries"]}
    answers = {name: entry["answers"] for name, entry in found.items()}
    assert answers == {
        "registry": False,
        "folder": True,
        "gone": False,
        "strange": False,
        "wrong": False,
    }
    problems = {name: entry["problem"]["code"] for name, entry in found.items() if entry["problem"]}
    assert problems == {
        "registry": "registry-denied",
        "gone": "registry-down",
        "strange": "no-plugin",
        "wrong": "option",
    }
    offline = {r["name"]: r for r in cli("registry list --offline --json").json["registries"]}
    assert (offline["registry"]["answers"], offline["gone"]["answers"]) == (None, None)
    assert offline["folder"]["answers"] is True
    assert "not asked" in cli("registry list --offline").out


def test_nothing_to_list(cli: Cli) -> None:
    done = cli("registry list")
    assert (done.code, done.out) == (0, "")
    assert "names no registry" in done.err


@pytest.mark.parametrize(
    "line",
    [
        "registry",
        "registry logout x",
        "registry login",
        "registry list x",
        "registry list --username x",
        "registry list --password-stdin",
        "registry login me:pw@host",
        "registry login host",
        "registry login host --username x",
        "registry login host --password-stdin",
        "registry login host --username a:b --password-stdin",
        "registry login host --username x --password-stdin",
    ],
)
def test_what_cannot_be_meant(cli: Cli, line: str) -> None:
    done = cli(line)
    assert done.code == 1
    assert done.problem_code in ("usage", "missing-operand", "bad-choice", "unknown-word") or (
        "usage" in done.err
    ), done.err


def test_offline_tries_no_login(cli: Cli, running: RunningRegistry) -> None:
    config = workspace(cli, running)
    done = login(cli, f"registry login {running.host} -u ada --password-stdin --offline", PASSWORD)
    assert done.returncode == 1
    assert "[offline]" in done.stderr
    assert not config.exists()
