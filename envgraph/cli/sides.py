"""What ``diff`` and ``why`` take as a side, in words, and the flag that both have for it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from envgraph.cli.options import Flag, Values
from envgraph.errors import UsageError

SIDES: Final = (
    "A and B are, in any mixture: a REF; azureml://registries/…; the path of a lockfile; an image "
    "by its sha256 digest, as oci:PATH[:NAME] or docker-archive:PATH, or in a registry "
    "(HOST/REPOSITORY:TAG, docker://python:3.12), of which no layer is downloaded; and PATH#REF, a "
    "version of the workspace in another folder."
)
OTHER_STORE: Final = Flag(
    "--other-store", "where the versions of PATH#REF lie; default: this store", "DIR"
)


def other_store(values: Values) -> Path | None:
    """The folder of ``--other-store``; UsageError where there is none."""
    text = values.text("--other-store")
    if text is not None and not Path(text).is_dir():
        raise UsageError(f"--other-store {text}: there is no such folder", code="no-folder")
    return None if text is None else Path(text).absolute()
