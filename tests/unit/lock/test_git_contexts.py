"""Build contexts in git repositories: what is pinned, what is read, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envgraph.errors import EnvgraphError, IntegrityError, SourceLocation
from envgraph.lock.contexts import Contexts, FoundContext
from envgraph.lock.git import Git
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedContext
from envgraph.model.spec import BuildSpec
from envgraph.spec.context_address import GitContext, parse_context
from envgraph.spec.tree import context_tree
from envgraph.testing.http import ChannelServer
from envgraph_store import Digest, Store
from tests.registries import make_certificates
from tests.repositories import GitServer, Repository

FILES: dict[str, str | bytes | Path] = {
    "README": "top\n",
    "docker/Dockerfile": "FROM scratch\nCOPY . /\n",
    "docker/run.sh*": "#!/bin/sh\n",
    "docker/deep/er/a.txt": "a\n",
    "docker/link": Path("deep/er/a.txt"),
    "docker/noise.log": "noise\n",
    "docker/.dockerignore": "*.log\n",
    "docker/.gitignore": "run.sh\n",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Repository:
    return Repository.make(tmp_path / "served" / "env.git", FILES)


def contexts(store: Store, *, offline: bool = False, **more: Any) -> Contexts:
    return Contexts(WorkspaceConfig("w", "i", "/", **more), store, offline=offline)


def lock(
    store: Store, path: str, before: LockedContext | None = None, *, offline: bool = False,
    dockerfile: str = "Dockerfile",
) -> FoundContext:  # fmt: skip
    build = BuildSpec(path, dockerfile, None, SourceLocation("far.yml", 3, 9))
    return contexts(store, offline=offline).lock(build, before)


def code(store: Store, path: str, **more: Any) -> str:
    with pytest.raises(EnvgraphError) as caught:
        lock(store, path, **more)
    [problem] = caught.value.diagnostics
    assert problem.source is not None
    assert (problem.source.file, problem.source.line) == ("far.yml", 3)
    return problem.code


def test_a_branch_is_pinned_and_its_tree_is_that_of_the_folder(
    store: Store, repository: Repository
) -> None:
    found = lock(store, f"{repository.url}#main:docker", offline=True)
    origin = found.locked.origin
    assert origin is not None
    assert origin.pinned == repository.git("rev-parse", "main")
    assert (origin.kind, origin.ref) == ("git", "refs/heads/main")
    assert origin.address == f"{repository.url}#main:docker"
    # .gitignore says what is uploaded from a folder; nothing is uploaded here
    (repository.folder / "docker" / ".gitignore").write_text("")
    here = context_tree(repository.folder / "docker")
    theirs = contexts(store).bring(found.build, found.locked)
    empty = Digest.of(b"")
    assert {replace(e, digest=None, size=0) if e.path == ".gitignore" else e for e in theirs} == {
        replace(e, digest=None) if e.digest == empty else e for e in here.entries
    }


@pytest.mark.parametrize("folder", ["docker", ""])
def test_the_tree_is_the_same_as_that_of_a_clone(
    store: Store, repository: Repository, folder: str
) -> None:
    repository.commit({"docker/.gitignore": "", "Dockerfile": "FROM scratch\n"})
    found = lock(store, f"{repository.url}#main:{folder}")
    assert found.locked.tree == context_tree(repository.folder / folder).digest
    listing = store.blobs.read(found.locked.tree)
    assert listing.startswith(b"envgraph.tree/1\n")


def test_what_is_pinned_is_read_from_the_store_when_the_repository_is_gone(
    store: Store, repository: Repository
) -> None:
    found = lock(store, f"{repository.url}#main:docker")
    shutil.rmtree(repository.folder)
    build = replace(found.build, tree=None)
    entries = contexts(store, offline=True).bring(build, found.locked)
    assert "run.sh" in {entry.path for entry in entries}
    assert "noise.log" not in {entry.path for entry in entries}
    again = {entry.path: entry for entry in entries}["deep/er/a.txt"]
    assert again.digest is not None
    assert store.blobs.read(again.digest) == b"a\n"


def test_an_empty_store_fetches_the_pinned_commit_and_not_the_branch(
    tmp_path: Path, store: Store, repository: Repository
) -> None:
    found = lock(store, f"{repository.url}#main:docker")
    repository.commit({"docker/deep/er/a.txt": "b\n"})
    build = BuildSpec(f"{repository.url}#main:docker")
    with Store.open(tmp_path / "other") as other:
        entries = contexts(other).bring(build, found.locked)
    assert {entry.path for entry in entries} >= {"deep/er/a.txt", "link"}


def test_a_previous_lock_keeps_its_commit_until_the_ref_is_another_one(
    store: Store, repository: Repository
) -> None:
    first = lock(store, f"{repository.url}#main:docker").locked
    repository.git("branch", "side")
    second = repository.commit({"Dockerfile": "FROM scratch\n"})
    kept = lock(store, f"{repository.url}#main:docker", first).locked
    assert kept == first
    moved = lock(store, f"{repository.url}#main", None).locked
    assert moved.origin is not None
    assert moved.origin.pinned == second
    side = lock(store, f"{repository.url}#side:docker", moved).locked
    assert side.origin is not None
    assert side.origin.pinned == first.origin.pinned if first.origin else False


def test_what_the_store_keeps_is_not_fetched_again(store: Store, repository: Repository) -> None:
    url = f"{repository.url}#main:docker"
    first = lock(store, url).locked
    build = BuildSpec(url, arguments={"NEW": "1"})
    assert contexts(store).lock(build, first, anew=True).locked.tree == first.tree
    shutil.rmtree(repository.folder)
    again = contexts(store, offline=True).lock(build, first).locked
    assert again == replace(first, arguments={"NEW": "1"})
    with pytest.raises(EnvgraphError):
        contexts(store).lock(build, first, anew=True)


def test_nobody_is_asked_twice_in_vain(
    store: Store, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = Git.look_up

    def counted(self: Git, ref: str) -> tuple[str, str, bool]:
        asked.append(ref)
        return real(self, ref)

    monkeypatch.setattr(Git, "look_up", counted)
    finder = contexts(store)
    for line in (3, 9):
        build = BuildSpec(f"{repository.url}#none", source=SourceLocation("far.yml", line))
        with pytest.raises(EnvgraphError) as caught:
            finder.lock(build, None)
        assert caught.value.diagnostics[0].source == build.source
    assert asked == ["none"]


def test_refs_of_every_kind(store: Store, repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "-a", "v1", "-m", "annotated")
    repository.git("update-ref", "refs/pull/7/head", first)
    second = repository.commit({"README": "two\n"})
    url = repository.url
    expected = {
        f"{url}#v1:docker": (first, "refs/tags/v1"),
        f"{url}#refs/heads/main:docker": (second, "refs/heads/main"),
        f"{url}#:docker": (second, "HEAD"),
        f"{url}#pull/7/head:docker": (first, "refs/pull/7/head"),
        f"{url}#{first}:docker": (first, ""),
        f"git+{url}#main:docker": (second, "refs/heads/main"),
    }
    for address, wanted in expected.items():
        origin = lock(store, address).locked.origin
        assert origin is not None
        assert (origin.pinned, origin.ref) == wanted, address


def test_a_tag_comes_before_a_branch_and_that_is_said(store: Store, repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "main")
    repository.commit({"README": "two\n"})
    found = lock(store, f"{repository.url}#main:docker")
    assert found.locked.origin is not None
    assert found.locked.origin.pinned == first
    assert [remark.code for remark in found.remarks] == ["context-ambiguous"]


def test_what_is_not_there_is_named(store: Store, repository: Repository) -> None:
    url = repository.url
    short = repository.git("rev-parse", "--short", "HEAD")
    assert code(store, f"{url}#nothing") == "context-ref"
    assert code(store, f"{url}#{short}") == "context-ref"
    assert code(store, f"{url}#{'1' * 40}") == "context-gone"
    assert code(store, f"{url}#main:dokcer") == "context-folder"
    assert code(store, f"{url}#main:README") == "context-folder"
    assert code(store, f"{url}.gone.git") == "context-repository"
    assert code(store, f"{url}#main:docker", dockerfile="Other") == "missing-dockerfile"
    with pytest.raises(EnvgraphError) as caught:
        lock(store, f"{url}#main:dokcer")
    assert caught.value.diagnostics[0].hint == "did you mean 'docker'?"


def test_links_never_lead_out(store: Store, repository: Repository) -> None:
    repository.commit({"way": Path("docker"), "out": Path("/etc")})
    assert code(store, f"{repository.url}#main:way") == "context-folder"
    assert code(store, f"{repository.url}#main:out") == "context-folder"
    repository.commit({"docker/up": Path("../README")})
    assert code(store, f"{repository.url}#main:docker") == "link-escape"
    repository.commit({"docker/.dockerignore": "up\n"})
    assert lock(store, f"{repository.url}#main:docker").locked.tree


def test_nothing_of_a_repository_is_run(
    store: Store, repository: Repository, tmp_path: Path, home: Path
) -> None:
    marker = tmp_path / "ran"
    (home / ".gitconfig").write_text(
        f'[filter "evil"]\n\tsmudge = touch {marker}; cat\n[core]\n\tautocrlf = true\n'
    )
    for name in ("post-checkout", "post-merge", "reference-transaction", "pre-auto-gc"):
        hook = repository.folder / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
        hook.chmod(0o755)
    repository.git("config", "core.hooksPath", "/dev/null")
    repository.commit(
        {"docker/.gitattributes": "* filter=evil text eol=crlf ident\n", "docker/id": "$Id$\n"}
    )
    repository.git("config", "--unset", "core.hooksPath")
    found = lock(store, f"{repository.url}#main:docker")
    entry = next(e for e in contexts(store).bring(found.build, found.locked) if e.path == "id")
    assert entry.digest is not None
    assert store.blobs.read(entry.digest) == b"$Id$\n"
    assert not marker.exists()


def test_submodules_come_along_at_their_commits(
    store: Store, repository: Repository, tmp_path: Path
) -> None:
    inner = Repository.make(tmp_path / "served" / "inner.git", {"deepest": "d\n"})
    middle = Repository.make(tmp_path / "served" / "middle.git", {"m": "m\n"})
    middle.git("submodule", "-q", "add", "../inner.git", "in")
    middle.commit({})
    for name, module in (("docker/mod", "../middle.git"), ("elsewhere", "../inner.git")):
        repository.git("submodule", "-q", "add", module, name)
    repository.commit({})
    inner.commit({"deepest": "moved on\n"})
    found = lock(store, f"{repository.url}#main:docker")
    entries = {e.path: e for e in contexts(store).bring(found.build, found.locked)}
    assert {"mod/m", "mod/in/deepest"} <= entries.keys()
    assert "mod/.git" not in entries
    digest = entries["mod/in/deepest"].digest
    assert digest is not None
    assert store.blobs.read(digest) == b"d\n"
    assert code(store, f"{repository.url}#main:docker/mod") == "context-folder"


@pytest.mark.parametrize("address", ["ext::sh -c touch% x", "--upload-pack=touch x", "-x", "/etc"])
def test_a_hostile_submodule_is_refused(store: Store, repository: Repository, address: str) -> None:
    commit = repository.git("rev-parse", "HEAD")
    repository.write({".gitmodules": f'[submodule "m"]\n\tpath = docker/m\n\turl = {address}\n'})
    repository.git("add", ".gitmodules")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},docker/m")
    repository.git("commit", "-q", "-m", "hostile")
    wanted = "context-repository" if address == "/etc" else "context-submodule"
    assert code(store, f"{repository.url}#main:docker") == wanted


def test_a_remote_repository_names_no_local_submodule(
    store: Store, repository: Repository, tmp_path: Path
) -> None:
    Repository.make(tmp_path / "secret", {"s": "s\n"})
    repository.git("submodule", "-q", "add", (tmp_path / "secret").as_uri(), "docker/m")
    repository.commit({})
    with GitServer(tmp_path / "served").running() as server:
        assert code(store, f"{server.url}/env.git#main:docker") == "context-submodule"


def test_pointers_of_lfs_are_said(store: Store, repository: Repository) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    repository.commit({"docker/model.bin": pointer, "docker/x.log": pointer})
    [remark] = lock(store, f"{repository.url}#main:docker").remarks
    assert (remark.code, remark.severity) == ("context-lfs", "warning")
    assert "model.bin" in remark.summary
    assert "x.log" not in remark.summary


# -- over HTTP ---------------------------------------------------------------


def test_smart_http_fetches_one_commit_without_its_history(
    store: Store, repository: Repository, tmp_path: Path
) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.commit({"README": "2\n"})
    with GitServer(tmp_path / "served").running() as server:
        url = f"{server.url}/env.git"
        found = lock(store, f"{url}#main:docker")
        assert found.locked.origin is not None
        folder = tmp_path / "fetched"
        folder.mkdir()
        git = Git(url, folder)
        git.fetch(found.locked.origin.pinned, "refs/heads/main")
        assert git.has(found.locked.origin.pinned)
        assert not git.has(first)
        assert code(store, f"{url}#main", offline=True) == "offline"
        assert code(store, f"{server.url}/none.git#main") == "context-repository"


def test_dumb_http_works_too(store: Store, repository: Repository, tmp_path: Path) -> None:
    first = lock(store, f"{repository.url}#main:docker").locked
    assert first.origin is not None
    repository.commit({"README": "2\n"})
    repository.git("gc", "-q")
    repository.git("update-server-info")
    shutil.copytree(repository.folder / ".git", tmp_path / "plain" / "env.git")
    with ChannelServer(tmp_path / "plain") as server, Store.open(tmp_path / "other") as other:
        url = f"{server.url}/env.git#main:docker"
        origin = replace(first.origin, address=url)
        contexts(other).bring(BuildSpec(url), replace(first, origin=origin))
        assert lock(other, url).locked.tree == first.tree


def test_credentials_of_the_address_reach_the_server_and_nothing_else(
    store: Store, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "canary-5ecret%2F"
    monkeypatch.setenv("DEPLOY_TOKEN", "canary-5ecret/")
    with GitServer(tmp_path / "served", "me:canary-5ecret/").running() as server:
        host = server.url.removeprefix("http://")
        for login in (f"me:{secret}", "me:${DEPLOY_TOKEN}"):
            found = lock(store, f"http://{login}@{host}/env.git#main:docker")
            assert found.locked.origin is not None
            assert found.locked.origin.address == f"http://{host}/env.git#main:docker"
        assert server.authorizations
        assert code(store, f"http://{host}/env.git#main") == "context-credentials"
        with pytest.raises(EnvgraphError) as caught:
            lock(store, f"http://me:canary-other@{host}/env.git#main")
        [problem] = caught.value.diagnostics
        assert problem.code == "context-credentials"
        assert "canary" not in f"{problem!r}{caught.value}"
        netrc = Path(os.environ["HOME"]) / ".netrc"
        netrc.write_text("machine 127.0.0.1 login me password canary-5ecret/\n")
        netrc.chmod(0o600)
        assert lock(store, f"http://{host}/env.git#main:docker").locked.tree == found.locked.tree
    kept = b"".join(p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file())
    assert b"canary" not in kept


def test_a_password_is_on_no_command_line(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[object] = []
    real = Git._start

    def watched(self: Git, words: Any, *rest: Any) -> Any:
        process = real(self, words, *rest)
        said.append(process.args)
        return process

    monkeypatch.setattr(Git, "_start", watched)
    with GitServer(tmp_path / "served", "me:canary").running() as server:
        address = server.url.replace("://", "://me:canary@") + "/env.git"
        folder = tmp_path / "f"
        folder.mkdir()
        git = Git(address, folder)
        commit, ref, _ = git.look_up("main")
        git.fetch(commit, ref)
    assert said
    assert "canary" not in repr(said)
    assert b"canary" not in b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())


def test_https_trusts_what_the_user_trusts_and_is_never_weakened(
    store: Store, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    served = tmp_path / "served"
    with (
        GitServer(served).running() as plain,
        GitServer(served, "me:canary", certificates).running() as server,
    ):
        address = server.url.replace("://", "://me:canary@") + "/env.git#main:docker"
        assert code(store, address) == "context-certificate"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
        assert lock(store, address).locked.origin
        server.elsewhere = plain.url
        with pytest.raises(EnvgraphError):
            lock(store, address)
        assert plain.requests == []
        plain.elsewhere, plain.login = server.url, ""
        server.elsewhere, server.login = "", "me:other"
        server.authorizations.clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
        with pytest.raises(EnvgraphError):
            lock(store, plain.url.replace("://", "://me:canary@") + "/env.git#main:docker")
        assert server.authorizations == []


@pytest.mark.parametrize("own", [False, True])
def test_ssh_never_asks_and_the_users_own_way_is_kept(
    store: Store, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    said = tmp_path / "said"
    tools = tmp_path / "tools"
    tools.mkdir()
    program = tools / ("mine" if own else "ssh")
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {said}\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    if own:
        Repository(repository.folder).git("config", "--file", str(Path(os.environ["HOME"]) /
                   ".gitconfig"), "core.sshCommand", "mine -i key")  # fmt: skip
    for address in (
        f"ssh://deploy@h.example{repository.folder}",
        f"git@h.example:{repository.folder}",
    ):
        found = lock(store, f"{address}#main:docker")
        assert found.locked.origin is not None
        assert found.locked.origin.address == f"{address}#main:docker"
    words = said.read_text()
    assert ("-oBatchMode=yes" in words) is not own
    assert ("-i key" in words) is own
    assert "deploy@h.example" in words
    assert code(store, f"ssh://h.example{repository.folder}#main", offline=True) == "offline"


def test_a_server_that_says_nothing_ends_in_time(home: Path, tmp_path: Path) -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        git = Git(f"http://127.0.0.1:{port}/x.git", tmp_path, look_seconds=0.5)
        with pytest.raises(EnvgraphError) as caught:
            git.look_up("main")
    assert caught.value.diagnostics[0].code == "context-timeout"
    assert "did not end within" in str(caught.value)


def test_an_interrupt_ends_git(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import subprocess

    started: list[subprocess.Popen[bytes]] = []

    def interrupted(self: subprocess.Popen[bytes], *rest: Any, **more: Any) -> Any:
        started.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        git = Git(f"http://127.0.0.1:{listener.getsockname()[1]}/x.git", tmp_path)
        with pytest.raises(KeyboardInterrupt):
            git.look_up("main")
    [process] = started
    assert process.returncode is not None


def test_without_git_that_is_said(
    store: Store, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code(store, f"{repository.url}#main:docker") == "no-git"


def test_a_host_that_is_not_there_is_said(store: Store, home: Path) -> None:
    import socket

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert code(store, f"http://127.0.0.1:{port}/x.git#main") == "context-unreachable"


def test_another_tree_than_the_locked_one_is_refused(
    store: Store, repository: Repository, tmp_path: Path
) -> None:
    found = lock(store, f"{repository.url}#main:docker")
    wrong = replace(found.locked, tree=Digest.of(b"another"))
    with pytest.raises(IntegrityError) as caught:
        contexts(store).bring(BuildSpec(f"{repository.url}#main:docker"), wrong)
    assert caught.value.diagnostics[0].code == "context-changed"


def test_each_ref_is_asked_once_for_several_platforms(
    store: Store, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = Git._run

    def counted(self: Git, words: Any, seconds: float) -> bytes:
        asked.append(words[0])
        return real(self, words, seconds)

    monkeypatch.setattr(Git, "_run", counted)
    finder = contexts(store)
    build = BuildSpec(f"{repository.url}#main:docker")
    assert finder.lock(build, None) is finder.lock(build, None)
    assert (asked.count("ls-remote"), asked.count("fetch")) == (1, 1)


def test_the_context_of_an_address_without_folder_has_no_dash() -> None:
    assert parse_context("https://h/x.git") == GitContext("https://h/x.git")
