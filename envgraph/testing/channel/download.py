"""Wheels by ``pip download``: the index is whatever the user's pip is set up for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from envgraph.testing.channel.cpython import PythonBuild

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64",
             "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_12_x86_64",
             "manylinux2010_x86_64", "manylinux_2_5_x86_64", "manylinux1_x86_64",
             "linux_x86_64")  # fmt: skip


@contextmanager
def download_wheels(
    requirements: Sequence[str], python: PythonBuild, *, dependencies: bool = True
) -> Iterator[list[Path]]:
    """Download wheels for ``python`` into a folder that lives as long as the block.

    Raises RuntimeError with pip's message, or when no pip is there.
    """
    arguments = ["download", "--quiet", "--only-binary=:all:", "--disable-pip-version-check"]
    arguments += ["--python-version", python.version, "--implementation", "cp"]
    for abi in (f"cp{python.major_minor.replace('.', '')}", "abi3", "none"):
        arguments += ["--abi", abi]
    for platform in PLATFORMS:
        arguments += ["--platform", platform]
    if not dependencies:
        arguments.append("--no-deps")
    with tempfile.TemporaryDirectory(prefix="envgraph-wheels-") as folder:
        command = [*_pip(python), *arguments, "--dest", folder, *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pip download failed: {_reason(done.stderr)}")
        yield sorted(Path(folder).glob("*.whl"))


def _reason(said: str) -> str:
    """What pip calls errors, without its warnings; all of it where it calls nothing so."""
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    return "; ".join(line.removeprefix("ERROR: ") for line in errors) or said.strip()


def _pip(python: PythonBuild) -> list[str]:
    """A command that is pip: of the running Python, of the packaged one, or on PATH."""
    for executable in (sys.executable, str(python.executable)):
        command = [executable, "-m", "pip"]
        if (
            subprocess.run([*command, "--version"], capture_output=True, check=False).returncode
            == 0
        ):
            return command
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise RuntimeError("pip is missing: wheels are obtained with `pip download`")
    return [found]
