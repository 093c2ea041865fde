"""A pool of real BuildKits: builds are spread, and go on when one is killed."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import Base, BuilderError, BuildRequest, Event, Platform, PluginContext
from envgraph.apply.executor import ParallelMap
from envgraph.apply.pool import PATIENCE, Pool
from envgraph.apply.servers import Server, rank
from envgraph.registry.retrying import Policy
from envgraph.testing.base import make_base
from envgraph.testing.builder.material import EPOCH, MemoryContext, base_of_layout, steps
from envgraph_buildkit import connection
from envgraph_buildkit.options import BuildkitOptions
from envgraph_buildkit.plugin import envgraph_builders
from envgraph_store import Store
from tests.buildkit import Front
from tests.built import BuiltDesk
from tests.daemons import Daemon, current_docker, dockerd, steps_of
from tests.services import cache_folder, make_demo_channel

pytestmark = [pytest.mark.services, pytest.mark.slow]

COPY = BuildRequest(
    Platform("linux", "amd64"), steps(None, "COPY a /a"), MemoryContext({"a": b"A"}),
    epoch=EPOCH, network=False, affinity="train",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    made = make_base(tmp_path_factory.mktemp("base") / "layout")
    return base_of_layout(made.layout, made.name)


@contextmanager
def fresh(config: pytest.Config, folder: Path, count: int) -> Iterator[list[Daemon]]:
    """Daemons that a test may kill."""
    programs = current_docker(cache_folder(config))
    with ExitStack() as stack:
        yield [stack.enter_context(dockerd(folder / f"d{n}", programs)) for n in range(count)]


@contextmanager
def pool(*addresses: str, policy: Policy = PATIENCE, **options: Any) -> Iterator[Pool]:
    """The plugin's servers at these addresses, as the host opens them."""
    [plugin] = envgraph_builders()
    context = PluginContext("/", lambda host, scope: None, {})
    with ExitStack() as stack:
        servers = []
        for each in plugin.servers(BuildkitOptions(addresses=addresses, **options), True):
            builder = stack.enter_context(plugin.open(each, context))
            servers.append(Server(builder, builder.title))
        yield Pool(plugin.name, servers, policy)


def build(found: Pool, request: BuildRequest = COPY, on_event: Any = lambda event: None) -> str:
    """Build; the address that did it."""
    never = threading.Event()
    with found.run(request, on_event, never, never) as (server, result):
        assert result.layers
        return server.title.split()[-1]


# What answers


def test_who_answers_and_who_does_not(current_dockerd: Daemon, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addresses = (
            current_dockerd.address,
            f"tcp://127.0.0.1:{silent.getsockname()[1]}",
            "tcp://127.0.0.1:9",
            f"unix://{tmp_path}/none.sock",
        )
        with pool(*addresses, connect_timeout=1) as found:
            found.ask(ParallelMap(4))
            lines = [server.describe() for server in found.servers]
            assert lines[0].startswith(f"buildkit at {current_dockerd.address}: BuildKit")
            assert lines[0].endswith("in dockerd, linux/amd64")
            assert lines[1].endswith("It takes a connection, and says nothing within 1 seconds.")
            assert lines[2].endswith("Connection refused")
            assert lines[3].endswith("No such file or directory")
            assert build(found) == current_dockerd.address


def test_none_answers(tmp_path: Path) -> None:
    with (
        pool("tcp://127.0.0.1:9", f"unix://{tmp_path}/x") as found,
        pytest.raises(BuilderError) as caught,
    ):
        found.ask(map)
    assert caught.value.code == "builder-down"
    assert caught.value.diagnostics[0].detail.splitlines() == [
        "no BuildKit answers at tcp://127.0.0.1:9. [Errno 111] Connection refused",
        f"no BuildKit answers at unix://{tmp_path}/x. [Errno 2] No such file or directory",
    ]


# One goes away


def until_told(base: Base) -> tuple[BuildRequest, list[str]]:
    """A step that sleeps as long as the list says when it is asked; that is no part of it."""
    seconds = ["1000"]
    said = f"started {uuid.uuid4()}"  # BuildKit has never seen it
    run = f"RUN --mount=type=secret,id=n echo {said}; sleep $(cat /run/secrets/n)"
    recipe = steps(base, run)
    request = dataclasses.replace(
        COPY, recipe=recipe, secrets={"n": lambda: seconds[0].encode()}, timeout=200.0
    )
    return request, seconds


def test_a_server_that_is_cut_off_in_the_middle(current_dockerd: Daemon, base: Base) -> None:
    request, seconds = until_told(base)
    with (
        Front(current_dockerd.address) as one,
        Front(current_dockerd.address) as two,
        pool(one.address, two.address) as found,
    ):
        fronts = {front.address: front for front in (one, two)}
        titles = [server.title for server in found.servers]
        first, second = (title.split()[-1] for title in rank("train", titles))

        def on_event(event: Event) -> None:
            if "started" in event.text and seconds != ["0"]:
                seconds[0] = "0"
                fronts[first].cut()

        assert build(found, request, on_event) == second
        assert build(found, COPY) == second
        [remark] = found.remarks()
        assert first in remark.summary


def test_a_connection_that_goes_silent(
    current_dockerd: Daemon, old_dockerd: Daemon, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a machine loses its network: nothing is closed, and nothing comes."""
    quick = [(name, 1000 if "_ms" in name else value) for name, value in connection._UNLIMITED]
    monkeypatch.setattr(connection, "_UNLIMITED", [*quick, ("grpc.http2.ping_timeout_ms", 1000)])
    with Front(current_dockerd.address) as front, pool(front.address, old_dockerd.address) as found:
        titles = [server.title for server in found.servers]
        first = next(n for n in map(str, range(99)) if front.address in rank(n, titles)[0])
        request, seconds = until_told(base)

        def on_event(event: Event) -> None:
            if "started" in event.text:
                seconds[0] = "0"
                front.hold()

        wanted = dataclasses.replace(request, affinity=first)
        assert build(found, wanted, on_event) == old_dockerd.address


def test_a_failed_step_is_not_tried_elsewhere(current_dockerd: Daemon, base: Base) -> None:
    request = dataclasses.replace(COPY, recipe=steps(base, "RUN echo once; exit 137"))
    said: list[str] = []
    with (
        Front(current_dockerd.address) as one,
        pool(one.address, current_dockerd.address) as found,
        pytest.raises(BuilderError) as caught,
    ):
        build(found, request, lambda event: said.append(event.text))
    assert (caught.value.code, caught.value.status) == ("step-failed", 137)
    assert "".join(said).count("once\n") == 1


def test_one_address_whose_daemon_starts_anew(current_dockerd: Daemon, tmp_path: Path) -> None:
    place = tmp_path / "d.sock"
    pauses: list[float] = []

    def wait(halt: Any, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            place.symlink_to(current_dockerd.address.removeprefix("unix://"))

    [plugin] = envgraph_builders()
    context = PluginContext("/", lambda host, scope: None, {})
    with plugin.open(BuildkitOptions(address=f"unix://{place}"), context) as builder:
        found = Pool("buildkit", [Server(builder, builder.title)], wait=wait)
        place.symlink_to(current_dockerd.address.removeprefix("unix://"))
        assert build(found) == f"unix://{place}"
        place.unlink()
        builder._connection.channel.close()  # type: ignore[attr-defined]
        builder._connection.broken = True  # type: ignore[attr-defined]
        assert build(found) == f"unix://{place}"
        assert pauses == [1, 2, 4]


# From the command line


@pytest.fixture
def desk(tmp_path: Path) -> BuiltDesk:
    channel = make_demo_channel(tmp_path / "channel")
    make_base(tmp_path / "base")
    return BuiltDesk.make(tmp_path / "desk", channel.url, tmp_path / "base", tmp_path / "storage")


def who_built(desk: BuiltDesk) -> dict[str, str]:
    """By the instruction, the server in the record of its step."""
    plan = desk.desk.plan("--offline", "--all-steps")
    found = {}
    with Store.open(desk.desk.store) as store:
        for step in plan["steps"]:
            if step["kind"] == "docker-step" and (record := store.actions.get(step["key"])):
                found[step["name"]] = str(record["builder"])
    return found


def test_apply_spreads_builds_and_goes_on_when_a_server_is_killed(
    pytestconfig: pytest.Config, tmp_path: Path, desk: BuiltDesk
) -> None:
    with fresh(pytestconfig, tmp_path, 2) as daemons:
        seconds = tmp_path / "seconds"
        seconds.write_text("1000")
        addresses = [daemon.address for daemon in daemons]
        desk.settings(
            builder={"type": "buildkit", "addresses": addresses},
            secrets={"n": f"file:{seconds}"},
        )
        for number in range(16):
            (desk.desk.folder / f"environments/f{number}").write_text(str(number))
            desk.steps(f"e{number}", f"COPY f{number} /f", "ENV A=1")
            desk.steps(f"f{number}", f"COPY f{number} /f", "ENV A=2")
        desk.desk.apply("--offline")
        builders = {name: text for name, text in who_built(desk).items() if "COPY" in name}
        assert len(builders) == 16
        assert all(any(address in text for text in builders.values()) for address in addresses)

        for path in (desk.desk.folder / "environments").glob("*.yml"):
            path.unlink()
        slow = "RUN --mount=type=secret,id=n echo started; sleep $(cat /run/secrets/n)"
        desk.steps("slow", "COPY f1 /kept", slow, "COPY f2 /last")
        process = subprocess.Popen(
            desk.desk.command("apply", "--offline", "--json", "--auto-approve"),
            cwd=desk.desk.folder, env=desk.desk.environ(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("text", "").startswith("started"):
                break
        seconds.write_text("0")
        [victim] = [daemon for daemon in daemons if steps_of(daemon.data)]
        victim.kill()
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        result = json.loads(out.splitlines()[-1])
        assert result["built"] == 3
        [remark] = [d for d in result["diagnostics"] if d["code"] == "builder-down"]
        assert victim.address in remark["summary"]
        [survivor] = [daemon for daemon in daemons if daemon is not victim]
        [who] = [text for name, text in who_built(desk).items() if name.startswith("RUN")]
        assert survivor.address in who

        doctor = desk.desk.run("doctor", "--json", "--offline")
        checks = [c for c in doctor.json["checks"] if c["name"] == "builder"]
        assert {c["status"]: c["summary"] for c in checks}.keys() == {"ok", "remark"}
        assert any(victim.address in c["summary"] for c in checks if c["status"] == "remark")
