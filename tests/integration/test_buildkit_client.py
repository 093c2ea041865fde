"""The BuildKit client with a real worker: graphs, exporters, Dockerfiles, crowds, refusals."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import BuilderError, Event
from envgraph.testing.base import Base, make_base
from envgraph_buildkit import (
    BuildkitClient,
    Docker,
    Image,
    InlineCache,
    Local,
    LocalCache,
    Oci,
    RegistryCache,
    Solved,
    Tar,
    llb,
)
from tests.buildkit import push
from tests.daemons import Daemon
from tests.registries import docker_registry
from tests.services import require_tool

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base") / "layout")


@pytest.fixture(scope="module")
def client(current_dockerd: Daemon) -> Iterator[BuildkitClient]:
    with BuildkitClient(os.environ.get("ENVGRAPH_BUILDKITD") or current_dockerd.address) as made:
        yield made


@pytest.fixture(scope="module")
def old(old_dockerd: Daemon) -> Iterator[BuildkitClient]:
    with BuildkitClient(old_dockerd.address) as made:
        yield made


@pytest.fixture
def solve(client: BuildkitClient, layout: Base) -> Callable[..., Solved]:
    def call(state: llb.State, **settings: Any) -> Solved:
        return client.solve(state, oci_layouts={"base": layout.layout}, **settings)

    return call


@pytest.fixture
def base(layout: Base) -> llb.State:
    return llb.oci_layout("base", layout.manifest)


def run(state: llb.State, command: str, **settings: Any) -> llb.State:
    return state.run(command, network="none", **settings)


def failure(call: Callable[[], object]) -> BuilderError:
    with pytest.raises(BuilderError) as caught:
        call()
    return caught.value


# Graphs


def test_a_command_and_file_actions(
    solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    state = run(base.with_env(A="1").with_cwd("/w"), 'echo "$A $(pwd)" > /seen; echo x > /gone')
    state = state.file(
        llb.Mkdir("sub/deep", 0o700, parents=True),
        llb.Mkfile("sub/f", b"hello\n", 0o640, owner="7:8", time=1_000_000_000),
        llb.Rm("/gone"),
        llb.Copy(base, "/etc/passwd", "/w/copied"),
    )
    done = solve(state, exporters=[Local(tmp_path / "out"), Tar(tmp_path / "out.tar")])
    out = tmp_path / "out"
    assert done.digest == ""
    assert (out / "seen").read_text() == "1 /w\n"
    assert not (out / "gone").exists()
    assert (out / "w/sub/f").read_bytes() == b"hello\n"
    assert stat.S_IMODE((out / "w/sub/f").stat().st_mode) == 0o640
    assert (out / "w/sub/f").stat().st_mtime == 1_000_000_000
    assert stat.S_IMODE((out / "w/sub/deep").stat().st_mode) == 0o700
    assert (out / "w/copied").read_text().startswith("root:")
    with tarfile.open(tmp_path / "out.tar") as archive:
        member = archive.getmember("w/sub/f")
        assert (member.uid, member.gid) == (7, 8)


def test_mounts(solve: Callable[..., Solved], base: llb.State, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    for name in ("a.txt", "d/b.txt", "d/skip.log"):
        (source / name).write_text(name)
    events: list[Event] = []
    command = (
        "cat /run/secrets/s > /dev/null && echo $TOKEN && find /in -type f | sort > /out/list"
        " && touch /tmp/x && echo again >> /keep/log && cp /keep/log /out/log"
    )
    mounts: list[llb.Mount] = [
        llb.Bind("/in", llb.local("src", exclude=["**/*.log"]), readonly=True),
        llb.Bind("/out"),
        llb.Cache("/keep", f"test-{tmp_path}"),
        llb.Tmpfs("/tmp"),
        llb.Secret("s"),
        llb.Secret("t", variable="TOKEN"),
    ]
    settings: dict[str, Any] = {
        "local": {"src": source}, "on_event": events.append,
        "secrets": {"s": b"one", "t": lambda: b"canary-value"},
    }  # fmt: skip
    base = base.with_env(NONCE=str(tmp_path))
    one = base.execute(command, network="none", mounts=mounts)
    solve(one.mount("/out"), exporters=[Local(tmp_path / "one")], **settings)
    assert (tmp_path / "one/list").read_text() == "/in/a.txt\n/in/d/b.txt\n"
    assert "canary-value" not in repr(events)
    assert any("***" in event.text for event in events)
    two = base.execute(f"{command}; true", network="none", mounts=mounts)  # the cache is kept
    solve(two.mount("/out"), exporters=[Local(tmp_path / "two")], **settings)
    assert (tmp_path / "two/log").read_text() == "again\nagain\n"
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"list", "log"}
    solve(two.root, exporters=[Local(tmp_path / "root")], **settings)
    assert not (tmp_path / "root/out/list").exists()


def test_a_file_of_a_folder_that_changes_is_sent_and_others_are_not_built_again(
    solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("1")
    state = base.file(llb.Copy(llb.local("changing"), "/", "/c/", contents=True, parents=True))
    settings: dict[str, Any] = {"local": {"changing": source}}
    solve(state, exporters=[Local(tmp_path / "one")], **settings)
    (source / "a").write_text("2")
    solve(state, exporters=[Local(tmp_path / "two")], **settings)
    assert [(tmp_path / n / "c/a").read_text() for n in ("one", "two")] == ["1", "2"]


def test_merge_and_diff(solve: Callable[..., Solved], base: llb.State, tmp_path: Path) -> None:
    made = run(base, "echo new > /new; rm /etc/passwd")
    only = llb.diff(base, made)
    solve(only, exporters=[Local(tmp_path / "diff")])
    assert (tmp_path / "diff/new").read_text() == "new\n"
    assert not (tmp_path / "diff/bin").exists()
    other = llb.scratch().file(llb.Mkfile("/other", b"o"))
    solve(llb.merge(base, only, other), exporters=[Local(tmp_path / "merged")])
    assert (tmp_path / "merged/other").read_bytes() == b"o"
    assert (tmp_path / "merged/new").exists()
    assert not (tmp_path / "merged/etc/passwd").exists()
    assert (tmp_path / "merged/bin").is_dir()


def test_a_graph_with_nothing_in_it(solve: Callable[..., Solved]) -> None:
    assert failure(lambda: solve(llb.scratch())).code == "builder-options"


def test_a_folder_that_nobody_named(solve: Callable[..., Solved]) -> None:
    error = failure(lambda: solve(llb.local("what")))
    assert (error.code, "what" in str(error)) == ("builder-options", True)


def test_a_command_that_fails(
    solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    state = run(base, "echo some words; exit 9", name="the step")
    error = failure(lambda: solve(state, exporters=[Local(tmp_path / "out")]))
    assert (error.code, error.status) == ("step-failed", 9)
    assert "some words" in error.output
    assert "the step" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_what_a_worker_does_not_know_is_refused_by_name(
    solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    """The worker in dockerd 26 knows neither; a buildkitd of today both."""
    link = base.file(llb.Symlink("f", "/l"))
    for state, name in (
        (link, "file.symlink.create"),
        (run(base, "ln -s f /l; exit 9", exit_codes=[0, 9]), "exec.validexitcode"),
    ):
        out = tmp_path / name
        refused: BuilderError | None = None
        try:
            solve(state, exporters=[Local(out)])
        except BuilderError as error:
            refused = error
        if refused is None:
            assert (out / "l").readlink() == Path("f")
        else:
            assert (refused.code, name in str(refused)) == ("builder-lacks", True)


def test_cancel(solve: Callable[..., Solved], base: llb.State) -> None:
    cancel = threading.Event()

    def on_event(event: Event) -> None:
        if "up" in event.text:
            cancel.set()

    state = run(base, "echo up; sleep 600", fresh=True)
    assert failure(lambda: solve(state, cancel=cancel, on_event=on_event)).code == "cancelled"


def test_a_timeout(solve: Callable[..., Solved], base: llb.State) -> None:
    state = run(base, "sleep 600", fresh=True)
    assert failure(lambda: solve(state, timeout=1.0)).code == "builder-timeout"


def test_several_builds_at_once_over_one_connection(
    solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    """Each waits in its secret until all are there: one after the other would never end."""
    crowd = 4
    meeting = threading.Barrier(crowd)

    def secret() -> bytes:
        meeting.wait(60)
        return b"x"

    def build(number: int) -> str:
        mounts = [llb.Secret("s")]
        state = run(base, f"cat /run/secrets/s; echo {number} > /n", mounts=mounts, fresh=True)
        out = tmp_path / str(number)
        solve(state, secrets={"s": secret}, exporters=[Local(out)])
        return (out / "n").read_text()

    with ThreadPoolExecutor(crowd) as pool:
        assert list(pool.map(build, range(crowd))) == [f"{n}\n" for n in range(crowd)]


# Exporters


def test_every_exporter_at_once(
    solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    skopeo = require_tool("skopeo")
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {"Env": ["A=b"]},
                         "rootfs": {"type": "layers", "diff_ids": []}}).encode()  # fmt: skip
    done = solve(
        run(base, "echo 1 > /one"),
        config=config,
        exporters=[
            Oci(tmp_path / "oci.tar", "h.test/oci:1"),
            Docker(tmp_path / "docker.tar", "h.test/d:2"),
            Oci(tmp_path / "folder", "h.test/f:3", tar=False),
            Tar(tmp_path / "files.tar"),
            Local(tmp_path / "files"),
        ],
    )  # fmt: skip
    seen = {}
    for source in ("oci-archive:{}/oci.tar", "docker-archive:{}/docker.tar", "oci:{}/folder"):
        shown = subprocess.run(
            [skopeo, "inspect", "--config", source.format(tmp_path)],
            check=True, capture_output=True,
        )  # fmt: skip
        found = json.loads(shown.stdout)
        assert found["config"]["Env"] == ["A=b"]
        seen[source] = found["rootfs"]["diff_ids"]
    assert len({tuple(each) for each in seen.values()}) == 1
    assert done.digest
    index = json.loads((tmp_path / "folder/index.json").read_text())
    named = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
    assert named == "h.test/f:3"
    assert (tmp_path / "files/one").read_text() == "1\n"
    with tarfile.open(tmp_path / "files.tar") as archive:
        assert "one" in archive.getnames()
    assert not list(tmp_path.glob(".*.part"))


def test_equal_inputs_give_an_equal_image(
    client: BuildkitClient, solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    digests = []
    for _ in range(2):
        state = run(base, "mkdir /d; echo 1 > /d/f", fresh=True)
        done = solve(state, epoch=1_000_000_000, exporters=[Oci(tmp_path / "image.tar")])
        digests.append(done.digest)
    assert digests[0] == digests[1]


def test_an_image_is_pushed(solve: Callable[..., Solved], base: llb.State, tmp_path: Path) -> None:
    skopeo = require_tool("skopeo")
    with docker_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/made:1"
        done = solve(run(base, "echo p > /p"), exporters=[Image(name, push=True)])
        shown = subprocess.run(
            [skopeo, "inspect", "--tls-verify=false", f"docker://{name}"],
            check=True, capture_output=True,
        )  # fmt: skip
    assert json.loads(shown.stdout)["Digest"] == done.digest


def test_a_folder_that_is_not_empty_is_left_alone(
    solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    state = llb.scratch().file(llb.Mkfile("/f", b"new"))
    (tmp_path / "mine").write_text("mine")
    error = failure(lambda: solve(state, exporters=[Local(tmp_path)]))
    assert error.code == "builder-options"
    solve(state, exporters=[Local(tmp_path, merge=True)])
    assert ((tmp_path / "mine").read_text(), (tmp_path / "f").read_text()) == ("mine", "new")


# Dockerfiles


def test_a_dockerfile_with_all_that_goes_with_it(
    client: BuildkitClient, layout: Base, tmp_path: Path
) -> None:
    context, other = tmp_path / "context", tmp_path / "other"
    for path in ("context/keep.txt", "context/no.log", "context/sub/no.log", "context/sub/yes.txt",
                 "other/o.txt"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (context / ".dockerignore").write_text("**/*.log\n!sub/no.log\nrecipe\n")
    (context / "recipe").mkdir()
    (context / "recipe/My.Dockerfile").write_text(
        "FROM base AS one\nARG WHO=nobody\nCOPY . /c\nCOPY --from=more o.txt /c/\n"
        "RUN --network=none --mount=type=secret,id=s cat /run/secrets/s >/dev/null && "
        "echo $WHO > /c/who\nFROM one AS two\nRUN --network=none exit 3\n"
    )
    settings: dict[str, Any] = {
        "dockerfile": "recipe/My.Dockerfile", "args": {"WHO": "me"}, "labels": {"k": "v"},
        "contexts": {"base": f"oci-layout://base@{layout.manifest}", "more": other},
        "oci_layouts": {"base": layout.layout}, "secrets": {"s": b"canary"},
    }  # fmt: skip
    exporters = [Local(tmp_path / "out"), Oci(tmp_path / "image.tar")]
    client.build_dockerfile(context, target="one", exporters=exporters, **settings)
    found = {
        str(p.relative_to(tmp_path / "out/c")) for p in (tmp_path / "out/c").rglob("*")
        if p.is_file()
    }  # fmt: skip
    assert found == {".dockerignore", "keep.txt", "o.txt", "sub/no.log", "sub/yes.txt", "who"}
    assert (tmp_path / "out/c/who").read_text() == "me\n"
    skopeo = require_tool("skopeo")
    shown = subprocess.run(
        [skopeo, "inspect", "--config", f"oci-archive:{tmp_path}/image.tar"],
        check=True, capture_output=True,
    )  # fmt: skip
    assert json.loads(shown.stdout)["config"]["Labels"]["k"] == "v"
    error = failure(lambda: client.build_dockerfile(context, **settings))
    assert (error.code, error.status) == ("step-failed", 3)
    assert "exit 3" in str(error)


def test_the_text_of_a_dockerfile(client: BuildkitClient, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    text = b"FROM scratch\nCOPY f /g\n"
    client.build_dockerfile(tmp_path, dockerfile=text, exporters=[Local(tmp_path / "out")])
    assert (tmp_path / "out/g").read_text() == "x"


def test_a_dockerfile_that_is_not_there(client: BuildkitClient, tmp_path: Path) -> None:
    assert failure(lambda: client.build_dockerfile(tmp_path)).code == "builder-options"


# What a worker keeps


def test_workers_usage_and_prune(
    client: BuildkitClient, solve: Callable[..., Solved], base: llb.State
) -> None:
    (worker, *_) = client.workers()
    assert worker.whole
    state = run(base, "echo kept > /kept", name="test: kept")
    assert solve(state).ran > 0
    kept = [each for each in client.disk_usage() if "echo kept" in each.description]
    assert kept
    assert all(each.size >= 0 and each.created for each in kept)
    assert solve(state).cached > 0
    gone = {each.id for each in client.prune(everything=True)}
    assert {each.id for each in kept} <= gone
    assert not [each for each in client.disk_usage() if "echo kept" in each.description]


def test_an_agent_is_forwarded_to_the_steps_that_ask(
    solve: Callable[..., Solved], base: llb.State, tmp_path: Path
) -> None:
    for tool in ("ssh-agent", "ssh-keygen", "ssh-add", "ldd"):
        require_tool(tool)
    socket = tmp_path / "a"
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        environ = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        for _ in range(100):
            if subprocess.run(
                ["ssh-add", "-q", str(key)], env=environ, check=False, capture_output=True
            ).returncode == 0:  # fmt: skip
                break
            assert agent.poll() is None
        program = tmp_path / "program"
        program.mkdir()
        _with_libraries("ssh-add", program)
        command = "LD_LIBRARY_PATH=/p /p/ld-linux-x86-64.so.2 /p/ssh-add -l > /out/keys"
        mounts: list[llb.Mount] = [
            llb.Bind("/p", llb.local("p"), readonly=True), llb.Bind("/out"), llb.Ssh()
        ]  # fmt: skip
        ran = base.execute(command, mounts=mounts, network="none")
        settings: dict[str, Any] = {"local": {"p": program}}
        solve(
            ran.mount("/out"), ssh={"default": str(socket)}, exporters=[Local(tmp_path / "out")],
            **settings,
        )  # fmt: skip
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(key)], check=True, capture_output=True, text=True
        )
        fingerprint = shown.stdout.split()[1]
        assert fingerprint in (tmp_path / "out/keys").read_text()
        other = base.execute(command + " 2>&1 # no agent", mounts=mounts, network="none")
        assert failure(lambda: solve(other.mount("/out"), **settings)).code != "step-failed"
    finally:
        agent.terminate()
        agent.wait()


def _with_libraries(name: str, folder: Path) -> None:
    """Copy a program and what it is linked with."""
    program = require_tool(name)
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    files = [word for word in listed.split() if word.startswith("/")]
    for path in (program, *files):
        (folder / Path(path).name).write_bytes(Path(path).read_bytes())
        (folder / Path(path).name).chmod(0o755)


# A worker that answers OK and does nothing


@pytest.mark.parametrize(
    "settings",
    [
        {"exporters": [Image("h.test/x:1", push=True)]},
        {"exporters": [Oci("/nonexistent/x.tar")]},
        {"exporters": [Docker("/nonexistent/x.tar")]},
        {"exporters": [Tar("/tmp/one"), Tar("/tmp/two")]},
        {"exporters": [Tar("/tmp/one", attributes={"rewrite-timestamp": "true"})]},
        {"cache_exports": [RegistryCache("h.test/c")]},
        {"cache_imports": [RegistryCache("h.test/c")]},
        {"cache_exports": [LocalCache("/tmp/c")]},
        {"cache_exports": [InlineCache()], "exporters": [Tar("/tmp/one")]},
        {"provenance": "max"},
        {"epoch": 1},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_an_old_worker_is_not_believed(old: BuildkitClient, settings: dict[str, Any]) -> None:
    error = failure(lambda: old.solve(llb.scratch().file(llb.Mkdir("/d")), **settings))
    assert error.code == "builder-lacks"


def test_an_old_worker_lacks_merges_and_history(old: BuildkitClient) -> None:
    one, two = (llb.scratch().file(llb.Mkdir(f"/{n}")) for n in "ab")
    error = failure(lambda: old.solve(llb.merge(one, two)))
    assert (error.code, "mergeop" in str(error)) == ("builder-lacks", True)
    assert failure(lambda: old.provenance(old.solve(one).ref)).code == "builder-lacks"


def test_an_old_worker_runs_graphs(old: BuildkitClient, layout: Base, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        push(layout.layout, layout.name, f"{registry.host}/base:1")
        state = llb.image(f"{registry.host}/base@{layout.manifest}", resolve="local")
        made = state.run("echo old > /seen", network="none").file(llb.Mkfile("/f", b"f"))
        old.solve(made, exporters=[Local(tmp_path / "out")])
        assert (tmp_path / "out/seen").read_text() == "old\n"
        old.solve(made, exporters=[Tar(tmp_path / "out.tar")])
        with tarfile.open(tmp_path / "out.tar") as archive:
            assert "f" in archive.getnames()
