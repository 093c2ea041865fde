"""Where a build's result goes. A worker that lacks an exporter is told, not believed.

Old servers answer OK to exporters and attributes that they do not have. So each exporter says
what it needs, and the client compares that with the labels of the worker before it sends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from envgraph.api import BuilderError
from envgraph_buildkit.outputs import FileTarget, FolderTarget, Target

_SEVERAL: Final = (0, 13)
"""The first BuildKit with several exporters at once."""

Attributes = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Oci:
    """An OCI layout: one tar, or with ``tar=False`` a folder that is added to.

    ``attributes`` are BuildKit's: ``compression``, ``annotation.…``, ``rewrite-timestamp``, ….
    """

    path: str | Path
    name: str = ""
    tar: bool = True
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Docker:
    """A tar for ``docker load``."""

    path: str | Path
    name: str = ""
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tar:
    """The files, as one tar."""

    path: str | Path
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Local:
    """The files, in a folder that is new or empty; with ``merge`` they are added to it.

    Devices, pipes and sockets are left out, and owners are whoever runs this.
    """

    path: str | Path
    merge: bool = False
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the worker's own store, and with ``push`` in its registry.

    ``name``: one or several, with commas between. ``insecure``: the registry speaks http, or
    its certificate is nobody's.
    """

    name: str
    push: bool = False
    insecure: bool = False
    attributes: Attributes = field(default_factory=dict)


Exporter = Oci | Docker | Tar | Local | Image


def type_of(exporter: Exporter) -> str:
    """BuildKit's name of it."""
    return type(exporter).__name__.lower()


def is_image(exporter: Exporter) -> bool:
    """What it writes has a manifest and a config."""
    return isinstance(exporter, Oci | Docker | Image)


def attributes_of(exporter: Exporter, *, config: bytes | None, epoch: int | None) -> dict[str, str]:
    """What is sent with it."""
    made: dict[str, str] = {}
    if isinstance(exporter, Oci | Docker | Image):
        if exporter.name:
            made["name"] = exporter.name
        if config is not None:
            made["containerimage.config"] = config.decode()
        if epoch is not None:
            made["rewrite-timestamp"] = "true"
    if epoch is not None:
        made["source-date-epoch"] = str(epoch)
    if isinstance(exporter, Oci) and not exporter.tar:
        made["tar"] = "false"
    if isinstance(exporter, Image):
        made |= {"push": "true"} if exporter.push else {}
        made |= {"registry.insecure": "true"} if exporter.insecure else {}
    return made | dict(exporter.attributes)


def target_of(exporter: Exporter) -> Target | None:
    """Where its bytes come to; None for those that send none over the session's files.

    BuilderError ``builder-options`` when it cannot be written there.
    """
    if isinstance(exporter, Image) or (isinstance(exporter, Oci) and not exporter.tar):
        return None
    path = Path(exporter.path).absolute()
    if isinstance(exporter, Local):
        if not exporter.merge and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise BuilderError(
                f"the folder {path} is there, and is not empty",
                code="builder-options",
                hint="give a new one, or Local(…, merge=True)",
            )
        return FolderTarget(path, merge=exporter.merge)
    if path.is_dir() or not path.parent.is_dir():
        raise BuilderError(f"no file can be written at {path}", code="builder-options")
    return FileTarget(path)


def check(exporters: Sequence[Exporter], *, whole: bool, version: str, title: str) -> None:
    """BuilderError ``builder-lacks`` for what a worker would answer OK to, and not do."""
    if not whole and (lacking := [each for each in exporters if is_image(each)]):
        raise BuilderError(
            f"{title} has no exporter {type_of(lacking[0])}",
            code="builder-lacks",
            detail="Its worker keeps no layers of its own; it would answer OK, and do nothing.",
            hint="use a buildkitd, or a dockerd with containerd's image store; tar and local work",
        )
    if not whole and any(each.attributes for each in exporters):
        raise BuilderError(
            f"{title} does not know attributes of exporters, and would ignore them",
            code="builder-lacks",
        )
    if len(exporters) > 1 and (not whole or _numbers(version) < _SEVERAL):
        raise BuilderError(
            f"{title} has one exporter for a build, and {len(exporters)} were asked for",
            code="builder-lacks",
            hint="build once for each: what was built is not built again",
        )
    if sum(isinstance(each, Oci) and not each.tar for each in exporters) > 1:
        raise BuilderError(
            "one OCI layout can be a folder in a build", code="builder-options",
            hint="make the others tars",
        )  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    """``v0.13.2-suffix`` → (0, 13, 2); nothing for what is no version."""
    parts = version.lstrip("v").partition("-")[0].partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdecimal())


def write_index(folder: Path, descriptor: Mapping[str, object], names: Sequence[str]) -> None:
    """Let an OCI layout's index name a manifest that came; other names stay."""
    path = folder / "index.json"
    try:
        index = json.loads(path.read_bytes())
    except FileNotFoundError:
        index = {"schemaVersion": 2, "manifests": []}
    key = "org.opencontainers.image.ref.name"
    wanted = names or [""]
    kept = [
        each
        for each in index["manifests"]
        if (each.get("annotations") or {}).get(key, "") not in wanted
    ]
    plain = {
        k: v for k, v in descriptor.items() if k in ("mediaType", "digest", "size", "platform")
    }
    for name in wanted:
        kept.append(plain | ({"annotations": {key: name}} if name else {}))
    index["manifests"] = kept
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    part = path.with_name("index.json.part")
    part.write_text(json.dumps(index, sort_keys=True))
    part.replace(path)
