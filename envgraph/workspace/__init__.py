"""A workspace: the parts bound together. Nothing here decides; it hands values on.

``parts.py`` opens and closes, ``reading.py`` answers, ``workspace.py`` acts.
"""

from envgraph.workspace.parts import DEFAULT_PARALLELISM, translated_locks
from envgraph.workspace.workspace import Workspace

__all__ = ["DEFAULT_PARALLELISM", "Workspace", "translated_locks"]
