"""What buildah made, as the contract wants it: no trace of when, where or in what it ran."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from envgraph.api import BuilderError, BuildResult, Descriptor, Layer
from envgraph.errors import NotFoundError
from envgraph_buildah.storage import BaseImage
from envgraph_store.digest import Digest

PLAIN: Final = "application/vnd.oci.image.layer.v1.tar"
_KEPT: Final = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
    "StopSignal", "StopTimeout", "Shell", "Healthcheck", "OnBuild", "ArgsEscaped",
)  # fmt: skip
_LOST: Final = ("Shell", "Healthcheck", "StopTimeout", "ArgsEscaped")
"""What buildah forgets of a base whose documents are OCI's."""

_OVERLAYS: Final = ("SCHILY.xattr.user.overlay.", "SCHILY.xattr.trusted.overlay.")
"""What overlayfs writes on files of an ordinary user's build."""

_MOUNT_POINTS: Final = frozenset(
    {"etc/hostname", "etc/hosts", "etc/resolv.conf", "run/.containerenv"}
)
"""Empty files that buildah leaves where it mounts its own."""


def read_result(
    folder: Path,
    bases: Sequence[BaseImage],
    epoch: int,
    *,
    instructions: Sequence[str] | None = None,
) -> BuildResult:
    """The image in a ``dir:`` folder; its own layers cleaned in place.

    ``instructions``: it was made by these on the one base. They are what its history says
    then, and what buildah forgets of that base's config is put back.
    """
    manifest = json.loads((folder / "manifest.json").read_bytes())
    config = json.loads((folder / _hex(manifest["config"]["digest"])).read_bytes())
    diff_ids = list(config["rootfs"].get("diff_ids") or [])
    base = _below(bases, diff_ids)
    known = len(base.diff_ids) if base is not None else 0
    layers: list[Layer] = []
    files: dict[Digest, Path] = {}
    for descriptor in manifest["layers"][known:]:
        path = folder / _hex(descriptor["digest"])
        digest, size = _clean(path)
        files[digest] = path
        layers.append(Layer(Descriptor(PLAIN, digest, size), digest))

    @contextmanager
    def opener(digest: Digest) -> Iterator[BinaryIO]:
        if digest not in files:
            raise NotFoundError(f"{digest} is no new layer of this build")
        with files[digest].open("rb") as stream:
            yield stream

    before = {} if base is None else base.config
    document = _config(config, before, layers, diff_ids[:known], epoch, instructions)
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    below = None if base is None else base.base
    return BuildResult(below, tuple(layers), data.encode(), opener)


def _below(bases: Sequence[BaseImage], diff_ids: Sequence[str]) -> BaseImage | None:
    """The base with the most layers that the image begins with."""
    fitting = [
        base
        for base in bases
        if base.diff_ids and list(diff_ids[: len(base.diff_ids)]) == base.diff_ids
    ]
    return max(fitting, key=lambda base: len(base.diff_ids), default=None)


def _hex(digest: str) -> str:
    return Digest(digest).hex


def _config(
    config: dict[str, Any],
    before: dict[str, Any],
    layers: Sequence[Layer],
    below: Sequence[str],
    epoch: int,
    instructions: Sequence[str] | None,
) -> dict[str, Any]:
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    past = before.get("history") or []
    made = (config.get("history") or [])[len(past) :]
    new: list[dict[str, Any]] = [
        {"created": created, "created_by": entry.get("created_by", "")} for entry in made
    ]
    if instructions is not None and len(instructions) == len(new):
        for entry, instruction in zip(new, instructions, strict=True):
            entry["created_by"] = instruction
    for entry, empty in zip(new, _empty(made, len(layers)), strict=True):
        if empty:
            entry["empty_layer"] = True
    settings = {key: value for key in _KEPT if (value := (config.get("config") or {}).get(key))}
    old = before.get("config") or {}
    if instructions is not None:
        for key in _LOST:
            if old.get(key) and key not in settings:
                settings[key] = old[key]
    document = {
        "architecture": config["architecture"],
        "os": config["os"],
        "created": created,
        "config": settings,
        "rootfs": {
            "type": "layers",
            "diff_ids": [*below, *(str(layer.diff_id) for layer in layers)],
        },
        "history": [*past, *new],
    }
    if config.get("variant"):
        document["variant"] = config["variant"]
    return document


def _empty(made: Sequence[dict[str, Any]], layers: int) -> list[bool]:
    """Which entries have no layer. A WORKDIR that makes a folder is said to have none."""
    empty = [bool(entry.get("empty_layer")) for entry in made]
    for index in reversed(range(len(made))):
        if empty.count(False) >= layers:
            break
        if empty[index] and "WORKDIR" in str(made[index].get("created_by")):
            empty[index] = False
    if empty.count(False) != layers:
        if layers > len(made):
            raise BuilderError(
                f"buildah made {layers} layers and says how {len(made)} came to be",
                code="builder-answer",
            )
        empty = [index < len(made) - layers for index in range(len(made))]
    return empty


def _without_overlays(head: bytes, records: Mapping[str, str]) -> bytes:
    """A PAX header anew without what overlayfs notes for itself; nothing when nothing is left."""
    kept = b"".join(
        _record(key, value) for key, value in records.items() if not key.startswith(_OVERLAYS)
    )
    if not kept:
        return b""
    block = bytearray(head)
    block[124:136] = b"%011o\0" % len(kept)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + kept + bytes(-len(kept) % 512)


def _record(key: str, value: str) -> bytes:
    """One PAX record; the length in front counts its own digits."""
    rest = b" %s=%s\n" % (key.encode(), value.encode("utf-8", "surrogateescape"))
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


def _clean(path: Path) -> tuple[Digest, int]:
    """Take buildah's own mount points out of a layer, every other byte as it is.

    The digest and size of what is left.
    """
    sha, size = hashlib.sha256(), 0
    target = path.with_name(path.name + ".clean")
    with tarfile.open(path, "r:") as archive:
        members = archive.getmembers()
    starts = [member.offset for member in members]
    if members:
        last = members[-1]
        starts.append(
            last.offset_data + -(-last.size // 512) * 512 if last.isreg() else last.offset_data
        )
    with path.open("rb") as source, target.open("wb") as out:

        def copy(start: int, stop: int | None) -> None:
            nonlocal size
            source.seek(start)
            left = -1 if stop is None else stop - start
            while left and (piece := source.read(min(1 << 20, left) if left > 0 else 1 << 20)):
                sha.update(piece)
                out.write(piece)
                size += len(piece)
                left -= len(piece) if left > 0 else 0

        for index, member in enumerate(members):
            name = member.name.removeprefix("./")
            if name in _MOUNT_POINTS and member.isreg() and not member.size:
                continue
            start = starts[index]
            if any(key.startswith(_OVERLAYS) for key in member.pax_headers):
                source.seek(start)
                head = _without_overlays(source.read(512), member.pax_headers)
                sha.update(head)
                out.write(head)
                size += len(head)
                start = member.offset_data - 512
            copy(start, starts[index + 1])
        padding = bytes(1024)
        sha.update(padding)
        out.write(padding)
        size += len(padding)
    target.replace(path)
    return Digest.from_hex(sha.hexdigest()), size
