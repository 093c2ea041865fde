"""Builders of envgraph_buildkit for tests, and an image in a registry for them."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from envgraph.api import Builder, Credentials, PluginContext
from envgraph_buildkit.builder import BuildkitBuilder
from envgraph_buildkit.connection import CONTROL
from envgraph_buildkit.dial import dial, upgrade
from envgraph_buildkit.docker import _connect
from envgraph_buildkit.options import BuildkitOptions, Endpoint
from envgraph_buildkit.plugin import open_builder
from tests.services import require_tool


@contextmanager
def opened(
    address: str = "", logins: Mapping[str, Credentials] | None = None, **options: Any
) -> Iterator[Builder]:
    """A builder at an address."""
    known = dict(logins or {})
    context = PluginContext("/", lambda host, scope: known.get(host), {})
    with open_builder(BuildkitOptions(address=address, **options), context) as builder:
        yield builder


def push(layout: Path, name: str, to: str, login: str = "") -> None:
    """Copy an image of an OCI layout into a registry on loopback, with the same digest."""
    skopeo = require_tool("skopeo")
    subprocess.run(
        [skopeo, "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
         *([f"--dest-creds={login}"] if login else []),
         f"oci:{layout}:{name}", f"docker://{to}"],
        check=True,
    )  # fmt: skip


class Front:
    """A buildkitd's address in front of dockerd's BuildKit: plain gRPC, over TCP or TLS.

    There is no buildkitd in Debian: this speaks to clients as one does.
    """

    def __init__(self, daemon: str, tls: ssl.SSLContext | None = None) -> None:
        self._endpoint = Endpoint(daemon, "a test")
        self._tls = tls
        self._open: list[socket.socket] = []
        self._moves = threading.Event()
        self._moves.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(inner,), daemon=True).start()

    def _serve(self, inner: socket.socket) -> None:
        try:
            if self._tls is not None:
                inner = self._tls.wrap_socket(inner, server_side=True)
            self._moves.wait()
            first = inner.recv(1 << 16)
            if not first.startswith(b"PRI * HTTP/2.0"):
                inner.close()  # as grpc-go does with HTTP/1.1
                return
            outer = dial(self._endpoint)
            rest = upgrade(outer)
            assert rest is not None
            outer.sendall(first)
            inner.sendall(rest)
        except OSError:
            inner.close()
            return
        self._open += [inner, outer]
        back = threading.Thread(target=self._carry, args=(outer, inner), daemon=True)
        back.start()
        self._carry(inner, outer)
        back.join()
        inner.close()
        outer.close()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(1 << 16):
                self._moves.wait()
                target.sendall(part)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Every connection breaks, and no new one is taken: the server has died."""
        self._listener.close()
        self._moves.set()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Nothing passes any longer, and nothing is closed: the network has gone."""
        self._moves.clear()

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()


def forget(builder: Builder) -> None:
    """Let BuildKit forget all that it built."""
    assert isinstance(builder, BuildkitBuilder)
    call = builder._connected().channel.unary_stream(CONTROL + "Prune")
    for _ in call(b"\x10\x01"):  # PruneRequest{all: true}
        pass


def images(address: str) -> list[str]:
    """The names that builds have left in docker's own store."""
    connection = _connect(Endpoint(address, "a test"))
    try:
        connection.request("GET", "/v1.24/images/json", headers={"Host": "docker"})
        found = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return [tag for image in found for tag in image["RepoTags"] or [] if "envgraph-" in tag]
