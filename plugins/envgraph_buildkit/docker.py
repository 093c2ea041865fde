"""What only dockerd's own HTTP API gives: an image of a worker without the oci exporter.

Such a worker (dockerd without containerd's image store) keeps images in docker's own store:
the build ends there under a name of its own, is read with ``GET /images/NAME/get``, and the
name is removed.
"""

from __future__ import annotations

import contextlib
import http.client
from pathlib import Path
from typing import Final

from envgraph.api import BuilderError
from envgraph_buildkit.dial import dial
from envgraph_buildkit.options import Endpoint

_CHUNK: Final = 1 << 20
_SECONDS: Final = 600.0


def save_image(endpoint: Endpoint, name: str, target: Path) -> None:
    """Write ``docker save NAME`` to a file; BuilderError when it is not there."""
    connection = _connect(endpoint)
    try:
        connection.request("GET", f"/v1.24/images/{name}/get", headers={"Host": "docker"})
        answer = connection.getresponse()
        if answer.status != 200:
            text = answer.read(2000).decode(errors="replace")
            if "empty export" in text:
                raise BuilderError(
                    "this dockerd cannot give an image without any layer",
                    code="builder-lacks",
                    detail=text,
                    hint="use a dockerd with containerd's image store, or a buildkitd",
                )
            raise BuilderError(
                "dockerd said that the build is done, and does not have the image",
                code="builder-answer",
                detail=text,
            )
        with target.open("wb") as file:
            while part := answer.read(_CHUNK):
                file.write(part)
    except (OSError, http.client.HTTPException) as error:
        raise BuilderError(
            f"{endpoint.address} broke off while it sent the image: {error}",
            code="builder-down", retryable=True,
        ) from None  # fmt: skip
    finally:
        connection.close()


def forget_image(endpoint: Endpoint, name: str) -> None:
    """Remove the name; a daemon that has gone keeps it, which hurts nobody."""
    with contextlib.suppress(BuilderError, OSError, http.client.HTTPException):
        connection = _connect(endpoint)
        try:
            connection.request("DELETE", f"/v1.24/images/{name}", headers={"Host": "docker"})
            connection.getresponse().read()
        finally:
            connection.close()


def _connect(endpoint: Endpoint) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("docker")
    connection.sock = dial(endpoint)
    connection.sock.settimeout(_SECONDS)
    return connection
