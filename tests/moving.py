"""What moves under an environment: a channel that gets packages, a base that is patched."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from envgraph.testing.channel import ChannelMaker, make_package
from envgraph.testing.channel.indexing import Patch
from envgraph.testing.layouts import LayoutMaker, tar_bytes

TARS = [tar_bytes({"etc/os-release": b"ID=small\n"}), tar_bytes({"lib/libc.so.6": b"libc"})]


def fill(
    folder: Path,
    *packages: str,
    patch: Patch | None = None,
    depends: Mapping[str, Sequence[str]] = {},
) -> None:
    """Add ``name=version[=build number]``; app needs lib, others what ``depends`` says. Index."""
    maker = ChannelMaker(folder)
    for text in packages:
        name, version, *number = text.split("=")
        maker.add(
            make_package(
                name,
                version,
                number[0] if number else "0",
                build_number=int(number[0]) if number else 0,
                depends=["lib"] if name == "app" else depends.get(name, ()),
                files={f"share/{name}": f"{name} {text}\n"},
            )
        )
    maker.index(patch=patch)


def put_base(folder: Path, *extra: str, created: str = "2020-01-01T00:00:00Z") -> str:
    """An image named ``small`` on the same first layers; its manifest."""
    shutil.rmtree(folder, ignore_errors=True)
    layout = LayoutMaker(folder)
    tars = [*TARS, *(tar_bytes({f"usr/{name}": name.encode()}) for name in extra)]
    made = layout.add_image(tars, config={"Env": ["PATH=/bin"]}, created=created)
    layout.name(made.manifest, "small")
    return str(made.manifest.digest)
