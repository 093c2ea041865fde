"""envgraph: the environment that trained your model, the same tomorrow.

::

    from envgraph import Workspace, Environment, BuildContext

These are the names of :mod:`envgraph.sdk`, found when they are first asked for:
importing a submodule imports no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envgraph.sdk import BuildContext, Environment, EnvironmentVersion, Plan, Workspace

__version__ = "0.1.0"
__all__ = ["BuildContext", "Environment", "EnvironmentVersion", "Plan", "Workspace", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'envgraph' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("envgraph.sdk"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
