"""pip's requirements file with hashes, for ``pip install --require-hashes --no-deps``."""

from __future__ import annotations

from envgraph.errors import Diagnostic
from envgraph.interchange.document import Document
from envgraph.model.locked import LockedEnvironment


def requirements(lock: LockedEnvironment, title: str) -> Document:
    """The pip packages of one platform's lock, each with version and sha256.

    Conda packages are another world: a comment counts them. A wheel that was built
    here from sources is on no index with that hash: it is a comment, and a warning.
    """
    conda = [p for p in lock.packages if p.manager == "conda"]
    pip = [p for p in lock.packages if p.manager == "pip"]
    lines = [
        f"# {title}, for: pip install --require-hashes --no-deps -r THIS_FILE",
        f"# platform: {lock.platform}",
    ]
    if lock.python is not None:
        lines.append(f"# python: {lock.python.version}")
    if conda:
        lines.append(
            f"# not in this file: {len(conda)} conda package{'' if len(conda) == 1 else 's'}"
        )
    problems: list[Diagnostic] = []
    for package in pip:
        line = f"{package.name}=={package.version} --hash=sha256:{package.sha256.hex}"
        if package.reproducible:
            lines.append(line)
            continue
        lines.append(f"# built from sources: {line}")
        problems.append(
            Diagnostic(
                "not-exported",
                f"{package.name} {package.version} was built here: no index has that wheel",
                hint="it is a comment in the file",
                severity="warning",
            )
        )
    if not pip:
        problems.append(
            Diagnostic(
                "not-exported",
                f"{title} has no pip packages: the requirements file is empty",
                hint="export --format explicit or conda-lock writes the conda packages",
                severity="warning",
            )
        )
    return Document("\n".join(lines) + "\n", tuple(problems))
