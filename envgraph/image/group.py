"""Which packages share a layer, and how their layers are joined without recompression.

Both are pure. The rule and its reasons are in ``envgraph/image/README.md``; golden
tests pin it, because every change of it moves packages between layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

from envgraph.errors import InputError, IntegrityError
from envgraph.image import tarwrite
from envgraph.image.compress import Decompressed
from envgraph.image.content import LayerContent
from envgraph.image.layerwriter import Write, head_names
from envgraph.image.options import LayerOptions
from envgraph.image.zipread import Slice
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest

_PIECE: Final = 1 << 20

FIRST_THRESHOLD: Final = 1 << 16
"""T: archives of this many bytes or more have a layer of their own, if that fits.

While every package fits with a layer of its own, nothing is joined: changing one
package then writes one layer, and a new combination writes none.
"""

MOST_GROUPS: Final = 8
"""G: groups per manager; fewer when few layers are allowed."""

FIXED_LAYERS: Final = 2
"""The root layer and the entrypoint wrapper's."""

FEWEST_LAYERS: Final = FIXED_LAYERS + 2
"""``max_layers`` below this cannot be kept: one group for conda, one for pip."""


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Packages of one layer, in the lock's order. One package alone is its own layer."""

    name: str
    packages: tuple[LockedPackage, ...]


def assign_groups(packages: Sequence[LockedPackage], max_layers: int) -> tuple[LayerGroup, ...]:
    """The package layers in image order: conda's, then pip's.

    Depends on names, managers and archive sizes of ``packages`` and on
    ``max_layers`` only. With the root and the wrapper layer there are never more than
    ``max_layers``. Raises InputError when that is less than :data:`FEWEST_LAYERS`.
    """
    if max_layers < FEWEST_LAYERS:
        raise InputError(
            f"image.max_layers is {max_layers}, and an image needs {FEWEST_LAYERS}",
            code="max-layers",
            hint=f"set image.max_layers to {FEWEST_LAYERS} or more",
        )
    most = max_layers - FIXED_LAYERS
    groups = max(1, min(MOST_GROUPS, most // 8))
    threshold = 0
    while True:
        layers = _assign(packages, threshold, groups)
        if len(layers) <= most:
            return layers
        threshold = 2 * threshold or FIRST_THRESHOLD


def group_of(package: LockedPackage, groups: int) -> int:
    """``hash(name) mod G``, the same on every machine and for every version."""
    hashed = hashlib.sha256(f"{package.manager}/{package.name}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") % groups


def _assign(
    packages: Sequence[LockedPackage], threshold: int, groups: int
) -> tuple[LayerGroup, ...]:
    layers: list[LayerGroup] = []
    for manager in ("conda", "pip"):
        shared: dict[int, list[LockedPackage]] = {}
        for package in packages:
            if package.manager != manager:
                continue
            if package.size >= threshold:
                layers.append(LayerGroup(f"{manager}/{package.name}", (package,)))
            else:
                shared.setdefault(group_of(package, groups), []).append(package)
        layers.extend(
            LayerGroup(f"{manager}/group-{number}", tuple(shared[number]))
            for number in sorted(shared)
        )
    return tuple(layers)


def write_group(
    members: Sequence[tuple[LayerContent, BinaryIO]], options: LayerOptions, write: Write
) -> LayerContent:
    """Join the members' layers (seekable, as their contents describe them) into one.

    New is only the frame of directories: the members' compressed files are copied
    as they are and read once for the raw hash. One member alone gives its own
    layer, byte for byte. Raises IntegrityError if a member is not what its content
    says.
    """
    compression = options.compression
    trailer = compression.frame(tarwrite.END)
    directories = tuple(sorted({d for content, _ in members for d in content.directories}))
    head = b"".join(
        tarwrite.directory_header(name) for name in head_names(options.inner, directories)
    )
    raw_hash = hashlib.sha256(head)
    raw, head_size = len(head), 0
    for frame in compression.frames(head):
        write(frame)
        head_size += len(frame)
    size = head_size
    for content, file in members:
        if content.media_type != compression.media_type:
            raise IntegrityError("a member's layer is compressed in another way")
        stored = content.size - content.head_size - len(trailer)
        expected = content.raw_size - content.head_raw - len(tarwrite.END)
        tee = _Tee(Slice(file, content.head_size, stored), write)
        got = _hash_raw(compression.open(cast(BinaryIO, tee)), raw_hash)
        if got != expected or tee.count != stored:
            raise IntegrityError("a member's layer is not what its record says")
        raw += got
        size += stored
    write(trailer)
    raw_hash.update(tarwrite.END)
    paths = tuple(sorted(path for content, _ in members for path in content.paths))
    return LayerContent(
        diff_id=Digest.from_hex(raw_hash.hexdigest()),
        raw_size=raw + len(tarwrite.END),
        size=size + len(trailer),
        head_raw=len(head),
        head_size=head_size,
        media_type=compression.media_type,
        files=sum(content.files for content, _ in members),
        directories=directories,
        env_vars=_merged([content for content, _ in members]),
        activate_scripts=_joined(c.activate_scripts for c, _ in members),
        deactivate_scripts=_joined(c.deactivate_scripts for c, _ in members),
        post_link_scripts=_joined(c.post_link_scripts for c, _ in members),
        notes=tuple(note for content, _ in members for note in content.notes),
        paths=paths,
    )


class _Tee:
    """Hands on what is read."""

    def __init__(self, source: Slice, write: Write) -> None:
        self._source = source
        self._write = write
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        if data:
            self.count += len(data)
            self._write(data)
        return data


def _hash_raw(source: Decompressed, raw_hash: Any) -> int:
    """Add all of ``source`` to the hash; its length."""
    buffer = bytearray(_PIECE)
    view = memoryview(buffer)
    total = 0
    try:
        while got := source.readinto(buffer):
            raw_hash.update(view[:got])
            total += got
    except ValueError as error:
        raise IntegrityError(f"a member's layer {error}") from error
    return total


def _joined(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(item for part in parts for item in part))


def _merged(contents: Iterable[LayerContent]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for content in contents:
        variables.update(content.env_vars)
    return dict(sorted(variables.items()))
