"""conda's explicit file: one address with its sha256 a line, no solving when it is read.

The fragment is ``#sha256:<hex>``: conda reads it since 24.9, where it replaced md5, and
rattler does (tested).
"""

from __future__ import annotations

from collections.abc import Sequence

from envgraph.errors import Diagnostic
from envgraph.interchange.document import Document, private_addresses
from envgraph.model.locked import LockedEnvironment, LockedPackage


def explicit(lock: LockedEnvironment, title: str) -> Document:
    """The conda packages of one platform's lock, each after those that it needs.

    pip packages have no place in the format: they are comments, and a warning says so.
    """
    conda = [p for p in lock.packages if p.manager == "conda"]
    pip = [p for p in lock.packages if p.manager == "pip"]
    lines = [
        f"# {title}, for: conda create --name NAME --file THIS_FILE",
        f"# platform: {lock.platform}",
        "@EXPLICIT",
        *(f"{package.url}#sha256:{package.sha256.hex}" for package in installation_order(conda)),
    ]
    problems: list[Diagnostic] = []
    if pip:
        lines += [f"# pip {p.name}=={p.version} --hash=sha256:{p.sha256.hex}" for p in pip]
        problems.append(
            Diagnostic(
                "not-exported",
                f"{len(pip)} pip packages are comments in the explicit file",
                "the format has no place for them",
                hint="export --format requirements writes them for pip",
                severity="warning",
            )
        )
    problems += private_addresses(conda)
    return Document("\n".join(lines) + "\n", tuple(problems))


def installation_order(packages: Sequence[LockedPackage]) -> list[LockedPackage]:
    """Every package after those that it depends on; cycles are cut where they are met."""
    by_name = {package.name: package for package in packages}
    ordered: list[LockedPackage] = []
    state: dict[str, bool] = {}
    for package in packages:
        waiting: list[tuple[str, bool]] = [(package.name, False)]
        while waiting:
            name, leaving = waiting.pop()
            if leaving:
                ordered.append(by_name[name])
                continue
            if name in state or name not in by_name:
                continue
            state[name] = True
            waiting.append((name, True))
            needs = [depend.split(" ")[0] for depend in by_name[name].depends]
            waiting += [(need, False) for need in reversed(needs)]
    return ordered
