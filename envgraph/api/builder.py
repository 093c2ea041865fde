"""Builders: what a plugin implements that runs Dockerfile instructions.

A :class:`Builder` is given a :class:`BuildRequest` in which everything is resolved: bases by
the digest of their manifest, a context by the digest of its tree, arguments as text. It looks
up nothing, decides nothing, and gives layers and a config. It is passive and safe for threads;
each call is one try: the host owns threads, retries and time (see :class:`BuilderError`).

What a builder must do, whatever it is made of, is written down as tests:
``envgraph.testing.builder.contract.BuilderContract``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Protocol

from envgraph.api.events import Event
from envgraph.api.known import KnownLayers, LayerSource
from envgraph.api.registry import API_VERSION, PluginContext
from envgraph.errors import BuildError, SourceLocation
from envgraph.model.oci import Descriptor, Platform
from envgraph_store.digest import Digest

CAN_RUN: Final = "run"
"""``RUN`` works."""
CAN_DOCKERFILE: Final = "dockerfile"
"""Whole Dockerfiles with several stages work, not only instructions on a base."""
CAN_PINNED_BASES: Final = "pinned-bases"
"""``FROM python:3.12`` of a Dockerfile can be given another image by digest, with the
Dockerfile as it is. Without this, each name that a Dockerfile uses must hold its digest."""
CAN_BASE_BLOBS: Final = "base-blobs"
"""A base can be handed over as blobs (:attr:`Base.open_blob`), with no registry in between."""
CAN_SECRETS: Final = "secrets"
"""``RUN --mount=type=secret`` works."""
CAN_NO_NETWORK: Final = "no-network"
"""A build without network works, and is one."""

CAN_PROVENANCE: Final = "provenance"
"""It says how it built (:attr:`BuildResult.provenance`), since its settings ask for that."""

CAN_KNOWN_LAYERS: Final = "known-layers"
"""It asks :attr:`BuildRequest.known` for layers that the host has, and says of new ones what
they were made of. Nothing is refused without this: every layer is made and read then."""

CAPABILITIES: Final = frozenset(
    {
        CAN_RUN,
        CAN_DOCKERFILE,
        CAN_PINNED_BASES,
        CAN_BASE_BLOBS,
        CAN_SECRETS,
        CAN_NO_NETWORK,
        CAN_KNOWN_LAYERS,
        CAN_PROVENANCE,
    }
)


class BuilderError(BuildError):
    """A builder could not, or would not, do it.

    ``retryable``: the same call may succeed later, or with another builder of the same kind.
    ``retry_after``: seconds that the server asked to be left alone for, if it did.

    Codes: ``step-failed`` (an instruction failed: ``instruction`` counts from 0 in the
    request's steps and is None where that is not known, ``status`` is its exit code,
    ``output`` the last that it said, the diagnostic's ``source`` its line); ``builder-down``
    (no answer, or it went away; retryable); ``builder-refused`` (certificate, credentials, a
    request that it does not take); ``builder-lacks`` (it has no such ability; the summary
    names it); ``builder-answer`` (what came back is not what was asked for);
    ``base-missing`` (a base that the builder cannot get); ``builder-timeout`` (the request's
    time is over); ``cancelled``; ``builder-options`` (the settings are wrong);
    ``builder-out-of-reach`` (the host's: ``builder.reach`` does not allow it).
    """

    default_code = "builder-refused"

    def __init__(
        self,
        summary: str,
        *,
        code: str | None = None,
        detail: str = "",
        source: SourceLocation | None = None,
        hint: str = "",
        retryable: bool = False,
        retry_after: float | None = None,
        instruction: int | None = None,
        status: int | None = None,
        output: str = "",
    ) -> None:
        """One diagnostic, and what programs ask of a failed step."""
        super().__init__(summary, code=code, detail=detail, source=source, hint=hint)
        self.retryable = retryable
        self.retry_after = retry_after
        self.instruction = instruction
        self.status = status
        self.output = output

    @property
    def code(self) -> str:
        """The code of the diagnostic."""
        return self.diagnostics[0].code


BlobOpener = Callable[[Digest], AbstractContextManager[BinaryIO]]
"""Opens a blob from its first byte; NotFoundError when it is not to be had. Called from any
thread, more than once."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its blob, and the digest of its plain tar."""

    descriptor: Descriptor
    diff_id: Digest


@dataclass(frozen=True, slots=True)
class Base:
    """An image to build on, pinned: one manifest of one platform, never an index."""

    reference: str
    """What the user's text calls it, normalised (``docker.io/library/python:3.12``)."""

    manifest: Descriptor
    """Its manifest: media type, digest, size in bytes."""

    layers: tuple[Layer, ...]
    """From the bottom to the top, as its manifest and its config have them."""

    pull: str = ""
    """``HOST/REPOSITORY`` where a builder finds :attr:`manifest` by digest; empty when it is
    in no registry, as an image that was made a moment ago."""

    open_blob: BlobOpener | None = field(default=None, repr=False, compare=False)
    """Its blobs (manifest, config, layers) from the host; None when the host lacks some."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One Dockerfile instruction as it was written, heredocs and all."""

    text: str
    source: SourceLocation | None = None


@dataclass(frozen=True, slots=True)
class Steps:
    """Instructions on one base; None is ``scratch``."""

    base: Base | None
    instructions: tuple[Instruction, ...]
    images: Mapping[str, Base] = field(default_factory=dict)
    """What ``COPY --from`` and ``RUN --mount=from`` name, by the text of the instruction."""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole Dockerfile, built as it is."""

    data: bytes = field(repr=False)
    path: str
    """What messages call it."""

    bases: Mapping[str, Base] = field(default_factory=dict)
    """Every image that it names (``FROM``, ``COPY --from``, ``RUN --mount=from``), by the
    text after arguments were put in."""

    target: str = ""
    """The stage to build; empty is the last one."""


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """A file, folder or symlink of a build context."""

    path: str
    """Relative, with ``/``, no ``.`` or ``..`` in it."""

    mode: int
    """0o755 or 0o644."""

    size: int = 0
    """Bytes of a file."""

    link: str = ""
    """Where a symlink points."""

    folder: bool = False

    content: Digest | None = None
    """Of a file's bytes. A builder that keeps files between builds tells by it what changed;
    it reads the file to know where this is None."""


class BuildContext(Protocol):
    """The files that ``COPY`` and ``ADD`` see: ignore rules have been applied."""

    @property
    def digest(self) -> Digest:
        """The tree's digest; the same digest is the same names, contents, modes and links."""
        ...

    def entries(self) -> Iterator[ContextEntry]:
        """Everything, folders included, each path once, in no promised order."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A file's bytes; the caller closes it.

        OSError when it vanished or cannot be read, IntegrityError at the end of bytes that
        are not those that :attr:`digest` covers.
        """
        ...


SecretReader = Callable[[], bytes]
"""Gives a secret's bytes when a step asks for it."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """All that a build needs, resolved. Equal requests give equal layers, byte for byte."""

    platform: Platform
    recipe: Steps | Dockerfile
    context: BuildContext | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    """``ARG`` values. They are in the history: no place for secrets."""

    secrets: Mapping[str, SecretReader] = field(default_factory=dict, repr=False, compare=False)
    """By id, for ``--mount=type=secret,id=…``: in no layer, history, log, message or repr."""

    epoch: int = 0
    """Seconds since 1970: no file of a new layer, and no history entry, is later."""

    network: bool = True
    """Whether ``RUN`` has network, and whether the builder may use it for anything else."""

    timeout: float | None = None
    """Seconds until the build ends with ``builder-timeout``; None: no end."""

    known: KnownLayers | None = field(default=None, repr=False, compare=False)
    """What the host has of layers that were made before; None: ask nothing."""

    affinity: str = field(default="", compare=False)
    """Equal for requests that share steps or files, so that who has several servers sends them
    to the same one. It says nothing of what is built."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made. Its layers can be read while the build's context is entered."""

    base: Base | None
    """The one of the request's bases that the image stands on; None is ``scratch``."""

    layers: tuple[Layer, ...]
    """The new ones, above those of ``base``, from the bottom to the top. They are plain tar
    (``application/vnd.oci.image.layer.v1.tar``; digest and DiffID are one): the host
    compresses them as it is set up to."""

    config: bytes
    """The image's config. Its DiffIDs are those of the base and of ``layers``; its history
    is the base's and one entry for each instruction, with ``empty_layer`` where that made no
    layer; the new entries' times, and its own, are the request's epoch."""

    open: BlobOpener = field(repr=False, compare=False)
    """One of ``layers``, verified: IntegrityError at the end of other bytes. NotFoundError
    for one that :attr:`BuildRequest.known` gave and that was not made again."""

    sources: tuple[tuple[Digest, LayerSource], ...] = ()
    """DiffIDs with what those layers were made of, for the host to remember: of ``layers``,
    and of the base's where the server knows them by something else from now on. A layer may
    have several."""

    provenance: bytes = field(default=b"", repr=False, compare=False)
    """An in-toto statement (JSON) of how it was built, about each layer at least, where the
    builder gives one (:data:`CAN_PROVENANCE`). It is kept beside the image, and is no part of
    it or of any identity; no secret is in it."""


class Cancel(Protocol):
    """How the host asks a running build to end: ``threading.Event`` is one."""

    def is_set(self) -> bool:
        """Whether the build shall end now, with BuilderError ``cancelled``."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for it; :meth:`is_set` then."""
        ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a builder that answers can do."""

    platforms: tuple[Platform, ...]
    """For which it builds, its own first."""

    features: frozenset[str]
    """Of :data:`CAPABILITIES`. One that is not here is refused with ``builder-lacks``."""

    version: str = ""
    """What is behind it, for people: ``BuildKit in dockerd 28.5.2``."""


class Builder(Protocol):
    """Something that runs Dockerfile instructions."""

    @property
    def title(self) -> str:
        """What messages call it: a kind and an address, no credentials."""
        ...

    def capabilities(self) -> Capabilities:
        """Ask it what it can do; BuilderError with a hint when nothing answers."""
        ...

    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> AbstractContextManager[BuildResult]:
        """Build; the result is there when the context is entered, and gone when it is left.

        ``on_event`` is called in any thread, for each step: ``start``, ``message`` (a piece
        of its output in ``text``), ``progress``, then one of ``done``, ``skipped`` (it was
        built before) and ``failed``; ``key`` says which step, ``name`` what people read.
        ``cancel`` ends the build soon, and what it runs. Every failure is BuilderError; an
        error of the context, of a base's blob or of a secret comes out as it is.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuilderPlace:
    """Where a builder would be asked, and who said so.

    ``address`` is ``unix:///PATH`` or ``tcp://HOST:PORT``; for a program of this machine, its
    path. ``why`` is what messages say: ``DOCKER_HOST``, ``builder.address``.
    """

    address: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class BuilderPlugin:
    """What ``envgraph_builders`` yields: how to open builders of one ``type:``.

    ``options`` is a frozen dataclass whose fields all have defaults: ``builder: auto`` opens
    it without any. ``open(options, context)`` gives the builder for as long as it is
    entered; it opens no connection itself.
    """

    name: str
    summary: str
    options: type
    open: Callable[[Any, PluginContext], AbstractContextManager[Builder]]
    api_version: int = API_VERSION

    connects: Callable[[Any], bool] = lambda options: True
    """Whether a builder of these options opens connections beyond this machine's unix
    sockets, which ``--offline`` forbids."""

    servers: Callable[[Any, bool], Sequence[Any]] = lambda options, connect: (options,)
    """The options of each server that these name, where they can name several: the host opens
    each as a builder of its own, spreads requests over them by their ``affinity``, and goes
    on with another one when one is down. Only with ``connect`` a name service may be asked."""

    places: Callable[[Any], Sequence[BuilderPlace]] | None = None
    """Where builders of these options would be asked; BuilderError with a hint where there is
    nothing. Opens no connection and starts nothing. ``builder.reach`` is held to it; a plugin
    that does not tell is within ``local`` only if it does not connect."""
