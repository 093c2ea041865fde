"""What the parts of the contract share: a builder, bases, and a build that is read whole."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from envgraph.api import (
    CAN_BASE_BLOBS,
    CAN_PROVENANCE,
    OCI_LAYER,
    Base,
    Builder,
    BuildRequest,
    BuildResult,
    Digest,
    Platform,
    Steps,
)
from envgraph.testing.base import make_base
from envgraph.testing.builder.material import EPOCH, Events, MemoryContext, base_of_layout, steps


@dataclass(frozen=True, slots=True)
class Built:
    """A build, read to its last byte."""

    result: BuildResult
    blobs: tuple[bytes, ...]
    document: dict[str, Any]
    events: Events

    @property
    def settings(self) -> dict[str, Any]:
        """The config's ``config``."""
        found: dict[str, Any] = self.document["config"]
        return found

    def tree(self) -> dict[str, tarfile.TarInfo]:
        """Every entry of the new layers, upper ones over lower ones."""
        found: dict[str, tarfile.TarInfo] = {}
        for blob in self.blobs:
            with tarfile.open(fileobj=io.BytesIO(blob), mode="r:") as tar:
                found |= {each.name.removeprefix("./").strip("/"): each for each in tar}
        return found

    def read(self, path: str) -> bytes:
        """A file's bytes, of the uppermost layer that has it."""
        for blob in reversed(self.blobs):
            with tarfile.open(fileobj=io.BytesIO(blob), mode="r:") as tar:
                for each in tar:
                    if each.name.removeprefix("./") == path and (found := tar.extractfile(each)):
                        return found.read()
        raise KeyError(path)


def whole(builder: Builder, request: BuildRequest, cancel: threading.Event | None = None) -> Built:
    """Build, and hold the result to what every result promises."""
    events = Events()
    with builder.build(request, events, cancel or threading.Event()) as result:
        blobs = []
        for layer in result.layers:
            with result.open(layer.descriptor.digest) as stream:
                blobs.append(stream.read())
    document = json.loads(result.config)
    for layer, blob in zip(result.layers, blobs, strict=True):
        assert layer.descriptor.media_type == OCI_LAYER
        assert layer.descriptor.size == len(blob)
        assert layer.descriptor.digest == layer.diff_id == Digest.of(blob)
    lower = [layer.diff_id for layer in result.base.layers] if result.base else []
    every = [*lower, *(layer.diff_id for layer in result.layers)]
    assert document["rootfs"] == {"type": "layers", "diff_ids": [str(each) for each in every]}
    assert document["os"] == request.platform.os
    assert document["architecture"] == request.platform.architecture
    full = [entry for entry in document["history"] if not entry.get("empty_layer")]
    assert len(full) == len(every), "a history entry without empty_layer for each layer"
    _check_provenance(result, CAN_PROVENANCE in builder.capabilities().features)
    return Built(result, tuple(blobs), document, events)


def _check_provenance(result: BuildResult, promised: bool) -> None:
    """A statement about each new layer from who promises one, and nothing from others."""
    if not promised:
        assert result.provenance == b""
    if not result.provenance:
        assert not (promised and result.layers)
        return
    statement = json.loads(result.provenance)
    assert statement["_type"].startswith("https://in-toto.io/Statement/")
    assert statement["predicateType"]
    assert statement["predicate"]
    subjects = {f"sha256:{each['digest']['sha256']}" for each in statement["subject"]}
    assert {str(layer.diff_id) for layer in result.layers} <= subjects


class Abilities:
    """The base of every part. What a builder can do is asked, and what it cannot is tried too."""

    heredocs: ClassVar[bool] = True
    """``RUN <<EOF`` and ``COPY <<EOF`` work."""

    empty_images: ClassVar[bool] = True
    """An image without any layer can be had; else it is refused with ``builder-lacks``."""

    runs_seconds: ClassVar[float] = 30.0
    """A build that is asked to end has done so within this time."""

    @pytest.fixture
    def builder(self) -> Iterator[Builder]:
        """An open builder; the subclass gives it."""
        raise NotImplementedError("give your class a fixture `builder`")

    @pytest.fixture(scope="class")
    @classmethod
    def shell_base(cls, tmp_path_factory: pytest.TempPathFactory) -> Base:
        """A small base with a shell, as blobs. A subclass may push it somewhere instead."""
        made = make_base(tmp_path_factory.mktemp("base") / "layout")
        if not made.shell:
            pytest.fail("this machine has no shell to put into a base")
        return base_of_layout(made.layout, made.name)

    @pytest.fixture
    def base(self, builder: Builder, shell_base: Base) -> Base:
        """The base, where the builder can be given it."""
        if CAN_BASE_BLOBS not in builder.capabilities().features and not shell_base.pull:
            pytest.fail("push `shell_base` somewhere: the builder takes no blobs")
        return shell_base

    @pytest.fixture
    def platform(self, builder: Builder) -> Platform:
        """The builder's own."""
        found = builder.capabilities().platforms[0]
        return Platform(found.os, found.architecture)

    def request_of(
        self, platform: Platform, recipe: Steps | None = None, files: Any = None, **changes: Any
    ) -> BuildRequest:
        """A request without network, with files as its context."""
        context = MemoryContext(files) if isinstance(files, dict) else files
        values = {"epoch": EPOCH, "network": False, "timeout": 300.0} | changes
        return BuildRequest(platform, recipe or steps(None), context, **values)
