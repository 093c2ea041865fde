"""``builder: {type: buildah, …}`` of envgraph.yaml."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Final

from envgraph.api import BuilderError, BuilderPlace


@dataclass(frozen=True, slots=True)
class BuildahOptions:
    """The options; none has to be given."""

    program: str = "buildah"
    """The executable, by name or path."""

    storage: str = ""
    """Where images and containers of builds lie; empty is ``envgraph/buildah`` in the user's
    cache folder. Deleting it costs only time (``buildah unshare rm -rf`` for who is not root)."""

    driver: str = ""
    """``overlay`` or ``vfs``; empty: overlay where this machine lets it work."""

    isolation: str = "chroot"
    """How a step is kept apart: ``chroot`` works everywhere; ``oci`` and ``rootless`` need runc
    or crun."""

    keep_days: int = 14
    """Days that the storage keeps what no build uses; 0: nothing is kept when the builder is
    closed."""

    def __post_init__(self) -> None:
        if self.keep_days < 0:
            raise ValueError("keep_days is a number of days, 0 or more")
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
