"""Layers that the host has already: what a builder need not make or send again.

A builder that has the ability ``known-layers`` says of a layer what it was made of
(:class:`LayerSource`). The host keeps that beside the layer, and answers the next build's
questions (:class:`KnownLayers`, in :attr:`BuildRequest.known`). It is a memo: no answer means
that the layer is made again, and the bytes are the same with it and without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from envgraph_store.digest import Digest

if TYPE_CHECKING:
    from envgraph.api.builder import Layer


@dataclass(frozen=True, slots=True)
class LayerSource:
    """What a layer was made of: equal sources give equal layers, byte for byte."""

    digest: Digest
    """Of the bytes that it was made of, and which were verified: a layer as a server has it."""

    rule: str
    """How it was made, with its version and everything else that has a part in it (the
    epoch). The bytes that :attr:`digest` names, and this text, decide the layer."""


class KnownLayers(Protocol):
    """What the host remembers of layers that builders of the same type made. Safe for threads."""

    def layer(self, source: LayerSource) -> Layer | None:
        """The layer that was made of it, as the builder gave it then; None: not known.

        One that was answered may stand in a result without being readable there: for the
        rest of this build the host has it.
        """
        ...

    def source(self, diff_id: Digest, rule: str) -> Digest | None:
        """What a layer of the host's was made of by this rule; None: not known.

        Of several, the one that :attr:`BuildResult.sources` had last.
        """
        ...
