"""The client's ssh agents for ``RUN --mount=type=ssh``: bytes between a step and a socket.

Only the agents that a build names are there, and a step sees only those that it mounts. Keys
stay in the agent: what goes over is its protocol.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.quiet import grpc
from envgraph_buildkit.session import Refusal

_CHUNK: Final = 1 << 16
_ID: Final = "buildkit.ssh.id"
_DEFAULT: Final = "default"


class Agents:
    """``moby.sshforward.v1.SSH``."""

    def __init__(self, sockets: Mapping[str, str]) -> None:
        """Agents' sockets by id."""
        self._sockets = sockets

    def handlers(self) -> dict[str, Any]:
        """For the session; none where there is no agent."""
        if not self._sockets:
            return {}
        return {
            "/moby.sshforward.v1.SSH/CheckAgent": grpc.unary_unary_rpc_method_handler(
                self._check, message("CheckAgentRequest").FromString, encode
            ),
            "/moby.sshforward.v1.SSH/ForwardAgent": grpc.stream_stream_rpc_method_handler(
                self._forward, message("BytesMessage").FromString, encode
            ),
        }

    def _find(self, name: str) -> str:
        found = self._sockets.get(name or _DEFAULT)
        if found is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"no ssh agent {name[:100]!r}")
        return found

    def _check(self, request: Any, context: Any) -> Any:
        self._find(request.ID)
        return message("Empty")()

    def _forward(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        names = [str(value) for key, value in context.invocation_metadata() if key == _ID]
        path = self._find(names[0] if names else "")
        with socket.socket(socket.AF_UNIX) as agent:
            try:
                agent.connect(path)
            except OSError as error:
                text = f"the ssh agent does not answer: {error.strerror}"
                raise Refusal(grpc.StatusCode.UNAVAILABLE, text) from None

            def carry() -> None:
                with contextlib.suppress(OSError, grpc.RpcError):
                    for part in requests:
                        agent.sendall(part.data)
                with contextlib.suppress(OSError):
                    agent.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=carry, name="buildkit-ssh", daemon=True)
            thread.start()
            with contextlib.suppress(OSError):
                while part := agent.recv(_CHUNK):
                    yield message("BytesMessage")(data=part)
