"""The hooks that a plugin may implement. Each is offered; none has to be there.

A plugin marks its functions with :data:`hookimpl`, and names the module that holds
them in the entry-point group ``envgraph``::

    from envgraph.api import RegistryPlugin, hookimpl

    @hookimpl
    def envgraph_registries():
        yield RegistryPlugin("shelf", "images on a shelf", ShelfOptions, open_shelf)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pluggy

from envgraph.api.builder import BuilderPlugin
from envgraph.api.registry import Credentials, RegistryPlugin

PROJECT: Final = "envgraph"

hookspec: Final[pluggy.HookspecMarker] = pluggy.HookspecMarker(PROJECT)
hookimpl: Final[pluggy.HookimplMarker] = pluggy.HookimplMarker(PROJECT)


@hookspec
def envgraph_registries() -> Iterable[RegistryPlugin]:  # type: ignore[empty-body]
    """Yield the kinds of registry that this plugin can open."""


@hookspec
def envgraph_builders() -> Iterable[BuilderPlugin]:  # type: ignore[empty-body]
    """Yield the kinds of builder that this plugin can open."""


@hookspec(firstresult=True)
def envgraph_credentials(host: str, scope: str) -> Credentials | None:
    """Say the login for ``host[:port]``, or None to let the next plugin answer.

    ``scope`` is what it is for (``repository:team/app:pull``), empty when that is not
    known. It is asked in threads, and each time anew: remember what is slow.
    """


@hookspec(firstresult=True)
def envgraph_login(host: str, credentials: Credentials) -> str | None:
    """Keep a login for ``host[:port]`` where the user's tools find it; say where that is.

    It has been checked against the registry. None lets the next plugin keep it.
    """
