"""What a plan has to say about what it would do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from envgraph.errors import Diagnostic
from envgraph.model.canonical import NodeKey
from envgraph.model.graph import BuildGraph
from envgraph.plan.inventory import Inventory
from envgraph.plan.target import Target

if TYPE_CHECKING:
    from envgraph.plan.plan import EnvironmentChange


def version_taken(target: Target, change: EnvironmentChange) -> Diagnostic:
    """The error for a given version that is registered as another one."""
    what = " and ".join(filter(None, (", ".join(change.changed[:-1]), *change.changed[-1:])))
    return Diagnostic(
        "version-taken",
        f"version {change.version} of {target.name!r} exists with another {what}",
        "a version never changes once it is registered",
        target.spec.source,
        "give a new version, or leave `version:` out and it is counted up",
    )


def link_script_warnings(
    graph: BuildGraph, scripts: Mapping[NodeKey, tuple[str, ...]]
) -> list[Diagnostic]:
    """One warning for each package with scripts that an installer would run."""
    return [
        Diagnostic(
            "post-link",
            f"{graph[key].name} has link scripts, which do not run in an image",
            f"{', '.join(found)}; needed by {', '.join(graph.environments(key))}",
            hint="most only print a message; if it matters, a docker step can run them",
            severity="warning",
        )
        for key, found in scripts.items()
    ]


def lacks_libc(target: Target) -> bool:
    """Packages on an empty base."""
    return target.first.lock.base.is_scratch and bool(target.first.lock.packages)


def no_libc(target: Target) -> Diagnostic:
    """The warning for such an environment."""
    return Diagnostic(
        "no-libc",
        f"{target.name!r} stands on `scratch`: its image has no C library",
        "conda packages for Linux need glibc from the base; `envgraph run` is not concerned",
        target.spec.source,
        "name a base with glibc: `image: oci:PATH`, or image.default_base in envgraph.yaml",
        "warning",
    )


def archived(change: EnvironmentChange, inventory: Inventory) -> Diagnostic | None:
    """A remark where what the file asks for is hidden, or will be."""
    name = change.target.name
    whole = inventory.archived.get(name)
    newest = change.previous
    if whole is None or newest is None:
        return None
    registered = change.registered is not None and change.version == newest.version
    if not whole and not registered:
        return None  # the new version will be the latest
    what = f"{name!r}" if whole else f"version {newest.version} of {name!r}, the newest,"
    detail = "the file asks for what it is; `latest` means an older version, or none"
    if not registered:
        detail = f"version {change.version} will be registered, and hidden with all of it"
    return Diagnostic(
        "archived",
        f"{what} is archived",
        detail,
        change.target.spec.source,
        f"`envgraph restore {name if whole else f'{name}:{newest.version}'}` shows it again",
        "info",
    )
