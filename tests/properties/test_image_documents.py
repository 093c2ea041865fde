"""No bytes make the readers of images fail in another way than with their own error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from envgraph.errors import EnvgraphError, IntegrityError
from envgraph.lock.images import resolve_base
from envgraph.model.oci import (
    OCI_CONFIG,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER_GZIP,
    read_config,
    read_document,
    read_json,
)
from envgraph.testing.layouts import docker_archive, tar_bytes

DIGEST = "sha256:" + "0" * 64
DESCRIPTOR = {"mediaType": OCI_LAYER_GZIP, "digest": DIGEST, "size": 3}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_IMAGE_MANIFEST,
    "config": DESCRIPTOR | {"mediaType": OCI_CONFIG},
    "layers": [DESCRIPTOR],
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_IMAGE_INDEX,
    "manifests": [DESCRIPTOR | {"platform": {"os": "linux", "architecture": "amd64"}}],
}
CONFIG: dict[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Env": ["A=1"]},
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [{}],
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A good document with another value at one place, or without it."""
    document = json.loads(json.dumps(draw(st.sampled_from([MANIFEST, INDEX, CONFIG]))))
    *way, last = draw(st.sampled_from(places(document)[1:]))
    inner = document
    for key in way:
        inner = inner[key]
    if draw(st.booleans()):
        inner[last] = draw(VALUES)
    else:
        del inner[last]
    return json.dumps(document).encode()


def _read_all(data: bytes) -> None:
    for kind in ("", OCI_IMAGE_MANIFEST, OCI_IMAGE_INDEX):
        try:
            read_document(data, kind, "it")
        except IntegrityError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most bytes are refused, some are read
    for reader in (read_config, read_json):
        try:
            reader(data, "it")
        except IntegrityError as error:
            assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=600, deadline=None)
@given(broken())
def test_broken_documents(data: bytes) -> None:
    _read_all(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    _read_all(data)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_tar_with_other_bytes(tmp_path_factory: Any, data: st.DataObject) -> None:
    folder: Path = tmp_path_factory.getbasetemp()
    path = folder / "saved.tar"
    docker_archive(path, {"a:1": [tar_bytes({"a": b"one"})]})
    good = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(good[: data.draw(st.integers(0, len(good)))])
    try:
        resolve_base("docker-archive:saved.tar", str(path), "linux-64")
    except EnvgraphError as error:
        assert len(error.diagnostics) == 1  # noqa: PT017
