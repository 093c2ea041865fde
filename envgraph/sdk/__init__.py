"""What programs import: workspaces, environments and plans as values; see README.md.

``from envgraph import Workspace, Environment, BuildContext`` is the same. Names are
found when they are first asked for: importing this package imports nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envgraph.api.events import Event
    from envgraph.sdk.environment import BuildContext, Environment
    from envgraph.sdk.environments import Environments
    from envgraph.sdk.plans import ApplyResult, Plan, PlannedEnvironment
    from envgraph.sdk.values import EnvironmentList, EnvironmentVersion, Package, PackageList
    from envgraph.sdk.workspace import Workspace

__all__ = [
    "ApplyResult",
    "BuildContext",
    "Environment",
    "EnvironmentList",
    "EnvironmentVersion",
    "Environments",
    "Event",
    "Package",
    "PackageList",
    "Plan",
    "PlannedEnvironment",
    "Workspace",
]

_HOMES = {
    "ApplyResult": "envgraph.sdk.plans",
    "BuildContext": "envgraph.sdk.environment",
    "Environment": "envgraph.sdk.environment",
    "EnvironmentList": "envgraph.sdk.values",
    "EnvironmentVersion": "envgraph.sdk.values",
    "Environments": "envgraph.sdk.environments",
    "Event": "envgraph.api.events",
    "Package": "envgraph.sdk.values",
    "PackageList": "envgraph.sdk.values",
    "Plan": "envgraph.sdk.plans",
    "PlannedEnvironment": "envgraph.sdk.plans",
    "Workspace": "envgraph.sdk.workspace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
