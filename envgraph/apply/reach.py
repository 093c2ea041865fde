"""``builder.reach`` held to what a plugin says of its addresses, before anything is opened."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from envgraph.api.builder import BuilderError, BuilderPlace, BuilderPlugin
from envgraph.errors import InputError
from envgraph.model.config import Provider
from envgraph.model.reach import KEY, Reach, ReachError

OUT_OF_REACH: Final = "builder-out-of-reach"


def reach_of(provider: Provider) -> Reach:
    """What ``builder: {reach: ...}`` says; InputError where it says nothing that can be."""
    try:
        return Reach.read(provider.options.get(KEY))
    except ReachError as error:
        raise InputError(str(error), code="option", hint=error.hint) from None


def places_of(plugin: BuilderPlugin, options: Any) -> tuple[BuilderPlace, ...]:
    """Where builders of these options would be asked. BuilderError where there is nothing."""
    from envgraph.plugins import isolated

    with isolated(f"a builder of type {plugin.name} does not say where it is"):
        if plugin.places is not None:
            return tuple(plugin.places(options))
        return (BuilderPlace("" if plugin.connects(options) else f"/{plugin.name}"),)


def refuse_outside(reach: Reach, plugin: BuilderPlugin, options: Any) -> None:
    """BuilderError ``builder-out-of-reach`` where any of its addresses may not be used.

    Where a plugin finds nothing to ask, or cannot tell, its own error says so.
    """
    if reach.open:
        return
    for place in places_of(plugin, options):
        if reach.allows(plugin.name, place.address):
            continue
        where = f" at {place.address}" if place.address else ""
        said = f"The address is from {place.why}. " if place.why else ""
        add = place.address if "://" in place.address else f"type:{plugin.name}"
        raise BuilderError(
            f"{plugin.name}{where} is outside of `builder.reach`",
            code=OUT_OF_REACH,
            detail=f"{said}`builder.reach` of envgraph.yaml allows {reach}.",
            hint=_hint(plugin, place, add),
        )


def _hint(plugin: BuilderPlugin, place: BuilderPlace, add: str) -> str:
    ways = [f"unset {place.why}"] if place.why.isupper() else []
    if any(field.name == "address" for field in dataclasses.fields(plugin.options)):
        ways.append(f"set `builder: {{type: {plugin.name}, address: ...}}` to one that it allows")
    return "; or ".join([*ways, f"add {add} to `builder.reach`"])
