"""The user's own folders, by the XDG rules. An empty variable counts as none.

The quick path stands on this module: it imports ``os`` and ``errno`` alone.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def home_folder(environ: Mapping[str, str]) -> str:
    """``$HOME``; where that is not set or empty, the home in the password database.

    FileNotFoundError where that has none for this user.
    """
    if environ.get("HOME"):
        return environ["HOME"]
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        reason = "HOME is not set, and the system has no home for this user"
        raise FileNotFoundError(errno.ENOENT, reason) from None


def xdg_folder(environ: Mapping[str, str], variable: str, default: str) -> str:
    """``$XDG_…/envgraph``, else ``~/<default>/envgraph``; a relative value is no value."""
    base = environ.get(variable, "")
    if not os.path.isabs(base):
        base = os.path.join(home_folder(environ), default)
    return os.path.join(base, "envgraph")


def cache_folder(environ: Mapping[str, str]) -> str:
    """What may be deleted at any time and costs only time: ``~/.cache/envgraph``."""
    return xdg_folder(environ, "XDG_CACHE_HOME", ".cache")


def state_folder(environ: Mapping[str, str]) -> str:
    """Where logs go: ``~/.local/state/envgraph``."""
    return xdg_folder(environ, "XDG_STATE_HOME", os.path.join(".local", "state"))


def default_store(environ: Mapping[str, str]) -> str:
    """The store's folder: ENVGRAPH_STORE, else ``~/.local/share/envgraph/store``."""
    if environ.get("ENVGRAPH_STORE"):
        return environ["ENVGRAPH_STORE"]
    folder = xdg_folder(environ, "XDG_DATA_HOME", os.path.join(".local", "share"))
    return os.path.join(folder, "store")
