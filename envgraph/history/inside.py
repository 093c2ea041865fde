"""Which packages an image holds: from its history, or from the names in its layers.

Both tell names, versions and builds, and no hashes: what is found here is for people, and
no lock is made of it.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Final

from envgraph.image.bases import open_layer
from envgraph.image.compress import Decompressed
from envgraph.model.locked import LockedBase, LockedPackage
from envgraph.model.oci import ImageConfig
from envgraph_store.digest import Digest

OURS: Final = "envgraph: "
MOST_BYTES: Final = 1 << 29
"""Of compressed layers that are read for the names in them: some ten seconds' work."""

_MOST_RAW: Final = 16 << 30
_MOST_ENTRIES: Final = 2_000_000
_NO_HASH: Final = Digest.of(b"")
_TITLE: Final = re.compile(r"[^\s,/]+ [^\s,]+(?: [^\s,]+)?")
_META: Final = re.compile(
    r"(?:.*/)?conda-meta/(?P<name>[^/]+)-(?P<version>[^/-]+)-(?P<build>[^/-]+)\.json"
)
_DIST: Final = re.compile(
    r"(?:.*/)?(?:site|dist)-packages/(?P<name>[^/-]+)-(?P<version>[^/-]+)\.dist-info/METADATA"
)


def package(manager: str, name: str, version: str, build: str = "") -> LockedPackage:
    """A package of which no more is known than this."""
    kind: Any = manager
    return LockedPackage(kind, name, version, build, "", _NO_HASH, "")


def packages_of_history(
    config: ImageConfig,
) -> tuple[tuple[LockedPackage, ...] | None, bool]:
    """The packages that envgraph put into the image, and whether later layers lie on them.

    None for an image that envgraph did not assemble, or that holds no package of its.
    """
    entries = config.document.get("history") or []
    said = [str(entry.get("created_by") or "") for entry in entries if isinstance(entry, dict)]
    starts = [i for i, text in enumerate(said) if text.startswith(OURS + "/")]
    if not starts:
        return None, False
    end = starts[-1] + 1
    found: list[LockedPackage] = []
    while end < len(said) and said[end].startswith(OURS):
        for title in said[end].removeprefix(OURS).split(", "):
            if " " not in title:
                continue  # a layer of envgraph's own: the script that activates
            if not _TITLE.fullmatch(title):
                return None, False
            name, version, *build = title.split(" ")
            found.append(package("conda" if build else "pip", name, version, *build))
        end += 1
    later = any(not e.get("empty_layer") for e in entries[end:] if isinstance(e, dict))
    return tuple(found), later


def packages_in_layers(
    described: LockedBase, open_blob: Callable[[Digest], BinaryIO]
) -> tuple[tuple[LockedPackage, ...] | None, list[str]]:
    """The packages whose records the layers hold, from the bottom up; and what to say of it.

    What a later layer hides is not there. Without an answer the list is
    None: the layers are too large, or one of them cannot be read.
    """
    size = sum(layer.size for layer in described.layers)
    if size > MOST_BYTES:
        text = f"its packages are not known: {size >> 20:,} MiB of layers were not read for that"
        return None, [text]
    there: dict[str, LockedPackage] = {}
    for layer in described.layers:
        try:
            source = open_blob(layer.digest)
        except Exception as error:  # a layer that is not here, whatever the place says of it
            return None, [f"its packages are not known: a layer is not here ({_short(error)})"]
        with source:
            try:
                _read(open_layer(source, layer.media_type), there)
            except (tarfile.TarError, ValueError, OSError, EOFError) as error:
                return None, [f"its packages are not known: a layer is no archive ({error})"]
    found = without_conda_twins(there.values())
    return found, ["its packages are told by their records in the layers: no hashes are known"]


def _short(error: Exception) -> str:
    return str(error)[:100]


def _read(source: Decompressed, there: dict[str, LockedPackage]) -> None:
    with tarfile.open(fileobj=_Stream(source), mode="r|", bufsize=1 << 20) as archive:
        came: dict[str, LockedPackage] = {}
        for count, member in enumerate(archive):
            if count > _MOST_ENTRIES:
                raise ValueError(f"more than {_MOST_ENTRIES} entries")
            name = member.name.removeprefix("./").lstrip("/")
            folder, _, last = name.rpartition("/")
            if last == ".wh..wh..opq":
                _hide(there, folder + "/")
            elif last.startswith(".wh."):
                hidden = f"{folder}/{last[4:]}".lstrip("/")
                _hide(there, hidden + "/")
                there.pop(hidden, None)
            elif (found := _package_at(name)) is not None:
                came[name] = found
            archive.members = []  # type: ignore[attr-defined]  # else it keeps every one
        there |= came


def _hide(there: dict[str, LockedPackage], folder: str) -> None:
    for name in [name for name in there if name.startswith(folder)]:
        del there[name]


def _package_at(name: str) -> LockedPackage | None:
    if match := _META.fullmatch(name):
        return package("conda", match["name"], match["version"], match["build"])
    if match := _DIST.fullmatch(name):
        return package("pip", match["name"].lower().replace("_", "-"), match["version"])
    return None


class _Stream(io.RawIOBase):
    """Decompressed bytes as a file; bounded, since an archive may unpack to anything."""

    def __init__(self, source: Decompressed) -> None:
        self._source = source
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        got = self._source.readinto(buffer)
        self._read += got
        if self._read > _MOST_RAW:
            raise ValueError(f"it unpacks to more than {_MOST_RAW >> 30} GiB")
        return got


def without_conda_twins(packages: Iterable[LockedPackage]) -> tuple[LockedPackage, ...]:
    """Conda packages of Python leave a ``dist-info`` too: those are no pip packages."""
    found = list(packages)
    conda = {(_plain(p.name), p.version) for p in found if p.manager == "conda"}
    return tuple(
        p for p in found if p.manager == "conda" or (_plain(p.name), p.version) not in conda
    )


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
