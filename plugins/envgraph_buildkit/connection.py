"""One gRPC channel to BuildKit, and what its worker says that it can do."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from envgraph.api import (
    CAN_BASE_BLOBS,
    CAN_DOCKERFILE,
    CAN_KNOWN_LAYERS,
    CAN_NO_NETWORK,
    CAN_PINNED_BASES,
    CAN_RUN,
    CAN_SECRETS,
    BuilderError,
    Capabilities,
    Platform,
)
from envgraph_buildkit.dial import Gate, PrivateFolder, dial, late_refusal, unreachable, upgrade
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.options import Endpoint
from envgraph_buildkit.quiet import grpc

CONTROL: Final = "/moby.buildkit.v1.Control/"
_SNAPSHOTTER: Final = "org.mobyproject.buildkit.worker.snapshotter"
_ASK_SECONDS: Final = 20.0
_UNLIMITED: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # a machine that vanishes closes no connection
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 60_000),
    ("grpc.http2.max_pings_without_data", 0),
]


@dataclass(frozen=True, slots=True)
class Worker:
    """What BuildKit's first worker says of itself. Its ``Info`` call is of no use for that."""

    labels: Mapping[str, str]
    platforms: tuple[Platform, ...]
    version: str

    @property
    def whole(self) -> bool:
        """It keeps layers of its own, so that it exports images and takes bases as blobs.

        The worker inside a dockerd without containerd's snapshotter names no snapshotter: it
        answers OK to exporters and attributes that it does not have.
        """
        return _SNAPSHOTTER in self.labels


class Connection:
    """A channel that many threads use at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Dial once, to learn whether dockerd's upgrade is needed; BuilderError else."""
        self.endpoint = endpoint
        self.folder = PrivateFolder()
        self._gate: Gate | None = None
        self._worker: Worker | None = None
        self.broken = False
        """A call found nobody there: the next build needs a new connection."""

        try:
            self.docker = self._is_docker()
            self.channel: Any = self._open()
        except BaseException:
            self.folder.close()
            raise

    def _is_docker(self) -> bool:
        seconds = self.endpoint.connect_seconds
        with dial(self.endpoint) as probe:
            try:
                return upgrade(probe, seconds) is not None
            except TimeoutError:
                said = f"It takes a connection, and says nothing within {seconds:g} seconds."
                raise unreachable(self.endpoint, said) from None

    def _open(self) -> Any:
        options = [*_UNLIMITED, ("grpc.default_authority", "localhost")]
        if self.docker:
            self._gate = Gate(self.endpoint, self.folder.path)
            return grpc.insecure_channel(
                self._gate.address, [*options, ("grpc.enable_http_proxy", 0)]
            )
        if self.endpoint.local:
            return grpc.insecure_channel(
                self.endpoint.address, [*options, ("grpc.enable_http_proxy", 0)]
            )
        host, port = self.endpoint.host_port
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        tls = self.endpoint.tls
        if tls is None:
            return grpc.insecure_channel(target, _UNLIMITED)
        if not tls.verify:
            raise BuilderError(
                "gRPC over TLS checks certificates always",
                code="builder-options",
                hint="give the server's own certificate as `ca:`",
            )
        options = list(_UNLIMITED)
        if tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        try:
            root = Path(tls.ca).read_bytes() if tls.ca else _system_roots()
            key, cert = (Path(p).read_bytes() if p else None for p in (tls.key, tls.cert))
        except OSError as error:
            raise BuilderError(
                f"a file of the TLS settings cannot be read: {error.filename}",
                code="builder-options",
                detail=str(error.strerror),
            ) from None
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(root, key, cert), options)

    def unary(self, method: str, request: Any, answer: str) -> Any:
        """The answer of a quick call; BuilderError when there is none."""
        call = self.channel.unary_unary(
            CONTROL + method,
            request_serializer=encode,
            response_deserializer=message(answer).FromString,
        )
        try:
            return call(request, timeout=_ASK_SECONDS)
        except grpc.RpcError as error:
            raise self.failure(error) from None

    def stream(self, method: str, request: Any, answer: str) -> list[Any]:
        """The answers of a call that streams them, to the end; BuilderError when it fails."""
        call = self.channel.unary_stream(
            CONTROL + method,
            request_serializer=encode,
            response_deserializer=message(answer).FromString,
        )
        try:
            return list(call(request))
        except grpc.RpcError as error:
            raise self.failure(error) from None

    def failure(self, error: Any) -> BuilderError:
        """A call that failed without a build's own reason."""
        code, said = error.code(), str(error.details() or "")[:500]
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            self.broken = True
            return late_refusal(self.endpoint) or unreachable(self.endpoint, said)
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return BuilderError(f"{self.endpoint.address} refuses: {said}", code="builder-refused")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return BuilderError(
                f"what answers at {self.endpoint.address} is no BuildKit",
                code="builder-lacks",
                detail=said,
                hint="a dockerd has one from 18.09 on",
            )
        return BuilderError(
            f"{self.endpoint.address} failed: {said}", code="builder-answer", retryable=True
        )

    def worker(self) -> Worker:
        """The first worker, asked once."""
        if self._worker is None:
            answer = self.unary(
                "ListWorkers", message("ListWorkersRequest")(), "ListWorkersResponse"
            )
            if not answer.record:
                raise BuilderError(
                    f"the BuildKit at {self.endpoint.address} has no worker", code="builder-lacks"
                )
            record = answer.record[0]
            self._worker = Worker(
                dict(record.Labels),
                tuple(
                    dict.fromkeys(
                        Platform(p.OS, p.Architecture, p.Variant) for p in record.platforms
                    )
                ),
                record.BuildkitVersion.version,
            )
        return self._worker

    def capabilities(self) -> Capabilities:
        """What the worker can do."""
        worker = self.worker()
        features = {CAN_RUN, CAN_DOCKERFILE, CAN_SECRETS, CAN_NO_NETWORK, CAN_KNOWN_LAYERS}
        if worker.whole:
            features |= {CAN_PINNED_BASES, CAN_BASE_BLOBS}
        elif self.docker:
            features |= {CAN_BASE_BLOBS}  # as images that dockerd is given
        where = "dockerd" if self.docker else "buildkitd"
        return Capabilities(
            worker.platforms,
            frozenset(features),
            f"BuildKit {worker.version} in {where}".replace("  ", " "),
        )

    def close(self) -> None:
        """Close the channel and what stands behind it."""
        self.channel.close()
        if self._gate is not None:
            self._gate.close()
        self.folder.close()


def _system_roots() -> bytes | None:
    """The system's authorities (SSL_CERT_FILE), where Python knows their file; else grpc's own."""
    if os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        return None  # grpc reads it itself
    path = ssl.get_default_verify_paths().cafile
    return Path(path).read_bytes() if path and Path(path).exists() else None
