"""LLB graphs give the bytes that BuildKit's own Go client gives.

``llb_vectors.json`` holds what ``github.com/moby/buildkit/client/llb`` of v0.32.2 marshalled for
the same graphs: they are its bytes, and are never written anew from ours.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from envgraph.api import Platform
from envgraph_buildkit import llb
from envgraph_buildkit.messages import message

LINUX = Platform("linux", "amd64")
VECTORS = json.loads((Path(__file__).parent / "llb_vectors.json").read_text())
BASE = llb.image(f"docker.io/library/debian@sha256:{'a' * 64}")
BIN = {"PATH": "/bin"}

GRAPHS = {
    "image": BASE,
    "run": BASE.run(
        ["sh", "-c", "echo hi > /x"], env={"A": "1", "PATH": "/bin"}, cwd="/work", user="nobody"
    ),
    "mounts": BASE.run(
        ["true"],
        env=BIN,
        network="none",
        mounts=[
            llb.Bind("/src", llb.local("ctx"), readonly=True),
            llb.Cache("/cache", "id", "locked"),
            llb.Tmpfs("/tmp", 1 << 20),
            llb.Secret("t"),
            llb.Ssh(),
        ],
    ),
    "output": BASE.execute(
        ["true"], env=BIN, network="host", security="insecure", mounts=[llb.Bind("/out")]
    ).mount("/out"),
    "files": llb.scratch().file(
        llb.Mkdir("/a/b", parents=True),
        llb.Mkfile("/a/f", b"hello\n", owner="0:7"),
        llb.Symlink("f", "/a/l"),
        llb.Rm("/a/l", missing_ok=True),
        llb.Copy(
            BASE, "/etc/*", "/c/", wildcard=True, empty_wildcard=True, parents=True,
            follow_symlinks=True, contents=True, exclude=("*.x",), owner="app:root",
        ),
    ),
    "merge": llb.merge(BASE, llb.scratch().file(llb.Mkfile("/m", b"m", 0o600)), BASE),
    "diff": llb.diff(BASE, BASE.file(llb.Mkdir("/d", 0o700))),
    "git": llb.git(
        "https://example.org/a/b.git", "main", subfolder="sub", keep_git=True,
        checksum="0123456789012345678901234567890123456789",
    ),
    "http": llb.http(
        "https://example.org/f.tgz", checksum=f"sha256:{'b' * 64}", filename="f.tgz", mode=0o600,
        uid=1, gid=2,
    ),
    "layout": llb.oci_layout("store", f"sha256:{'c' * 64}"),
    "local": llb.local("ctx", include=["a", "b/*"], exclude=["c"], follow=["d"]),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_operations_are_those_of_the_go_client(name: str) -> None:
    made = [each.hex() for each in GRAPHS[name].definition(LINUX, lambda folder: "u").operations]
    assert sorted(made) == sorted(VECTORS[name])
    assert made[-1] == VECTORS[name][-1]


def test_every_vector_has_a_graph() -> None:
    assert set(GRAPHS) == set(VECTORS)


def test_metadata_is_by_the_digest_of_the_bytes() -> None:
    state = llb.merge(BASE, llb.scratch().file(llb.Mkdir("/d", 0o700), name="a folder"))
    definition = state.definition(LINUX)
    whole = message("Definition").FromString(definition.data)
    assert list(getattr(whole, "def")) == list(definition.operations)
    digests = {f"sha256:{hashlib.sha256(each).hexdigest()}" for each in definition.operations[:-1]}
    assert set(whole.metadata) == digests
    names = [each.description.get("llb.customname", "") for each in whole.metadata.values()]
    assert sorted(names) == ["", "", "a folder"]
    assert definition.abilities == {"mergeop"}


def test_the_same_operation_is_sent_once() -> None:
    twice = llb.merge(BASE.run("a"), llb.image(f"docker.io/library/debian@sha256:{'a' * 64}"))
    assert len(twice.definition(LINUX).operations) == 4  # image, run, merge, the last


def test_what_a_graph_needs_is_told() -> None:
    assert GRAPHS["output"].definition(LINUX).allowed == ("network.host", "security.insecure")
    assert GRAPHS["mounts"].definition(LINUX).locals == ("ctx",)
    assert GRAPHS["layout"].definition(LINUX).abilities == {"oci-layout"}
    assert llb.scratch().definition(LINUX).operations == ()


def test_a_deep_graph_is_written() -> None:
    state = BASE
    for number in range(3000):
        state = state.run(["true", str(number)])
    assert len(state.definition(LINUX).operations) == 3002


def test_the_platform_is_the_nodes_before_the_graphs() -> None:
    arm = Platform("linux", "arm64")
    one = llb.image("h/r@sha256:x", platform=arm).definition(LINUX)
    assert one.operations == llb.image("h/r@sha256:x").definition(arm).operations


def test_an_images_config_sets_what_runs_in_it() -> None:
    config = {"config": {"Env": ["A=1=2", "PATH=/p"], "WorkingDir": "/w", "User": "u:g"}}
    state = BASE.with_config(json.dumps(config).encode())
    assert (dict(state.env), state.cwd, state.user) == ({"A": "1=2", "PATH": "/p"}, "/w", "u:g")
    assert state.with_cwd("x").cwd == "/w/x"


def test_a_mount_that_nobody_can_read_afterwards() -> None:
    ran = BASE.execute("x", readonly=True, mounts=[llb.Bind("/a", readonly=True)])
    assert ran.root == BASE
    with pytest.raises(KeyError):
        ran.mount("/a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": []},
        {"command": "x", "network": "bridge"},
        {"command": "x", "mounts": [llb.Tmpfs("/a"), llb.Cache("/a")]},
        {"command": "x", "mounts": [llb.Cache("/a", sharing="all")]},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        BASE.run(**wrong)  # type: ignore[arg-type]


def test_a_secrets_bytes_are_in_no_operation_and_data_in_no_repr() -> None:
    state = BASE.run("x", mounts=[llb.Secret("id", variable="TOKEN")])
    operation = message("Op").FromString(state.definition(LINUX).operations[1])
    assert [(each.ID, each.name) for each in operation.exec.secretenv] == [("id", "TOKEN")]
    assert "canary" not in repr(llb.Mkfile("/f", b"canary"))
