"""Files that users write → values, with every problem at once.

``load_environment``, ``load_workspace`` and ``discover`` are re-exported lazily:
importing this package reads no YAML parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envgraph.spec.judge import Judgement, judge_file
    from envgraph.spec.load import LoadResult, discover, load_environment
    from envgraph.spec.workspace_file import load_workspace

__all__ = [
    "Judgement",
    "LoadResult",
    "discover",
    "judge_file",
    "load_environment",
    "load_workspace",
]

_HOMES = {
    "Judgement": "judge",
    "LoadResult": "load",
    "discover": "load",
    "judge_file": "judge",
    "load_environment": "load",
    "load_workspace": "workspace_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'envgraph.spec' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"envgraph.spec.{_HOMES[name]}"), name)
