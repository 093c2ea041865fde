"""The doctor's word on ``builder: auto``: where each would be asked, and what is there.

Nothing is asked: a unix socket is looked at, an address of a network only named.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from envgraph.api.builder import BuilderPlace, BuilderPlugin
from envgraph.apply.builders import plugin_options, plugins_in_order
from envgraph.apply.reach import places_of, reach_of
from envgraph.cli.machine import Check
from envgraph.errors import EnvgraphError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.reach import Reach
from envgraph.plugins import Plugins

NAME: Final = "builder"
_NOT_ASKED: Final = ", not asked"
_NOBODY: Final = "docker steps and build contexts cannot be built"


def check_auto(config: WorkspaceConfig, plugins: Plugins) -> Check:
    """Whether a builder of envgraph.yaml, or any for ``auto``, is there and within reach."""
    said, hints, good = [], [], False
    try:
        reach = reach_of(config.builder)
        found = plugins_in_order(config.builder, plugins)
    except EnvgraphError as error:
        [first, *_] = error.diagnostics
        return Check(NAME, "remark", f"{_NOBODY}: {first.summary}", first.hint)
    for plugin in found:
        fine, text, hint = _look(plugin, config, reach)
        good = good or fine
        said.append(text)
        hints.append(hint)
    summary = "; ".join(said) or "no plugin offers one"
    if good:
        return Check(NAME, "ok", f"{summary} (plan asks it when a step needs one)")
    hint = "; or ".join(dict.fromkeys(filter(None, hints)))
    return Check(NAME, "remark", f"{_NOBODY}: {summary}", hint)


def _look(plugin: BuilderPlugin, config: WorkspaceConfig, reach: Reach) -> tuple[bool, str, str]:
    """Whether it may be used, what is said of it, and the way out."""
    try:
        places = places_of(plugin, plugin_options(plugin, config.builder))
    except EnvgraphError as error:
        [first, *_] = error.diagnostics
        return False, first.summary, first.hint
    good, parts, hints = False, [], []
    for place in places:
        where = f"{plugin.name} at {place.address}" if place.address else plugin.name
        why = f" ({place.why})" if place.why else ""
        if not reach.allows(plugin.name, place.address):
            parts.append(f"{where}{why} is outside of builder.reach ({reach})")
            hints.append("set builder.address or builder.reach in envgraph.yaml")
            continue
        fault, hint = _fault(place)
        parts.append(f"{where}{why}{fault}")
        hints.append(hint)
        good = good or not fault or ("://" in place.address and fault == _NOT_ASKED)
    return good, ", ".join(parts), "; or ".join(dict.fromkeys(filter(None, hints)))


def _fault(place: BuilderPlace) -> tuple[str, str]:
    """What keeps this user from a place, as far as can be seen; nothing where nothing does."""
    if not place.address.startswith("unix://"):
        return ("", "") if "://" not in place.address else (_NOT_ASKED, "")
    path = Path(place.address.removeprefix("unix://"))
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f": {error.strerror}", "start dockerd or buildkitd"
    if not stat.S_ISSOCK(mode):
        return ": it is no socket", "start dockerd or buildkitd"
    if not os.access(path, os.R_OK | os.W_OK):
        return ": you may not use it", "join the group that may use it (often `docker`)"
    return "", ""
