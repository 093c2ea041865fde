"""What builders made of docker steps, in a registry: the artifact, and how it is looked for.

``envgraph/steps`` holds artifacts that belong to no environment: a document that says what
each step of a recipe became (:mod:`envgraph.interchange.chain` reads and writes it), with the
layers. One artifact has a tag ``key-<64 hex>`` for each of its steps that had none before. So
environments share what lies at the beginning of their steps, as they do in a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from envgraph.errors import IntegrityError
from envgraph.model.oci import OCI_IMAGE_MANIFEST, Descriptor, document_bytes, read_object
from envgraph.registry.artifacts import STEPS, descriptor_of
from envgraph_store.digest import Digest

STEPS_TYPE: Final = "application/vnd.envgraph.steps.v1"

_K = TypeVar("_K")


def steps_manifest(document: bytes, layers: Iterable[Descriptor]) -> bytes:
    """The manifest of the artifact: the document, and the layers that it names."""
    config = Descriptor(STEPS, Digest.of(document), len(document))
    return document_bytes(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_MANIFEST,
            "artifactType": STEPS_TYPE,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    )


def steps_document(manifest: bytes, what: str) -> Descriptor:
    """Where an artifact has its document; IntegrityError when it is none of these."""
    document = read_object(manifest, what)
    if document.get("artifactType") != STEPS_TYPE:
        raise IntegrityError(f"{what}: it is no {STEPS_TYPE}", code="registry-steps")
    return descriptor_of(document.get("config"), what)


def known_beginning(keys: Sequence[_K], has: Callable[[_K], bool]) -> int:
    """How many of the first keys are there, where whoever has one has those before it.

    Names are given in that order, so it holds but where somebody deletes: then less is
    found than is there. The last is asked first, then the first; at most 2 + log2(n) questions.

    >>> asked = []
    >>> known_beginning("abcdefgh", lambda k: bool(asked.append(k)) or k <= "e"), "".join(asked)
    (5, 'hadfe')
    """
    if not keys or has(keys[-1]):
        return len(keys)
    if len(keys) == 1 or not has(keys[0]):
        return 0
    there, lacking = 1, len(keys)
    while lacking - there > 1:
        middle = (there + lacking) // 2
        if has(keys[middle - 1]):
            there = middle
        else:
            lacking = middle
    return there
