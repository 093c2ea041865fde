"""What ``conda activate`` does, said by an image: static variables, and a wrapper.

Variables that packages set in ``etc/conda/env_vars.d`` become the image's ``Env``.
Only packages with ``activate.d`` scripts need something that runs: an entrypoint
wrapper, a file of the last layer, which sources them and then runs the command
that the container was started with. ``docker run --entrypoint`` goes around it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from envgraph.image.content import LayerContent

WRAPPER: Final = "etc/envgraph/entrypoint"
"""The wrapper's path below the prefix; it has mode 0755."""

UNSET: Final = "***unset***"
"""conda's mark for a variable that shall not be set."""

_TEXT: Final = """\
#!/bin/sh
# Written by envgraph: run the packages' activation scripts, then the command.
if [ -n "${BASH_VERSION:-}" ]; then
  set +o posix
else
  for shell in @PREFIX@/bin/bash /bin/bash /usr/bin/bash; do
    if [ -x "$shell" ]; then exec "$shell" -- "$0" "$@"; fi
  done
fi
envgraph_activate() { if [ -r "$1" ]; then . "$1"; fi; }
@SCRIPTS@
unset -f envgraph_activate
if [ "$#" -eq 0 ]; then set -- /bin/sh; fi
exec "$@"
"""


def activation_scripts(layers: Iterable[LayerContent]) -> tuple[str, ...]:
    """The scripts for POSIX shells, in conda's order: by name."""
    scripts = {script for layer in layers for script in layer.activate_scripts}
    return tuple(sorted(script for script in scripts if script.endswith(".sh")))


def activation_variables(layers: Iterable[LayerContent]) -> dict[str, str]:
    """Variables that packages set; of two that set one, the later layer wins."""
    merged: dict[str, str] = {}
    for layer in layers:
        merged.update(layer.env_vars)
    return {name: value for name, value in merged.items() if value != UNSET}


def wrapper_text(scripts: Sequence[str], prefix: str) -> bytes:
    """The wrapper's file for scripts below ``prefix``; empty when there are none."""
    if not scripts:
        return b""
    lines = "\n".join(f"envgraph_activate {shlex.quote(f'{prefix}/{s}')}" for s in scripts)
    text = _TEXT.replace("@PREFIX@", shlex.quote(prefix)).replace("@SCRIPTS@", lines)
    return text.encode("utf-8", "surrogateescape")


def wrapper_command(prefix: str, packages: Iterable[str]) -> list[str]:
    """How the image starts the wrapper: by the environment's own bash, else by ``/bin/sh``."""
    shell = f"{prefix}/bin/bash" if "bash" in set(packages) else "/bin/sh"
    return [shell, f"{prefix}/{WRAPPER}"]


def activated(prefix: str) -> Mapping[str, str]:
    """The variables of an activated environment, but for PATH.

    conda calls an environment outside its own folders by its path. No name of
    ours may be here: names are not part of an image.
    """
    return {
        "CONDA_DEFAULT_ENV": prefix,
        "CONDA_PREFIX": prefix,
        "CONDA_SHLVL": "1",
        "PYTHONNOUSERSITE": "1",
    }
