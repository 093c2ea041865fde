"""Which variables a command in a prefix sees: the same as in the image, and no leaks.

From low to high: what the caller's environment holds, less what belongs to another
Python or conda; ``PATH``, ``CONDA_PREFIX`` and ``PYTHONNOUSERSITE``; the packages'
``etc/conda/env_vars.d/*.json``; the environment's own variables; and last what the
packages' ``etc/conda/activate.d/*.sh`` scripts set, in the order of their names. That is
conda's order.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from envgraph.errors import EnvgraphError, PlatformError
from envgraph.image.activation import UNSET, activated

LEAKING_PREFIXES: Final = ("PYTHON", "CONDA_", "_CONDA_", "_CE_", "MAMBA_", "PIXI_", "VIRTUAL_ENV")
LEAKING_NAMES: Final = frozenset({"__PYVENV_LAUNCHER__", "PIP_PREFIX", "PIP_TARGET", "PIP_USER"})
"""What another Python or conda environment leaves behind and this one would obey."""


def command_environment(
    prefix: Path,
    variables: Mapping[str, str],
    *,
    outer: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All variables for a command in ``prefix``; activation scripts have run.

    ``variables`` is the runtime's (environment_variables and conda's variables);
    ``outer`` is the caller's environment (default: this process's). Raises EnvgraphError with code
    ``activation`` when a script ends the shell that sources it.
    """
    inherited = dict(os.environ if outer is None else outer)
    result = {key: value for key, value in inherited.items() if not leaks(key)}
    result["PATH"] = _path(prefix, inherited)
    result.update(activated(str(prefix)))
    result.update(_package_variables(prefix))
    result.update(variables)
    result = {key: value for key, value in result.items() if value != UNSET}
    scripts = sorted((prefix / "etc/conda/activate.d").glob("*.sh"))
    return _after_scripts(scripts, result) if scripts else result


def leaks(variable: str) -> bool:
    """Whether a variable belongs to another Python or conda environment."""
    return variable.startswith(LEAKING_PREFIXES) or variable in LEAKING_NAMES


def _path(prefix: Path, outer: Mapping[str, str]) -> str:
    """``PATH`` with the prefix first and without the environments that we came from."""
    left = {
        str(Path(outer[key]) / "bin") for key in ("CONDA_PREFIX", "VIRTUAL_ENV") if outer.get(key)
    }
    inherited = outer.get("PATH", os.defpath).split(os.pathsep)
    kept = [entry for entry in inherited if entry and entry.rstrip("/") not in left]
    return os.pathsep.join([str(prefix / "bin"), *kept])


def _package_variables(prefix: Path) -> dict[str, str]:
    """``env_vars.d``: each package's JSON object of variables, in the order of file names."""
    found: dict[str, str] = {}
    for path in sorted((prefix / "etc/conda/env_vars.d").glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise EnvgraphError(
                f"{path.name} of a package is not JSON", code="activation", detail=str(error)
            ) from error
        if not isinstance(content, dict):
            raise EnvgraphError(f"{path.name} of a package is not an object", code="activation")
        found.update({key: str(value) for key, value in content.items()})
    return found


def _after_scripts(scripts: Sequence[Path], before: Mapping[str, str]) -> dict[str, str]:
    """The variables after each script was sourced; what scripts print goes to stderr."""
    shell = shutil.which("bash") or shutil.which("sh")
    if shell is None:
        raise PlatformError("activation scripts need bash or sh", code="no-shell")
    arguments = [shell, *(["--norc", "--noprofile"] if shell.endswith("bash") else [])]
    # What scripts print goes to stderr; `command -p` finds the system's `env`, whatever
    # they did to PATH.
    sourced = "".join(f". {shlex.quote(str(script))}\n" for script in scripts)
    done = subprocess.run(
        [*arguments, "-c", f"exec 3>&1 1>&2\n{sourced}command -p env -0 >&3\n"],
        env=dict(before),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    pairs = [pair.partition(b"=") for pair in done.stdout.split(b"\0") if b"=" in pair]
    after = {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}
    if done.returncode != 0 or "CONDA_PREFIX" not in after:
        raise EnvgraphError(
            "an activation script of a package failed",
            code="activation",
            detail=", ".join(script.name for script in scripts),
            hint="what it printed stands above",
        )
    for own in ("_", "SHLVL", "PWD", "OLDPWD"):
        after.pop(own, None)
        if own in before:
            after[own] = before[own]
    return after
