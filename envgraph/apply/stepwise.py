"""How a builder makes one node: the request, and what is kept of the answer.

Each docker step is one request on the result of the step before, so whatever was built
before is not built again, for any environment and by any builder, and a step that fails
leaves those before it. ``ARG`` and ``SHELL`` say something about the instructions after
them which no image carries: they are sent along with each.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from envgraph.api.builder import (
    CAN_KNOWN_LAYERS,
    Base,
    BuilderError,
    BuildRequest,
    BuildResult,
    Dockerfile,
    Instruction,
    Layer,
    SecretReader,
    Steps,
)
from envgraph.api.events import Event
from envgraph.api.redact import Redactor
from envgraph.apply.affinity import affinity_of
from envgraph.apply.answers import (
    checked_config,
    explained,
    kept_below,
    read_full,
    without_repeats,
)
from envgraph.apply.builders import Builders, ChosenBuilder
from envgraph.apply.contexts import step_context, whole_context
from envgraph.apply.known import StoredLayers
from envgraph.errors import (
    BuildError,
    InputError,
    IntegrityError,
    NotFoundError,
)
from envgraph.image.compress import FRAME, default_compression
from envgraph.image.manifest import image_manifest
from envgraph.image.steps import STEP_EPOCH, BuiltImage
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.nodes import Node
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    OCI_IMAGE_MANIFEST,
    Descriptor,
    document_bytes,
    oci_platform,
)
from envgraph.model.reference import RegistryReference, parse_reference
from envgraph.model.spec import BuildSpec, DockerStep
from envgraph.refresh.observe import Observer, Subject, step_record
from envgraph_store import Digest, Store, Transaction

if TYPE_CHECKING:
    from envgraph.api.builder import Cancel
    from envgraph.lock.registry_bases import RegistryBases

_SENT_ALONG: Final = ("ARG", "SHELL")


@dataclass(frozen=True, slots=True)
class MadeImage:
    """What a node became, and what was written for it."""

    built: BuiltImage
    layers: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a builder gave, and what it was told that the store has."""

    chosen: ChosenBuilder
    result: BuildResult
    known: StoredLayers | None


class StepMaker:
    """Makes docker steps and build contexts; every method may be called from any thread."""

    def __init__(
        self,
        store: Store,
        config: WorkspaceConfig,
        builders: Builders,
        bases: Callable[[], RegistryBases] | None,
        *,
        offline: bool,
        on_event: Callable[[Event], None],
        cancel: Cancel,
        halt: Cancel,
    ) -> None:
        """Bind the parts; opens nothing. With ``halt`` nothing is tried again."""
        self._store = store
        self._config = config
        self._builders = builders
        self._bases = bases
        self._offline = offline
        self._on_event = on_event
        self._cancel = cancel
        self._halt = halt

    def make(
        self, node: Node, subject: Subject, observer: Observer, batch: Transaction
    ) -> MadeImage:
        """Build one node into ``batch``. BuilderError and BuildError as diagnostics say."""
        if node.kind == "build-context":
            return self._context(node, subject, batch)
        return self._step(node, subject, observer, batch)

    # -- requests --------------------------------------------------------

    def _step(
        self, node: Node, subject: Subject, observer: Observer, batch: Transaction
    ) -> MadeImage:
        steps = subject.spec.docker_steps
        index = subject.nodes.built.index(node.key)
        step = steps[index]
        below = self._below(subject, index, observer)
        if _word(step) == "ARG" and below is not None:
            base = subject.lock.base
            before = None if index == 0 else observer.built(subject.nodes.built[index - 1])
            same = before or BuiltImage(below.config or Digest.of(b""), (), len(base.layers))
            batch.put_action(str(node.key), step_record(same, "nobody: it changes no image"))
            return MadeImage(same, 0, 0)
        along = [s for s in steps[:index] if _word(s) in _SENT_ALONG]
        instructions = tuple(Instruction(s.instruction, s.source) for s in (*along, step))
        images = {image.text: self._named(subject.lock.images[image.text]) for image in step.images}
        context = None
        if step.folder:
            context = step_context(Path(step.folder), step.inputs, step.source)
        standing = None if below is None else self._base(below, subject.lock.base, index == 0)
        redactor = Redactor()
        request = BuildRequest(
            platform=_platform(subject),
            recipe=Steps(standing, instructions, images),
            context=context,
            secrets=self._secrets(step.secrets, step, redactor),
            epoch=STEP_EPOCH,
            network=not self._offline,
            timeout=self._builders.timeout,
            affinity=affinity_of(self._config, subject.spec, subject.lock),
        )
        started = below or subject.lock.base
        with self._run(node, request, redactor, step) as answer:
            return self._keep(node, answer, subject.lock.base, started, len(along), batch)

    def _context(self, node: Node, subject: Subject, batch: Transaction) -> MadeImage:
        build, lock = subject.spec.build, subject.lock
        if build is None or lock.context is None:
            raise BuildError(f"{node.name} is no build context")
        context, build = whole_context(
            self._config, self._store, build, lock.context, offline=self._offline
        )
        with context.open(build.dockerfile_path) as stream:
            data = stream.read()
        redactor = Redactor()
        for value in build.proxies.values():
            if "@" in value:  # a login, perhaps
                redactor.learn(value.encode())
        request = BuildRequest(
            platform=_platform(subject),
            recipe=Dockerfile(
                data,
                build.dockerfile_path,
                {text: self._named(base) for text, base in lock.images.items()},
            ),
            context=context,
            arguments={**lock.context.arguments, **build.proxies},
            secrets=self._secrets(build.secrets, build, redactor),
            epoch=STEP_EPOCH,
            network=not self._offline,
            timeout=self._builders.timeout,
            affinity=affinity_of(self._config, subject.spec, subject.lock),
        )
        with self._run(node, request, redactor, build) as answer:
            return self._keep(node, answer, lock.base, lock.base, 0, batch)

    def _below(self, subject: Subject, index: int, observer: Observer) -> LockedBase | None:
        """What a step stands on; None is ``scratch``."""
        base = subject.lock.base
        if index == 0:
            return None if base.is_scratch else base
        before = observer.built(subject.nodes.built[index - 1])
        if before is None:
            raise IntegrityError(
                "the step before is gone from the store", hint="plan again: it will be built anew"
            )
        return before.below(base)

    def _named(self, base: LockedBase) -> Base:
        return self._base(base, base, True)

    def _base(self, base: LockedBase, locked: LockedBase, is_locked: bool) -> Base:
        """A base for a builder: by digest where a registry has it, and as blobs in any case."""
        pull = ""
        if is_locked and base.manifest is not None:
            data = self._store.blobs.read(base.manifest, DOCUMENT_LIMIT)
            manifest = Descriptor(base.manifest_media_type, base.manifest, len(data))
            if base.in_registry and not self._offline:
                reference = parse_reference(base.reference)
                if isinstance(reference, RegistryReference):
                    pull = f"{reference.domain}/{reference.repository}"
        else:
            assert base.config is not None
            size = self._store.blobs.size(base.config)
            config = Descriptor("application/vnd.oci.image.config.v1+json", base.config, size)
            data = image_manifest(config, base.layers, [])
            manifest = Descriptor(OCI_IMAGE_MANIFEST, Digest.of(data), len(data))
        opener = partial(self._open_blob, {manifest.digest: data}, locked)
        layers = tuple(
            Layer(Descriptor(item.media_type, item.digest, item.size), item.diff_id)
            for item in base.layers
        )
        return Base(base.reference, manifest, layers, pull, opener)

    @contextmanager
    def _open_blob(
        self, documents: Mapping[Digest, bytes], locked: LockedBase, digest: Digest
    ) -> Iterator[BinaryIO]:
        if digest in documents:
            yield io.BytesIO(documents[digest])
        elif self._store.blobs.has(digest):
            with self._store.blobs.open(digest) as stream:
                yield stream
        else:
            layer = next((item for item in locked.layers if item.digest == digest), None)
            if layer is None or self._bases is None:
                raise NotFoundError(f"{digest} is not in the store")
            with self._bases().open_layer(locked, layer) as stream:
                yield stream

    def _secrets(
        self, names: Sequence[str], where: DockerStep | BuildSpec, redactor: Redactor
    ) -> dict[str, SecretReader]:
        found: dict[str, SecretReader] = {}
        for name in names:
            reference = self._config.secrets.get(name)
            if reference is None:
                raise InputError(
                    f"the step mounts the secret {name!r}, and envgraph.yaml has none of that name",
                    code="no-secret",
                    source=where.source,
                    hint=f"secrets: {{{name}: env:VARIABLE}}, or file:PATH",
                )
            found[name] = partial(_read_secret, name, reference, redactor)
        return found

    # -- running ---------------------------------------------------------

    @contextmanager
    def _run(
        self, node: Node, request: BuildRequest, redactor: Redactor, where: DockerStep | BuildSpec
    ) -> Iterator[_Answer]:
        chosen = self._builders.chosen()
        known = self._known(chosen)
        request = replace(request, known=known)

        def on_event(event: Event) -> None:
            if event.kind != "message" or not event.text.strip():
                return
            for line in redactor.clean(event.text).splitlines():
                if line.strip():
                    said = Event("message", str(node.key), node.kind, node.name, text=line)
                    self._on_event(said)

        try:
            with chosen.run(request, on_event, self._cancel, self._halt) as (server, result):
                yield _Answer(server, result, known)
        except BuilderError as error:
            raise explained(error, node, where, redactor) from error

    def _known(self, chosen: ChosenBuilder) -> StoredLayers | None:
        """What the store has of this builder's layers; None for one that does not ask."""
        if CAN_KNOWN_LAYERS not in chosen.capabilities.features:
            return None
        compression = default_compression(self._config.image.compression)
        return StoredLayers(self._store, chosen.name, compression)

    # -- results ---------------------------------------------------------

    def _keep(
        self,
        node: Node,
        answer: _Answer,
        base: LockedBase,
        started: LockedBase,
        along: int,
        batch: Transaction,
    ) -> MadeImage:
        """Take over what a builder gave, after everything in it was checked."""
        chosen, result, known = answer.chosen, answer.result, answer.known
        kept, above = kept_below(result, base, started, chosen)
        layers = list(above)
        sizes: list[tuple[BaseLayer, int | None]] = [(layer, None) for layer in above]
        new, written = 0, 0
        for layer in result.layers:
            stored = None if known is None else known.given(layer.diff_id)
            if stored is None:
                stored = self._layer(layer, result, chosen, batch)
                new, written = new + 1, written + stored.size
            else:
                batch.renew([stored.digest])
            layers.append(stored)
            sizes.append((stored, layer.descriptor.size))
        if known is not None:
            known.remember(result.sources, sizes, batch)
        config = checked_config(result.config, [*base.layers[:kept], *layers], chosen)
        if along and started.config is not None:
            before = self._store.blobs.read(started.config, DOCUMENT_LIMIT)
            config = without_repeats(config, before, along)
        data = document_bytes(config)
        batch.add_bytes(data)
        built = BuiltImage(Digest.of(data), tuple(layers), kept)
        statement = batch.add_bytes(result.provenance) if result.provenance else None
        batch.put_action(str(node.key), step_record(built, chosen.title, statement))
        return MadeImage(built, new, written + len(data))

    def _layer(
        self, layer: Layer, result: BuildResult, chosen: ChosenBuilder, batch: Transaction
    ) -> BaseLayer:
        compression = default_compression(self._config.image.compression)
        raw, size = hashlib.sha256(), 0
        with batch.writer("blobs") as writer, result.open(layer.descriptor.digest) as stream:
            while piece := read_full(stream, FRAME):
                raw.update(piece)
                frame = compression.frame(piece)
                writer.write(frame)
                size += len(frame)
            digest = writer.finish()
        found = Digest.from_hex(raw.hexdigest())
        if found != layer.diff_id:
            raise BuilderError(
                f"{chosen.builder.title} gave a layer that is not what it says",
                code="builder-answer",
                detail=f"it is {found}, and its DiffID says {layer.diff_id}",
            )
        return BaseLayer(compression.media_type, digest, size, found)


def _word(step: DockerStep) -> str:
    return step.instruction.split(None, 1)[0].upper()


def _platform(subject: Subject) -> Any:
    platform = oci_platform(subject.lock.platform)
    if platform is None:
        raise BuildError(f"no image is built for {subject.lock.platform}", code="image-platform")
    return platform


def _read_secret(name: str, reference: str, redactor: Redactor) -> bytes:
    kind, _, place = reference.partition(":")
    value: bytes | None = None
    if kind == "env":
        text = os.environ.get(place)
        value = None if text is None else text.encode("utf-8", "surrogateescape")
    else:
        with suppress(OSError):
            value = Path(place).read_bytes()
    if value is None:
        raise InputError(
            f"the secret {name!r} cannot be read",
            code="no-secret",
            hint="set the variable" if kind == "env" else "see whether the file is there",
        )
    redactor.learn(value)
    return value
