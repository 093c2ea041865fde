"""``builder: {type: buildah, …}`` of envgraph.yaml."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envgraph.api import Builder, BuilderError, BuilderPlace, PluginContext


@dataclass(frozen=True, slots=True)
class BuildahOptions:
    """The options; none has to be given."""

    program: str = "buildah"
    """The executable, by name or path."""

    storage: str = ""
    """Where images and containers of builds lie; empty is ``envgraph/buildah`` in the user's
    cache folder. Deleting it (``buildah --root …`` knows how) costs only time."""

    driver: str = ""
    """``overlay`` or ``vfs``; empty: overlay where this machine lets it work."""

    isolation: str = "chroot"
    """How a step is kept apart: ``chroot`` works everywhere; ``oci`` and ``rootless`` need runc
    or crun."""

    def __post_init__(self) -> None:
        if self.driver not in ("", "overlay", "vfs"):
            raise ValueError("driver is overlay or vfs")
        if self.isolation not in ("chroot", "oci", "rootless"):
            raise ValueError("isolation is chroot, oci or rootless")


INSTALL: Final = "install buildah (Debian, Ubuntu, Fedora: the package of that name)"


def places(options: BuildahOptions) -> tuple[BuilderPlace, ...]:
    """The program's path; BuilderError where it is not here."""
    found = shutil.which(options.program)
    if found is None:
        raise BuilderError(
            f"{options.program} is not on this machine", code="builder-down", hint=INSTALL
        )
    return (BuilderPlace(found, "builder.program" if "/" in options.program else "PATH"),)


@contextmanager
def open_buildah(options: BuildahOptions, context: PluginContext) -> Iterator[Builder]:
    """The builder; nothing is started yet."""
    from envgraph_buildah.builder import BuildahBuilder
    from envgraph_buildah.storage import Storage

    if options.storage:
        folder = Path(context.root) / Path(options.storage).expanduser()
    else:
        caches = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(caches) if caches.startswith("/") else Path.home() / ".cache"
        folder = base / "envgraph" / "buildah"
    yield BuildahBuilder(Storage(options, folder))
