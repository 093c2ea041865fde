"""Forty secrets through logins, tokens, uploads and errors of registries: none is found after.

They are put where users and registries put credentials; some registries even send them
back in their errors. Then all that was written, logged, printed, returned and raised is
searched, plain, quoted and in base64.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from envgraph.api import OCI_IMAGE_MANIFEST, Credentials, Descriptor, Digest
from envgraph.errors import EnvgraphError
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.registry.remotes import Remote, Remotes
from envgraph.registry.retrying import Policy
from envgraph.testing.registry.scripted import Reply, ScriptedRegistry, Seen
from envgraph.testing.registry.scripted_answers import TokenService
from tests.canaries import Canaries
from tests.oci import LAYER, ask_everything, manifest, read


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Setup:
    """A home with docker's file, a helper, a netrc and an environment, all with canaries."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.canaries = Canaries(folder)
        self.opened = ExitStack()
        self.private = folder / "private"
        self.private.mkdir()
        for name in ("work", "tmp"):
            (folder / name).mkdir()
        monkeypatch.setenv("HOME", str(self.private))
        monkeypatch.setenv("DOCKER_CONFIG", str(self.private))
        monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
        monkeypatch.setenv("PATH", f"{self.private}:{os.environ.get('PATH', os.defpath)}")
        for name in (
            "REGISTRY_TOKEN", "GITHUB_TOKEN", "DOCKER_PASSWORD", "AWS_SECRET_ACCESS_KEY",
            "GITLAB_TOKEN", "CI_JOB_TOKEN", "HF_TOKEN", "NPM_TOKEN",
        ):  # fmt: skip
            monkeypatch.setenv(name, self.new())
        (self.private / ".netrc").write_text(f"machine 127.0.0.1 login x password {self.new()}\n")
        self.auths: dict[str, object] = {
            f"other{number}.example": {"auth": encoded(f"{self.new()}:{self.new()}")}
            for number in range(5)
        }
        self.helpers: dict[str, str] = {}
        self.extra: dict[str, object] = {"HttpHeaders": {"X-Secret": self.new()}}
        self.write()

    def new(self) -> str:
        return self.canaries.new()

    def write(self) -> None:
        document = {**self.extra, "auths": self.auths, "credHelpers": self.helpers}
        (self.private / "config.json").write_text(json.dumps(document))

    def login(self, host: str, **entry: str) -> tuple[str, str]:
        """A login of docker's file."""
        name, password = self.new(), self.new()
        self.auths[host] = entry or {"auth": encoded(f"{name}:{password}")}
        self.write()
        return name, password

    def helper(self, host: str, script: str) -> None:
        """A login by a helper."""
        name = f"h{len(self.helpers)}"
        program = self.private / f"docker-credential-{name}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o700)
        self.helpers[host] = name
        self.write()

    def remote(self, url: str, **options: object) -> Remote:
        """The workspace's registry as the host opens it."""
        provider = Provider("oci", {"url": url, **options})
        config = WorkspaceConfig("test", "1", str(self.folder / "work"), registry=provider)
        remotes = self.opened.enter_context(Remotes(config, policy=Policy(tries=1)))
        self.canaries.listen(remotes)
        found = remotes.workspace()
        assert found is not None
        self.canaries.listen(found, found.registry, vars(found.registry).get("place"))
        return found

    def fails(self, action: Callable[[], object]) -> EnvgraphError:
        with pytest.raises(EnvgraphError) as caught:
            action()
        error: BaseException | None = caught.value
        while error is not None:
            self.canaries.listen(error, error.__notes__ if hasattr(error, "__notes__") else "")
            error = error.__cause__
        self.canaries.listen(*(json.dumps(d.to_json()) for d in caught.value.diagnostics))
        return caught.value

    def envgraph(self, *words: str, password: str = "") -> int:
        """The command line in a process of its own; what it prints is listened to."""
        done = subprocess.run(
            [sys.executable, "-m", "envgraph", *words],
            cwd=self.folder / "work", input=password, capture_output=True, text=True,
            env={**os.environ, "ENVGRAPH_STORE": str(self.folder / "work" / "store")},
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        self.canaries.listen(done.stdout, done.stderr)
        return done.returncode


def echo(seen: Seen) -> Reply:
    """An error that tells all that came, decoded too."""
    words = [seen.target, *seen.headers.values(), seen.authorization.partition(" ")[2]]
    for word in list(words):
        try:
            words.append(base64.b64decode(word.partition(" ")[2] or word, validate=True).decode())
        except ValueError:
            continue
    errors = [{"code": "DENIED", "message": word} for word in words]
    return Reply(403, {"Content-Type": "application/json"}, json.dumps({"errors": errors}).encode())


@pytest.mark.slow
def test_no_canary_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    setup = Setup(tmp_path, monkeypatch)
    with setup.opened:
        _basic(setup)
        _tokens(setup)
        _helpers(setup)
        _elsewhere(setup)
        _proxies(setup, monkeypatch)
        _settings(setup)
        _command_line(setup)
    assert len(setup.canaries.made) >= 40
    out, err = capfd.readouterr()
    setup.canaries.listen(out, err, caplog.text)
    assert "urllib3" in caplog.text  # its log was on
    sources = frozenset(setup.private.rglob("*"))
    assert setup.canaries.search(tmp_path, but=sources) == []


def test_the_search_would_find_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, monkeypatch)
    secret = setup.new()
    for said in (secret, "Basic " + encoded(f"someone:{secret}")):
        setup.canaries.said = [f"an error with {said} in it"]
        assert setup.canaries.search(tmp_path / "work")


def _basic(setup: Setup) -> None:
    with ScriptedRegistry() as server:
        server.login = setup.login(server.host)
        remote = setup.remote(server.url)
        ask_everything(remote.registry)
        assert server.authorizations
        for method in ("GET", "PUT", "HEAD", "POST"):
            server.script(method, "/v2/", echo)
        repository = remote.repository("app")
        setup.fails(lambda: repository.get_manifest("1"))
        setup.fails(lambda: repository.put_manifest("1", b"{}", OCI_IMAGE_MANIFEST))
        setup.fails(lambda: repository.missing([Digest.of(b"")]))
        blob = Descriptor(LAYER, Digest.of(b"x"), 1)
        setup.fails(lambda: repository.push_blob(blob, lambda: io.BytesIO(b"x")))
        server.login = ("another", "one")
        setup.fails(lambda: setup.remote(server.url).registry.list().__next__())


def _tokens(setup: Setup) -> None:
    service = TokenService(prefix=setup.new())
    with ScriptedRegistry(tokens=service) as server:
        server.realm = f"{server.url}/token"
        service.login = setup.login(server.host)
        remote = setup.remote(server.url)
        ask_everything(remote.registry)
        assert service.given
        server.script("GET", "/manifests/", echo)
        setup.fails(lambda: remote.repository("app").get_manifest("1"))
        service.expire()
        server.script("GET", "/token", echo)
        setup.fails(lambda: remote.repository("app").get_manifest("1"))
        identity, registry_token = setup.new(), setup.new()
        setup.login(server.host, auth=encoded("u:"), identitytoken=identity)
        service.refresh = identity
        ask_everything(setup.remote(server.url).registry)
        server.script("POST", "/token", lambda seen: Reply(
            400, {}, json.dumps({"errors": [{"code": "X", "message": seen.body.decode()}]}).encode()
        ))  # fmt: skip
        setup.fails(lambda: setup.remote(server.url).repository("app").get_manifest("1"))
        setup.login(server.host, registrytoken=registry_token)
        server.script("GET", "/manifests/", lambda seen: None, echo)
        setup.fails(lambda: setup.remote(server.url).repository("app").get_manifest("1"))


def _helpers(setup: Setup) -> None:
    with ScriptedRegistry() as server:
        name, password = setup.new(), setup.new()
        server.login = (name, password)
        secret = json.dumps({"Username": name, "Secret": password})
        setup.helper(server.host, f"echo '{secret}'")
        ask_everything(setup.remote(server.url).registry)
        for script in (
            f"echo '{setup.new()}'; echo '{setup.new()}' >&2; exit 1",
            f"echo 'not json {setup.new()}'",
        ):
            setup.helper(server.host, script)
            setup.fails(lambda: setup.remote(server.url).repository("app").resolve("1"))
    del setup.helpers[server.host]
    (setup.private / "config.json").write_text(f'{{"auths": "{setup.new()}"')
    with ScriptedRegistry(login=("a", "b")) as server:
        setup.fails(lambda: setup.remote(server.url).repository("app").resolve("1"))
    setup.write()


def _elsewhere(setup: Setup) -> None:
    """Signed addresses are credentials, too: in redirects, upload addresses, lists and logs."""
    signed = [setup.new() for _ in range(4)]
    with ScriptedRegistry() as storage, ScriptedRegistry() as server:
        server.login = setup.login(server.host)
        remote = setup.remote(server.url)
        repository = remote.repository("app")
        where = [{"Location": f"{storage.url}/x?signature={text}"} for text in signed]
        storage.contents.blobs["app", str(Digest.of(b"layer"))] = b"layer"
        server.script("GET", "/blobs/", Reply(302, where[0]))
        server.script("POST", "/blobs/", Reply(202, where[1]), Reply(202, where[2]))
        storage.script("GET", "/x", Reply(200, {}, b"layer"))
        storage.script("PUT", "/x", Reply(201), echo)
        assert read(repository, b"layer") == b"layer"
        blob = Descriptor(LAYER, Digest.of(b"x"), 1)
        repository.push_blob(blob, lambda: io.BytesIO(b"x"))
        error = setup.fails(lambda: repository.push_blob(blob, lambda: io.BytesIO(b"x")))
        assert "DENIED" in str(error)
        server.script(
            "GET", "/blobs/", Reply(302, {"Location": f"http://127.0.0.1:1/?{signed[3]}"})
        )
        setup.fails(lambda: read(repository, b"layer"))
        for location in (
            f"http://u:{setup.new()}@127.0.0.1/",
            f"file:///{setup.new()}",
            f"https://169.254.169.254/{setup.new()}",
        ):
            server.script("GET", "/blobs/", Reply(302, {"Location": location}))
            setup.fails(lambda: read(repository, b"layer"))
        assert storage.authorizations == []


def _proxies(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedRegistry() as proxy, ScriptedRegistry() as server:
        monkeypatch.setenv("http_proxy", f"http://{setup.new()}:{setup.new()}@{proxy.host}")
        proxy.script("*", "", echo)
        setup.fails(lambda: setup.remote(server.url).repository("app").get_manifest("1"))
        monkeypatch.setenv("http_proxy", f"http://{setup.new()}:{setup.new()}@127.0.0.1:1")
        setup.fails(lambda: setup.remote(server.url).repository("app").get_manifest("1"))
        monkeypatch.delenv("http_proxy")


def _settings(setup: Setup) -> None:
    for url in ("https://{}:{}@ghcr.io", "ghcr.io?{}", "{}:{}@ghcr.io/x", "ghcr.io#{}"):
        setup.fails(lambda url=url: setup.remote(url.format(setup.new(), setup.new())))
    setup.canaries.listen(Credentials(setup.new(), setup.new(), setup.new()))


def _command_line(setup: Setup) -> None:
    with ScriptedRegistry() as server:
        (setup.folder / "work" / "envgraph.yaml").write_text(
            f"workspace: w\nid: '12345678'\nregistry: {{type: oci, url: '{server.url}'}}\n"
        )
        name, password = setup.new(), setup.new()
        server.login = ("someone", password)
        login = ("registry", "login", server.host, "--password-stdin", "--username")
        assert setup.envgraph(*login, "someone", password=setup.new()) == 1
        assert setup.envgraph(*login, "someone", password=password) == 0
        assert setup.envgraph("registry", "list", "--json") == 0
        assert setup.envgraph("registry", "login", f"{name}:{setup.new()}@{server.host}") == 1
        server.script("GET", "/v2/", echo, always=True)
        assert setup.envgraph(*login, "someone", password=password) == 1
        assert setup.envgraph("registry", "list") == 0


def test_a_manifest_that_echoes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is right leaks nothing either: what is kept there holds no login."""
    setup = Setup(tmp_path, monkeypatch)
    with setup.opened, ScriptedRegistry() as server:
        server.login = setup.login(server.host)
        remote = setup.remote(server.url)
        data = manifest(remote.registry.repository("app"))
        remote.repository("app").put_manifest("1", data, OCI_IMAGE_MANIFEST)
        setup.canaries.listen(server.contents.blobs, server.contents.manifests)
    assert setup.canaries.search(tmp_path / "work") == []
