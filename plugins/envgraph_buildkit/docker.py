"""What only dockerd's own HTTP API gives: an image of a worker without the oci exporter.

Such a worker (dockerd without containerd's image store) keeps images in docker's own store:
the build ends there under a name of its own, is read with ``GET /images/NAME/get``, and the
name is removed. And it takes no bases as blobs: they are loaded into that store, as ``docker
load`` does, under a name that is removed when the builder is closed.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import tarfile
from pathlib import Path
from typing import Final

from envgraph.api import Base, BuilderError, Digest
from envgraph.errors import IntegrityError
from envgraph_buildkit.dial import dial
from envgraph_buildkit.exported import plain
from envgraph_buildkit.normal import Hashing
from envgraph_buildkit.options import Endpoint

_CHUNK: Final = 1 << 20
_DOCUMENT_LIMIT: Final = 4 << 20
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


def load_image(endpoint: Endpoint, base: Base, name: str, folder: Path) -> None:
    """Give dockerd a base as ``NAME:latest``; IntegrityError for blobs that are not its own."""
    path = folder / "base.tar"
    _write_archive(base, name, path, folder)
    connection = _connect(endpoint)
    try:
        with path.open("rb") as body:
            connection.request(
                "POST", "/v1.24/images/load?quiet=1", body,
                {"Host": "docker", "Content-Type": "application/x-tar",
                 "Content-Length": str(path.stat().st_size)},
            )  # fmt: skip
        answer = connection.getresponse()
        text = answer.read(_CHUNK).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise BuilderError(
            f"{endpoint.address} broke off while it was given a base: {error}",
            code="builder-down", retryable=True,
        ) from None  # fmt: skip
    finally:
        connection.close()
        path.unlink()
    if answer.status != 200 or "errorDetail" in text:
        raise BuilderError(
            f"dockerd does not take the base {base.reference}", code="builder-refused", detail=text
        )


def _write_archive(base: Base, name: str, path: Path, folder: Path) -> None:
    """The base as ``docker save`` would write it: layers as plain tar."""
    assert base.open_blob is not None
    with base.open_blob(base.manifest.digest) as stream:
        manifest = json.loads(stream.read(_DOCUMENT_LIMIT))
    config_digest = Digest(manifest["config"]["digest"])
    with base.open_blob(config_digest) as stream:
        config = stream.read(_DOCUMENT_LIMIT)
    if Digest.of(config) != config_digest:
        raise IntegrityError(f"the config of {base.reference} has other bytes")
    names = [f"{layer.diff_id.hex}/layer.tar" for layer in base.layers]
    entry = {"Config": f"{config_digest.hex}.json", "RepoTags": [f"{name}:latest"], "Layers": names}
    with tarfile.open(path, "w") as archive:
        for member, data in (
            (f"{config_digest.hex}.json", config), ("manifest.json", json.dumps([entry]).encode()),
        ):  # fmt: skip
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member, layer in dict(zip(names, base.layers, strict=True)).items():
            plain_path = folder / "layer.tar"
            with base.open_blob(layer.descriptor.digest) as stream, plain_path.open("wb") as target:
                out = Hashing(target)
                with plain(stream, layer.descriptor.media_type) as tar:
                    while part := tar.read(_CHUNK):
                        out.write(part)
            if out.digest != layer.diff_id:
                raise IntegrityError(f"the layer {layer.descriptor.digest} has other bytes")
            archive.add(plain_path, member)
            plain_path.unlink()


def _connect(endpoint: Endpoint) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("docker")
    connection.sock = dial(endpoint)
    connection.sock.settimeout(_SECONDS)
    return connection
