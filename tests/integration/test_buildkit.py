"""envgraph_buildkit beyond the contract: ways to the server, logins, caches, deaths."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.api import Base, Builder, BuilderError, BuildRequest, Credentials, Event, Platform
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.testing.base import make_base
from envgraph.testing.builder.contract_base import whole
from envgraph.testing.builder.material import EPOCH, Events, MemoryContext, base_of_layout, steps
from envgraph.testing.layouts import LayoutMaker, Squeeze, squeeze, tar_bytes
from envgraph_buildkit.dial import Gate
from envgraph_buildkit.options import Endpoint
from tests.buildkit import Front, forget, images, opened, push
from tests.daemons import Daemon
from tests.registries import docker_registry, make_certificates

pytestmark = [pytest.mark.services, pytest.mark.slow]

AMD64 = Platform("linux", "amd64")
COPY = BuildRequest(
    AMD64, steps(None, "COPY a /a"), MemoryContext({"a": b"A"}), epoch=EPOCH, network=False
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    made = make_base(tmp_path_factory.mktemp("base") / "layout")
    return base_of_layout(made.layout, made.name)


@pytest.fixture
def builder(current_dockerd: Daemon) -> Iterator[Builder]:
    with opened(current_dockerd.address) as found:
        yield found


def failure(builder: Builder, request: BuildRequest = COPY) -> BuilderError:
    with pytest.raises(BuilderError) as caught:
        whole(builder, request)
    return caught.value


# Ways to the server


def test_plain_grpc_at_a_unix_socket(current_dockerd: Daemon, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        gate = Gate(Endpoint(current_dockerd.address, "a test"), Path(short))
        try:
            with opened(gate.address) as builder:
                assert builder.capabilities().version.endswith("buildkitd")
                assert whole(builder, COPY).read("a") == b"A"
        finally:
            gate.close()


def test_plain_grpc_over_tcp(current_dockerd: Daemon) -> None:
    with Front(current_dockerd.address) as front, opened(front.address) as builder:
        assert whole(builder, COPY).read("a") == b"A"


def test_tls_with_certificates_on_both_sides(current_dockerd: Daemon, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "good", usage="serverAuth,clientAuth")
    other = make_certificates(tmp_path / "other", usage="serverAuth,clientAuth")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.ca))
    server.load_cert_chain(made.certificate, made.key)
    server.verify_mode = ssl.CERT_REQUIRED
    server.set_alpn_protocols(["h2"])
    files = {"ca": str(made.ca), "cert": str(made.certificate), "key": str(made.key)}
    with Front(current_dockerd.address, server) as front:
        with opened(front.address, **files) as builder:
            assert whole(builder, COPY).read("a") == b"A"
        with opened(front.address, **files | {"ca": str(other.ca)}) as builder:
            error = failure(builder)
            assert error.code == "builder-refused"
            assert "ca:" in error.diagnostics[0].hint
        with opened(front.address, ca=str(made.ca)) as builder:  # no certificate of its own
            assert failure(builder).code in ("builder-refused", "builder-down")
        strange = files | {"cert": str(other.certificate), "key": str(other.key)}
        with opened(front.address, **strange) as builder:
            assert failure(builder).code in ("builder-refused", "builder-down")
        with opened(front.address, ca=str(tmp_path / "none.pem")) as builder:
            assert failure(builder).code == "builder-options"


def test_nothing_answers(tmp_path: Path) -> None:
    with opened(f"unix://{tmp_path}/none.sock") as builder:
        error = failure(builder)
    assert (error.code, error.retryable) == ("builder-down", True)
    assert "start dockerd or buildkitd" in error.diagnostics[0].hint


def test_something_else_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(20):
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        with opened(f"tcp://127.0.0.1:{port}") as builder:
            assert failure(builder).code in ("builder-down", "builder-lacks")


def test_a_server_that_dies_in_the_middle(current_dockerd: Daemon, base: Base) -> None:
    request = dataclasses.replace(COPY, recipe=steps(base, "RUN echo started; sleep 1000"))
    with Front(current_dockerd.address) as front, opened(front.address) as builder:

        def on_event(event: Event) -> None:
            if "started" in event.text:
                front.cut()

        with (
            pytest.raises(BuilderError) as caught,
            builder.build(request, on_event, threading.Event()),
        ):
            pass
    assert (caught.value.code, caught.value.retryable) == ("builder-down", True)


def test_a_builder_that_was_down_is_asked_again(current_dockerd: Daemon) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as short,
        opened(f"unix://{short}/gate.sock") as builder,
    ):
        assert failure(builder).code == "builder-down"
        gate = Gate(Endpoint(current_dockerd.address, "a test"), Path(short))
        assert whole(builder, COPY).read("a") == b"A"
        gate.close()


# Equal inputs, equal layers


def test_two_cold_builds_are_equal(builder: Builder, base: Base) -> None:
    recipe = steps(
        base, "RUN mkdir /d && echo 1 > /d/f && ln -s f /d/l && ln /d/f /d/h", "COPY a /"
    )
    request = dataclasses.replace(COPY, recipe=recipe)
    first = whole(builder, request)
    forget(builder)
    second = whole(builder, request)
    assert not any(event.kind == "skipped" for event in second.events if "RUN" in event.name)
    assert first.blobs == second.blobs
    assert first.result.config == second.result.config


def test_both_servers_make_the_same_layer(builder: Builder, old_dockerd: Daemon) -> None:
    with opened(old_dockerd.address) as other:
        assert whole(builder, COPY).blobs == whole(other, COPY).blobs


@pytest.fixture(params=["current", "old"])
def daemon(request: pytest.FixtureRequest) -> Daemon:
    found: Daemon = request.getfixturevalue(f"{request.param}_dockerd")
    return found


def test_an_image_is_a_base_for_the_next_step(daemon: Daemon, base: Base) -> None:
    """As the host does it: what was built goes into its store, and is handed over as blobs."""
    from tests.unit.buildkit.values import base_of

    with opened(daemon.address) as builder:
        first = whole(builder, dataclasses.replace(COPY, recipe=steps(base, "RUN echo 1 > /one")))
        middle = base_of(base, first)
        request = dataclasses.replace(COPY, recipe=steps(middle, "RUN cp /one /two"))
        second = whole(builder, request)
        assert second.result.base is middle
        assert second.read("two") == b"1\n"
        assert len(second.blobs) == 1
        assert whole(builder, request).blobs == second.blobs
    assert images(daemon.address) == []


def test_no_layer_of_a_base_is_sent_back(
    builder: Builder, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    request = dataclasses.replace(COPY, recipe=steps(base, "COPY a /sent"))
    with builder.build(request, Events(), threading.Event()):
        names = {path.name for path in tmp_path.glob("envgraph-buildkit-*/blobs/*")}
    assert len(names) == 3  # manifest, config, the new layer
    below = {str(layer.descriptor.digest).removeprefix("sha256:") for layer in base.layers}
    assert not names & below
    assert not list(tmp_path.glob("envgraph-buildkit-*"))


# Registries


def unique(folder: Path, text: str, compression: Squeeze = "gzip", docker: bool = False) -> Base:
    """A base that no daemon has seen yet, in the layout at ``folder``."""
    maker = LayoutMaker(folder)
    tar = tar_bytes({"unique": f"{folder} {text}"})
    image = maker.add_image([tar], compression=compression, docker=docker, config={"Env": ["U=1"]})
    maker.name(image.manifest, "base")
    return base_of_layout(folder, "base")


@pytest.mark.parametrize("age", ["current", "old"])
def test_a_base_behind_a_login(age: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    daemon: Daemon = request.getfixturevalue(f"{age}_dockerd")
    base = unique(tmp_path / "layout", "login")
    with docker_registry(tmp_path / "locked", users={"ann": "s3cret-words"}) as locked:
        push(tmp_path / "layout", "base", f"{locked.host}/team/base:1", "ann:s3cret-words")
        pull = dataclasses.replace(base, pull=f"{locked.host}/team/base", open_blob=None)
        wanted = dataclasses.replace(COPY, recipe=steps(pull, "COPY a /c"), network=True)
        with opened(daemon.address) as builder:
            error = failure(builder, wanted)
        assert error.code == "base-missing"
        assert locked.host in error.diagnostics[0].summary
        with opened(daemon.address, {locked.host: Credentials("ann", "wr0ng-words")}) as builder:
            error = failure(builder, wanted)
        assert error.code == "base-missing"
        assert "wr0ng-words" not in repr(error.diagnostics)
        with opened(daemon.address, {locked.host: Credentials("ann", "s3cret-words")}) as builder:
            built = whole(builder, wanted)
    assert built.result.base is pull
    assert built.read("c") == b"A"


def test_without_network_no_registry_is_asked(builder: Builder, tmp_path: Path) -> None:
    base = unique(tmp_path / "layout", "offline")
    with docker_registry(tmp_path / "open") as plain:
        push(tmp_path / "layout", "base", f"{plain.host}/team/base:1")
        before = plain.log.read_text()
        pull = dataclasses.replace(base, pull=f"{plain.host}/team/base", open_blob=None)
        error = failure(builder, dataclasses.replace(COPY, recipe=steps(pull, "COPY a /b")))
        assert error.code in ("base-missing", "builder-refused")
        assert plain.log.read_text() == before


@pytest.mark.parametrize(
    ("compression", "docker"), [("", False), ("gzip", False), ("zstd", False), ("gzip", True)]
)
def test_bases_of_every_kind_as_blobs(
    daemon: Daemon, tmp_path: Path, compression: Squeeze, docker: bool
) -> None:
    base = unique(tmp_path / "layout", "kind", compression, docker)
    with opened(daemon.address) as builder:
        built = whole(builder, dataclasses.replace(COPY, recipe=steps(base, "COPY a /b")))
    assert built.result.base is base
    assert set(built.tree()) - {""} == {"b"}
    assert "U=1" in built.settings["Env"]


def test_a_base_whose_blobs_are_wrong(daemon: Daemon, tmp_path: Path) -> None:
    base = unique(tmp_path / "layout", "wrong")
    digest = base.layers[0].descriptor.digest
    blob = tmp_path / "layout/blobs/sha256" / digest.hex
    blob.write_bytes(squeeze(tar_bytes({"unique": "other"}), "gzip"))
    request = dataclasses.replace(COPY, recipe=steps(base, "COPY a /b", "RUN true"))
    with opened(daemon.address) as builder:
        with pytest.raises((BuilderError, IntegrityError)):
            whole(builder, request)
        blob.unlink()
        with pytest.raises((BuilderError, NotFoundError)):
            whole(builder, request)


def test_a_base_that_is_nowhere(builder: Builder, base: Base, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "empty") as empty:
        gone = dataclasses.replace(base, pull=f"{empty.host}/team/gone", open_blob=None)
        request = dataclasses.replace(COPY, recipe=steps(gone, "COPY a /b"), network=True)
        error = failure(builder, request)
    assert error.code == "base-missing"
    assert f"{empty.host}/team/gone" in error.diagnostics[0].detail
    nowhere = dataclasses.replace(base, open_blob=None)
    request = dataclasses.replace(COPY, recipe=steps(nowhere, "COPY a /b"))
    assert failure(builder, request).code == "base-missing"


def test_a_cache_in_a_registry(current_dockerd: Daemon, base: Base, tmp_path: Path) -> None:
    request = dataclasses.replace(
        COPY, recipe=steps(base, "COPY a /one", "COPY a /two"), network=True
    )
    with docker_registry(tmp_path / "cache") as registry:
        ref = f"{registry.host}/team/cache:1"
        with opened(current_dockerd.address, cache_to=ref) as builder:
            first = whole(builder, request)
            forget(builder)
        with opened(current_dockerd.address, cache_from=(ref,)) as builder:
            second = whole(builder, request)
        copies = [event.kind for event in second.events if "COPY" in event.name]
        assert set(copies) == {"start", "skipped"}
        assert first.blobs == second.blobs
        with opened(current_dockerd.address, cache_from=(f"{registry.host}/no:1",)) as builder:
            assert whole(builder, request).blobs == first.blobs


# What is refused


def test_a_frontend_from_outside_needs_network(builder: Builder) -> None:
    from envgraph.api import Dockerfile

    recipe = Dockerfile(b"# syntax=docker/dockerfile:1\nFROM scratch\nCOPY a /\n", "Dockerfile")
    error = failure(builder, dataclasses.replace(COPY, recipe=recipe))
    assert error.code == "builder-refused"
    assert "docker/dockerfile:1" in error.diagnostics[0].summary
    assert str(error.diagnostics[0].source) == "Dockerfile:1"


def test_without_network_nothing_is_fetched(builder: Builder, old_dockerd: Daemon) -> None:
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            asked.append(client.recv(100))
            client.close()

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        recipe = steps(None, f"ADD http://127.0.0.1:{port}/file /file")
        request = dataclasses.replace(COPY, recipe=recipe)
        assert failure(builder, request).code in ("step-failed", "builder-refused")
        with opened(old_dockerd.address) as old:
            assert failure(old, request).code == "builder-lacks"
        assert asked == []
        listener.shutdown(socket.SHUT_RDWR)


def test_an_old_server_is_not_trusted_with_names(old_dockerd: Daemon, base: Base) -> None:
    """It would ignore the pin without a word, and ask a registry for the tag."""
    from envgraph.api import Dockerfile

    pull = dataclasses.replace(base, pull="127.0.0.1:1/base")
    recipe = Dockerfile(b"FROM python:3.12\nCOPY a /\n", "Dockerfile", {"python:3.12": pull})
    with opened(old_dockerd.address) as builder:
        error = failure(builder, dataclasses.replace(COPY, recipe=recipe))
        assert error.code == "builder-lacks"
        assert f"python:3.12@{base.manifest.digest}" in error.diagnostics[0].hint
        far = dataclasses.replace(pull, open_blob=None)
        offline = dataclasses.replace(COPY, recipe=steps(far, "COPY a /"))
        assert failure(builder, offline).code == "base-missing"
