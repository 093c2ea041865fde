"""What builds are tried with: contexts in memory, bases from OCI layouts, kept events."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from envgraph.api import (
    Base,
    ContextEntry,
    Descriptor,
    Digest,
    Event,
    Instruction,
    Layer,
    Steps,
)
from envgraph.errors import NotFoundError, SourceLocation

EPOCH = 1_000_000_000
"""2001-09-09T01:46:40Z."""


class MemoryContext:
    """A build context in memory: path → bytes, ``"-> TARGET"`` as text is a symlink, None a folder.

    A file whose name ends in ``.sh`` is executable. ``broken`` are paths whose bytes cannot
    be read.
    """

    def __init__(
        self, files: Mapping[str, bytes | str | None], *, broken: frozenset[str] = frozenset()
    ) -> None:
        """Hold the files."""
        self._files = dict(files)
        self._broken = broken
        self.digest = Digest.of(
            repr(sorted(self._files.items(), key=lambda item: item[0])).encode()
        )

    def entries(self) -> Iterator[ContextEntry]:
        """Every file, folder and symlink."""
        for path, value in self._files.items():
            if value is None:
                yield ContextEntry(path, 0o755, folder=True)
            elif isinstance(value, str):
                yield ContextEntry(path, 0o755, link=value.removeprefix("-> "))
            else:
                mode = 0o755 if path.endswith(".sh") else 0o644
                yield ContextEntry(path, mode, len(value))

    def open(self, path: str) -> BinaryIO:
        """A file's bytes."""
        value = self._files.get(path)
        if path in self._broken or not isinstance(value, bytes):
            raise FileNotFoundError(f"{path} vanished")
        return io.BytesIO(value)


class Events(list[Event]):
    """Every event of a build, kept in order; threads may add."""

    def __init__(self) -> None:
        """Empty."""
        super().__init__()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Keep one."""
        with self._lock:
            self.append(event)

    @property
    def output(self) -> str:
        """All that steps printed."""
        return "".join(event.text for event in self if event.kind == "message")


def steps(base: Base | None, *texts: str) -> Steps:
    """Instructions, each on a line of its own of ``steps.yml``, from line 11 on."""
    return Steps(
        base,
        tuple(
            Instruction(text, SourceLocation("steps.yml", line, 5))
            for line, text in enumerate(texts, 11)
        ),
    )


def base_of_layout(layout: Path, name: str, *, reference: str = "", pull: str = "") -> Base:
    """An image of an OCI layout as a base whose blobs are at hand."""
    index = json.loads((layout / "index.json").read_bytes())
    (entry,) = [
        each
        for each in index["manifests"]
        if each.get("annotations", {}).get("org.opencontainers.image.ref.name") == name
    ]

    def place(digest: Digest) -> Path:
        return layout / "blobs/sha256" / str(digest).removeprefix("sha256:")

    @contextmanager
    def open_blob(digest: Digest) -> Iterator[BinaryIO]:
        if not place(digest).exists():
            raise NotFoundError(f"no {digest}")
        with place(digest).open("rb") as stream:
            yield stream

    manifest = json.loads(place(Digest(entry["digest"])).read_bytes())
    config = json.loads(place(Digest(manifest["config"]["digest"])).read_bytes())
    layers = tuple(
        Layer(Descriptor(each["mediaType"], Digest(each["digest"]), each["size"]), Digest(diff))
        for each, diff in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    )
    return Base(
        reference or f"oci:{layout.name}:{name}",
        Descriptor(entry["mediaType"], Digest(entry["digest"]), entry["size"]),
        layers,
        pull,
        open_blob,
    )


def read_tar(stream: BinaryIO) -> dict[str, tarfile.TarInfo]:
    """The entries of a layer by path, without ``./`` and ``/``."""
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        return {each.name.removeprefix("./").strip("/"): each for each in tar}


def read_file(stream: BinaryIO, path: str) -> bytes:
    """A file's bytes in a layer; KeyError when it is not there."""
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for each in tar:
            if each.name.removeprefix("./") == path and (found := tar.extractfile(each)):
                return found.read()
    raise KeyError(path)
