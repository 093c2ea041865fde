"""What a builder made of the steps of one lock, as a document that travels.

::

    {"schema": "envgraph.steps/1", "platform": "linux-64", "created": "…",
     "base": "sha256:…" | null,
     "results": [{"key": "envkey1:…", "builder": "…", "config": "sha256:…", "kept": 1,
                  "layers": [{"media_type", "digest", "size", "diff_id"}]}],
     "documents": {"sha256:…": "<text>"}}

``documents`` are the configs of all results, and the base's config and manifest, so nothing
but layers has to be fetched beside it. Nobody can compute what a step makes: a result is
believed, as every build cache in a registry is. Everything else is checked here: that it is
of the step that was asked for, that it stands on the lock's base, that each config is the one
that its digest says and fits those layers. Layers are held to their digests and DiffIDs when
they are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from envgraph.errors import EnvgraphError, IntegrityError
from envgraph.image.steps import BuiltImage
from envgraph.model.canonical import NodeKey
from envgraph.model.locked import BaseLayer, LockedBase, LockedEnvironment
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    LAYER_TYPES,
    document_bytes,
    read_config,
    read_object,
)
from envgraph.refresh.observe import Observer
from envgraph_store import Digest, Store

SCHEMA: Final = "envgraph.steps/1"
_MOST_RESULTS: Final = 1000
_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step became; ``builder`` says who made it, for people."""

    key: NodeKey
    built: BuiltImage
    builder: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Results in the order of their steps, the last one among them."""

    results: tuple[StepResult, ...]
    documents: Mapping[Digest, bytes]
    """Configs of the results, and the documents of the base, as far as they are known."""

    @property
    def last(self) -> BuiltImage:
        """What stands after the last step."""
        return self.results[-1].built

    def needed(self, base: LockedBase) -> dict[Digest, BaseLayer]:
        """Every layer that a store needs for it: those of a base on disk, too."""
        own = () if base.in_registry else base.layers
        made = (layer for result in self.results for layer in result.built.layers)
        return {layer.digest: layer for layer in (*own, *made)}


def kept_chain(store: Store, lock: LockedEnvironment, keys: Sequence[NodeKey]) -> Chain | None:
    """What the store has of these steps; None where it lacks the last one.

    Results whose layers are not all in the last one are left out: nothing brings those.
    """
    observer = Observer(store)
    found: list[StepResult] = []
    for key in keys:
        built = observer.built(key)
        if built is not None:
            record = store.actions.get(str(key)) or {}
            found.append(StepResult(key, built, str(record.get("builder", ""))))
    if not found or found[-1].key != keys[-1]:
        return None
    top = set(found[-1].built.layers)
    found = [result for result in found if top.issuperset(result.built.layers)]
    base = lock.base
    named = {result.built.config for result in found} | {base.config, base.manifest}
    wanted = {digest for digest in named if digest is not None}
    there = wanted - store.blobs.missing(wanted)
    documents = {digest: store.blobs.read(digest, DOCUMENT_LIMIT) for digest in there}
    return Chain(tuple(found), documents)


def chain_bytes(chain: Chain, lock: LockedEnvironment, created: str) -> bytes:
    """The document; where it would be too long, with the last result alone."""
    data = _encoded(chain, lock, created)
    if len(data) <= DOCUMENT_LIMIT:
        return data
    named = {chain.last.config, lock.base.config, lock.base.manifest}
    documents = {digest: data for digest, data in chain.documents.items() if digest in named}
    return _encoded(Chain(chain.results[-1:], documents), lock, created)


def _encoded(chain: Chain, lock: LockedEnvironment, created: str) -> bytes:
    return document_bytes(
        {
            "schema": SCHEMA,
            "platform": lock.platform,
            "created": created,
            "base": None if lock.base.manifest is None else str(lock.base.manifest),
            "results": [
                {"key": str(result.key), "builder": result.builder} | result.built.to_json()
                for result in chain.results
            ],
            "documents": {
                str(digest): data.decode() for digest, data in sorted(chain.documents.items())
            },
        }
    )


def keys_in(data: bytes, what: str) -> tuple[str, str, tuple[str, ...]]:
    """For which platform a document is, when it was made, and the keys of its results."""
    document = _document(data, what)
    return document["platform"], document["created"], tuple(r["key"] for r in document["results"])


def read_chain(data: bytes, lock: LockedEnvironment, keys: Sequence[NodeKey], what: str) -> Chain:
    """The results for ``keys``, the last of them there; what is for other keys is left alone.

    IntegrityError ``registry-steps`` where anything is not what lock and keys say.
    """
    document = _document(data, what)
    if document["platform"] != lock.platform:
        raise wrong_steps(what, f"it is for {document['platform'][:40]!r}")
    base = None if lock.base.manifest is None else str(lock.base.manifest)
    if document.get("base") != base:
        raise wrong_steps(what, "its steps stand on another base than the lock's")
    documents = _texts(document, what)
    by_key = {item["key"]: item for item in document["results"]}
    results: list[StepResult] = []
    for key in keys:
        if (item := by_key.get(str(key))) is not None:
            results.append(_result(key, item, lock.base, documents, what))
    if not results or results[-1].key != keys[-1]:
        raise wrong_steps(what, "it does not say what the step became that was asked for")
    configs = {result.built.config for result in results}
    named = configs | {lock.base.config, lock.base.manifest}
    return Chain(tuple(results), {d: text for d, text in documents.items() if d in named})


def _document(data: bytes, what: str) -> dict[str, Any]:
    document = read_object(data, what)
    results = document.get("results")
    if document.get("schema") != SCHEMA:
        raise wrong_steps(what, "it has another schema than this version of envgraph reads")
    if not isinstance(results, list) or not 0 < len(results) <= _MOST_RESULTS:
        raise wrong_steps(what, "its results are no list, or too many")
    keys = [item.get("key") if isinstance(item, dict) else None for item in results]
    plain = all(type(text) is str for text in (*keys, document.get("platform")))
    if not plain or type(document.get("created")) is not str or len(set(keys)) != len(keys):
        raise wrong_steps(what, "it does not say what its results are of")
    return document


def _texts(document: Mapping[str, Any], what: str) -> dict[Digest, bytes]:
    found = document.get("documents")
    if not isinstance(found, dict) or not all(type(text) is str for text in found.values()):
        raise wrong_steps(what, "its documents are no texts")
    documents = {Digest.of(text.encode()): text.encode() for text in found.values()}
    if {str(digest) for digest in documents} != set(found):
        raise wrong_steps(what, "a document has other bytes than its digest says")
    return documents


def _result(
    key: NodeKey,
    item: Mapping[str, Any],
    base: LockedBase,
    documents: Mapping[Digest, bytes],
    what: str,
) -> StepResult:
    try:
        built = BuiltImage.from_json(item)
        builder = item["builder"]
        if type(builder) is not str or type(item["kept"]) is not int:
            raise ValueError("a text or number is none")
        if built.kept not in (0, len(base.layers)):
            raise ValueError("it keeps a part of the base")
        for layer in built.layers:
            if layer.media_type not in LAYER_TYPES or type(layer.size) is not int or layer.size < 0:
                raise ValueError("a layer is described wrongly")
        data = documents[built.config]
        config = read_config(data, "its config")
    except (KeyError, ValueError, TypeError, AttributeError, EnvgraphError) as error:
        raise wrong_steps(what, f"the result of {key} is not one ({str(error)[:100]})") from error
    stack = [*base.layers[: built.kept], *built.layers]
    if list(config.diff_ids) != [layer.diff_id for layer in stack]:
        raise wrong_steps(what, f"the config of {key} does not fit its layers")
    name = "".join(letter for letter in builder if letter.isprintable())
    return StepResult(key, built, name[:_LONGEST_NAME])


def wrong_steps(what: str, why: str) -> IntegrityError:
    """The error of whoever finds what a registry has of steps wrong."""
    return IntegrityError(
        f"{what}: {why}",
        code="registry-steps",
        detail="What the registry has of docker steps cannot be used; nothing of it was kept.",
        hint="run `envgraph apply` again: a builder makes it here, from the same lock",
    )
