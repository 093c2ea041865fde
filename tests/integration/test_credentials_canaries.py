"""Forty secrets through the whole of locking: none may be found afterwards.

Each canary is a text that occurs nowhere else. They are put where users put
credentials, every step of locking is run, the good way and into errors, and then
everything that was written, returned, logged or raised is searched, plain, quoted and
in base64.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envgraph.conda.channels import channel_sources
from envgraph.conda.fetch import fetch_package
from envgraph.conda.link import install_prefix
from envgraph.errors import EnvgraphError
from envgraph.lock.keep import StoredPackages
from envgraph.lock.lockfile import lockfile_text, read_lockfile, write_lockfile
from envgraph.lock.resolve import LockOutcome, lock_environment
from envgraph.model.config import WorkspaceConfig
from envgraph.model.documents import lock_bytes
from envgraph.model.locked import LockedBase, LockedEnvironment
from envgraph.model.spec import CondaSpec, EnvironmentSpec, PipLine, Requirement
from envgraph.testing.channel import ChannelMaker, make_package
from envgraph.testing.http import ChannelServer, Fault
from envgraph_store import Store
from tests.canaries import Canaries
from tests.integration.locking import DEFINITION, NOW, make_project, make_wheel


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, temporary folder and cache of its own, so that nothing hides elsewhere."""
    for name in ("home", "tmp", "cache", "state"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "home"


@pytest.fixture
def canaries(home: Path) -> Canaries:
    return Canaries(home)


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    maker = ChannelMaker(tmp_path / "channel").add(
        make_package("foo", "1.0", noarch="generic"),
        make_package("python", "3.11.7", "h1_0_cpython", files={"bin/python": "x"}),
    )
    return maker.index().folder


def unrelated(canaries: Canaries, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HF_TOKEN", "ANACONDA_API_TOKEN", "CONDA_TOKEN",
        "PIP_INDEX_URL", "UV_INDEX_URL", "UV_PUBLISH_TOKEN", "TWINE_PASSWORD", "NPM_TOKEN",
    ):  # fmt: skip
        secret = canaries.new()
        monkeypatch.setenv(name, f"https://u:{secret}@127.0.0.1:9/" if "URL" in name else secret)


class Run:
    """Locks, writes, reads, fetches and installs, and lets the canaries listen."""

    def __init__(self, canaries: Canaries, folder: Path, store: Store) -> None:
        self.canaries, self.folder, self.store = canaries, folder, store

    def lock(
        self,
        written: tuple[str, ...],
        *,
        requirements: tuple[str, ...] = ("foo",),
        pip: tuple[PipLine, ...] = (),
        **config: Any,
    ) -> LockOutcome:
        settings = WorkspaceConfig("test", "1", str(self.folder), **config)
        conda = CondaSpec(
            channels=written,
            dependencies=tuple(Requirement(text) for text in requirements),
            pip=pip,
            file=str(self.folder / "environment.yml"),
        )
        self.canaries.listen(channel_sources(conda, settings))
        outcome = lock_environment(
            EnvironmentSpec("test", image="scratch", conda=conda),
            "linux-64",
            settings,
            base=LockedBase("scratch"),
            definition=DEFINITION,
            packages=StoredPackages(self.store),
            now=NOW,
            offline=False,
        )
        self.canaries.listen(outcome, lockfile_text([outcome.lock]), lock_bytes(outcome.lock))
        with self.store.transaction() as transaction:
            transaction.add_bytes(lock_bytes(outcome.lock))
            transaction.commit()
        path = self.folder / "locks" / f"{len(self.canaries.said)}.conda-lock.yml"
        write_lockfile(path, [outcome.lock])
        assert not read_lockfile(path).edited
        self.install(outcome.lock, settings, conda)
        return outcome

    def install(self, lock: LockedEnvironment, config: WorkspaceConfig, conda: CondaSpec) -> None:
        kept = StoredPackages(self.store)
        for package in lock.packages:
            if not kept.has(package.sha256):
                writer = kept.writer()
                fetch_package(package, config, writer.write, offline=False, conda=conda)
                writer.finish()
        target = self.folder / "prefixes" / str(len(self.canaries.said))
        install_prefix(lock, lambda p: kept.path(p.sha256), target)

    def fails(self, action: Callable[[], object]) -> EnvgraphError:
        with pytest.raises(EnvgraphError) as caught:
            action()
        self.canaries.listen(
            caught.value, *(json.dumps(d.to_json()) for d in caught.value.diagnostics)
        )
        return caught.value


def logins(canaries: Canaries, home: Path) -> tuple[str, str, frozenset[Path]]:
    """A netrc, rattler's file and anaconda-client's tokens; the netrc's login comes back."""
    password = canaries.new()
    netrc = home / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login netrcuser password {password}\n")
    rattler = home / ".rattler" / "credentials.json"
    rattler.parent.mkdir()
    rattler.write_text(
        json.dumps(
            {
                "conda.invalid": {"CondaToken": canaries.new()},
                "basic.invalid": {
                    "BasicHTTP": {"username": canaries.new(), "password": canaries.new()}
                },
                "*.bearer.invalid": {"BearerToken": canaries.new()},
            }
        )
    )
    anaconda = home / ".continuum/anaconda-client/tokens/https%3A%2F%2Fapi.anaconda.org.token"
    anaconda.parent.mkdir(parents=True)
    anaconda.write_text(canaries.new())
    files = frozenset({netrc, rattler, anaconda})
    for file in files:
        file.chmod(0o600)
    return "netrcuser", password, files


@pytest.mark.slow
def test_no_canary_is_found(
    canaries: Canaries,
    home: Path,
    channel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    unrelated(canaries, monkeypatch)
    user, password, secret_files = logins(canaries, home)
    with Store.open(tmp_path / "state" / "store") as store:
        run = Run(canaries, tmp_path / "state", store)
        _channels(run, canaries, channel, monkeypatch)
        with ChannelServer(channel, username=user, password=password) as server:
            run.lock((server.url,))
            assert server.authorizations
        secret_files |= _references(run, canaries, channel, home, monkeypatch)
        _pip(run, canaries, channel, tmp_path, monkeypatch)
        _errors(run, canaries, channel)
    assert len(canaries.made) >= 40
    out, err = capfd.readouterr()
    canaries.listen(out, err, caplog.text)
    sources = frozenset(secret_files) | frozenset((tmp_path / "private").rglob("*"))
    assert canaries.search(tmp_path, but=sources) == []


def _channels(run: Run, canaries: Canaries, channel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Literal credentials in channel addresses, mirrors and requirements."""
    user, password, token = canaries.new(), canaries.new(), canaries.new()
    with ChannelServer(channel, username=user, password=password) as server:
        lock = run.lock((server.url_with_password,)).lock
        assert [p.channel for p in lock.packages] == [server.url]
        assert len(set(server.authorizations)) == 1
        run.lock(("conda-forge",), channels={"conda-forge": server.url_with_password})
    with ChannelServer(channel, token=token) as server:
        lock = run.lock((server.url,)).lock
        assert [p.channel for p in lock.packages] == [server.origin]
        run.lock(("conda-forge",), channels={"conda-forge": server.url})
        run.lock((channel.as_uri(),), requirements=(f"{server.url}::foo",))
    only = canaries.new()
    with ChannelServer(channel, username=only, password="") as server:
        run.lock((server.url.replace("://", f"://{only}:@"),))
    silent, secret = canaries.new(), canaries.new()
    with ChannelServer(channel, username=silent, password=secret) as server:
        other = ChannelServer(channel)
        with other:
            path = "/noarch/repodata_shards.msgpack.zst"
            target = f"{other.origin}{path}"
            server.fault(path, Fault(302, headers={"Location": target}))
            run.lock((server.url_with_password,))
            assert other.requests
            assert other.authorizations == ()


def _references(
    run: Run,
    canaries: Canaries,
    channel: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> frozenset[Path]:
    """``${NAME}`` from the environment and from the workspace's secrets."""
    for name in ("TEAM_USER", "TEAM_PASSWORD", "TEAM_TOKEN", "VAULT"):
        monkeypatch.setenv(name, canaries.new())
    user, password, token = (os.environ[n] for n in ("TEAM_USER", "TEAM_PASSWORD", "TEAM_TOKEN"))
    with ChannelServer(channel, username=user, password=password) as server:
        written = server.url.replace("://", "://${TEAM_USER}:${TEAM_PASSWORD}@")
        lock = run.lock((written,)).lock
        assert "${TEAM_USER}:${TEAM_PASSWORD}@" in lock.packages[0].url
    with ChannelServer(channel, token=token) as server:
        lock = run.lock((f"{server.origin}/t/${{TEAM_TOKEN}}",)).lock
        assert "/t/${TEAM_TOKEN}/" in lock.packages[0].url
        # What is recorded is enough to fetch again, without the environment's file.
        data = bytearray()
        plain = WorkspaceConfig("test", "1", str(run.folder))
        fetch_package(lock.packages[0], plain, data.extend, offline=False)
        assert data
    file = home / "secret-token"
    file.write_text(canaries.new() + "\n")
    with ChannelServer(channel, token=file.read_text().strip()) as server:
        run.lock(
            ("conda-forge",),
            channels={"conda-forge": f"{server.origin}/t/${{from_file}}"},
            secrets={"from_file": f"file:{file}"},
        )
    with ChannelServer(channel, token=os.environ["VAULT"]) as server:
        run.lock(
            ("conda-forge",),
            channels={"conda-forge": f"{server.origin}/t/${{vault}}"},
            secrets={"vault": "env:VAULT"},
        )
    return frozenset({file})


def _pip(
    run: Run,
    canaries: Canaries,
    channel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Indexes, links and direct addresses with credentials."""
    site = tmp_path / "site"
    wheel = make_wheel(site, "gamma", "1.0")
    (site / "links.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    wanted = PipLine("requirement", "gamma")
    alone = PipLine("option", "--no-index")
    conda = (channel.as_uri(),)
    both = ("foo", "python")
    user, password = canaries.new(), canaries.new()
    with ChannelServer(site, username=user, password=password) as server:
        links = PipLine("option", f"--find-links {server.url_with_password}/links.html")
        lock = run.lock(conda, requirements=both, pip=(wanted, alone, links)).lock
        assert lock.packages[-1].url == f"{server.origin}/{wheel.name}"
        again = CondaSpec(pip=(links,))
        plain = WorkspaceConfig("test", "1", str(run.folder))
        fetch_package(lock.packages[-1], plain, lambda _: None, offline=False, conda=again)
        run.fails(lambda: fetch_package(lock.packages[-1], plain, lambda _: None, offline=False))
        direct = PipLine("url", f"{server.url_with_password}/{wheel.name}")
        lock = run.lock(conda, requirements=both, pip=(direct, alone)).lock
        assert lock.packages[-1].url == f"{server.origin}/{wheel.name}"
    monkeypatch.setenv("LINKS_USER", canaries.new())
    monkeypatch.setenv("LINKS_PASSWORD", canaries.new())
    user, password = os.environ["LINKS_USER"], os.environ["LINKS_PASSWORD"]
    with ChannelServer(site, username=user, password=password) as server:
        place = server.url.replace("://", "://${LINKS_USER}:${LINKS_PASSWORD}@")
        links = PipLine("option", f"--find-links {place}/links.html")
        run.lock(conda, requirements=both, pip=(wanted, alone, links))
    repository = make_project(tmp_path / "private" / "repository", "fromgit")
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    git = canaries.new()
    failing = PipLine("url", f"git+http://me:{git}@127.0.0.1:9/repository.git")
    run.fails(lambda: run.lock(conda, requirements=both, pip=(failing, alone)))
    with ChannelServer(site, username="other", password="than-these") as server:
        place = server.origin.replace("://", f"://{canaries.new()}:{canaries.new()}@")
        index = PipLine("option", f"--index-url {place}/simple")
        error = run.fails(lambda: run.lock(conda, requirements=both, pip=(wanted, index)))
        assert error.diagnostics[0].code == "pip-index", error.diagnostics
        own = server.origin.replace("://", f"://u:{canaries.new()}@") + "/simple"
        run.fails(lambda: run.lock(conda, requirements=both, pip=(wanted,), pip_indexes=(own,)))


def _errors(run: Run, canaries: Canaries, channel: Path) -> None:
    """Every way in which a channel with credentials can fail."""
    for fault in (Fault(404), Fault(500), Fault(200, "garbage"), Fault(200, "half")):
        user, password = canaries.new(), canaries.new()
        with ChannelServer(channel, username=user, password=password) as server:
            server.fault("*", fault)
            url = server.url_with_password
            run.fails(lambda url=url: run.lock((url,)))  # type: ignore[misc]
    with ChannelServer(channel, token=canaries.new()) as server:
        url = server.url.replace("/t/", "/t/wrong")
        run.fails(lambda: run.lock((url,)))
        run.fails(lambda: run.lock((server.url,), requirements=("foo >=99", "absent")))
        run.fails(lambda: run.lock((server.url,), requirements=(f"{server.url}::foo ==",)))
    gone = canaries.new()
    run.fails(lambda: run.lock((f"http://u:{gone}@127.0.0.1:9/t/{gone}/x",)))
    run.fails(lambda: run.lock((f"s3://u:{gone}@bucket/x",)))
    run.fails(lambda: run.lock((f"https://u:{gone}@host.invalid/${{UNSET_VARIABLE}}/x",)))
