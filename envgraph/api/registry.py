"""Registries: what a plugin that keeps images somewhere implements.

A :class:`Registry` holds repositories, a :class:`Repository` holds blobs and manifests
by digest, and tags that name manifests: the model of the OCI distribution spec, without
its HTTP. Both are passive and safe for threads. Each method is one try: the host owns
loops, threads, retries, resumption and time (see :class:`RegistryError`).

What a registry must do, whatever it is made of, is written down as tests:
``envgraph.testing.registry.contract.RegistryContract``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol, runtime_checkable

from envgraph.errors import EnvgraphError
from envgraph.model.oci import Descriptor
from envgraph_store.digest import Digest

API_VERSION: Final = 1
"""The version of these interfaces. A descriptor of another version is refused."""


class RegistryError(EnvgraphError):
    """A registry could not, or would not, do it.

    ``retryable``: the same call may succeed later; the host then waits at least
    ``retry_after`` seconds, where the registry asked for that. Absent manifests and
    blobs are :class:`~envgraph.errors.NotFoundError`, wrong bytes are
    :class:`~envgraph.errors.IntegrityError`; neither is tried again.

    Codes: ``registry-down`` (no answer), ``registry-denied`` (credentials are missing
    or not enough), ``registry-answer`` (an answer that makes no sense),
    ``registry-full`` (it has no room), ``registry-unsupported`` (it has no such ability),
    ``registry-options`` (the settings, or a name, are wrong).
    """

    default_code = "registry-answer"

    def __init__(
        self,
        summary: str,
        *,
        code: str | None = None,
        detail: str = "",
        hint: str = "",
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        """One diagnostic, and whether trying again may help."""
        super().__init__(summary, code=code, detail=detail, hint=hint)
        self.retryable = retryable
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class ManifestBytes:
    """A manifest or index exactly as the registry keeps it. ``digest`` is that of ``data``."""

    media_type: str
    data: bytes
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        """What names it: media type, digest, size."""
        return Descriptor(self.media_type, self.digest, len(self.data))


BlobSource = Callable[[], BinaryIO]
"""Opens the blob from its first byte; called again for each try. The caller closes it."""


class Repository(Protocol):
    """One repository of a registry.

    ``reference`` is a tag or the text of a digest. Every method may raise
    :class:`RegistryError`.
    """

    @property
    def name(self) -> str:
        """The name by which the registry gave it."""
        ...

    def resolve(self, reference: str) -> Descriptor | None:
        """The manifest that a tag or digest means now; None when there is none."""
        ...

    def get_manifest(self, reference: str) -> ManifestBytes:
        """The manifest's bytes, unchanged.

        NotFoundError when there is none; IntegrityError when a digest was asked for and
        the bytes have another, when they are larger than 4 MiB, or when the media type in
        the bytes is not the one that the registry says.
        """
        ...

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Keep these bytes and let ``reference`` name them; the digest of ``data``.

        The blobs and manifests that it names must be there: a registry may refuse it
        otherwise. A tag that names something else moves, in one step.
        """
        ...

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Those of these blobs that the repository does not have."""
        ...

    def open_blob(
        self, digest: Digest, size: int, offset: int = 0
    ) -> AbstractContextManager[BinaryIO]:
        """The bytes of a blob from ``offset`` on; NotFoundError when it is not there.

        Nothing is verified here: the host counts and hashes what it reads, and goes on
        from where a body broke off. A registry that cannot begin in the middle gives
        RegistryError ``registry-unsupported`` for an ``offset`` above 0.
        """
        ...

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Keep a blob. When this returns, :meth:`missing` does not name it any more.

        IntegrityError when the source's bytes are not the descriptor's; then nothing
        of them is visible. What the source itself raises comes out as it is, and leaves
        nothing either.
        """
        ...

    def mount(self, digest: Digest, from_repository: str) -> bool:
        """Take a blob over from another repository of this registry, without its bytes.

        False when that cannot be done (no such blob, no such right, no such ability):
        the host pushes the blob then.
        """
        ...

    def tags(self) -> Iterator[str]:
        """All tags, each once, in no promised order; none for an unknown repository."""
        ...

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Manifests whose ``subject`` is ``digest``; only those of a type, when one is given."""
        ...

    def delete(self, reference: str) -> None:
        """Remove a tag, or a manifest with every tag that names it.

        NotFoundError when there is none, RegistryError ``registry-unsupported`` when
        the registry deletes nothing.
        """
        ...


class Registry(Protocol):
    """A place that keeps repositories."""

    @property
    def title(self) -> str:
        """What messages call the place: a host or a folder; no credentials."""
        ...

    def repository(self, name: str) -> Repository:
        """The repository of that name (OCI's grammar), there or not; asks nothing."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """The repositories whose names begin with ``prefix``.

        RegistryError ``registry-unsupported`` where a registry does not tell.
        """
        ...


@runtime_checkable
class Checked(Protocol):
    """A :class:`Registry` that can be asked about itself. Not every one can."""

    def check(self) -> None:
        """Ask whether it is there and takes the user's login; RegistryError says why not."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login, or a token that is sent as it is. Never printed: ``repr`` hides it."""

    username: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return "Credentials(…)"


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What the host hands to a plugin that is opened."""

    root: str
    """The workspace's folder, absolute: relative paths in options start there."""

    credentials: Callable[[str, str], Credentials | None]
    """``credentials(host, scope)``: what the user's setup has for a ``host[:port]``."""

    secrets: Mapping[str, str]
    """The workspace's ``secrets:``: name → ``env:VAR`` or ``file:PATH``."""


@dataclass(frozen=True, slots=True)
class RegistryPlugin:
    """What ``envgraph_registries`` yields: how to open registries of one ``type:``.

    ``options`` is a frozen dataclass; its fields are the keys that envgraph.yaml may
    hold beside ``type``, with ``bool``, ``int``, ``str`` and ``tuple[str, ...]`` as
    types. ``open(options, context)`` gives the registry for as long as it is entered; it
    opens no connection itself.
    """

    name: str
    summary: str
    options: type
    open: Callable[[Any, PluginContext], AbstractContextManager[Registry]]
    api_version: int = API_VERSION

    connects: Callable[[Any], bool] = lambda options: True
    """Whether a registry of these options opens connections, which ``--offline`` forbids."""

    for_host: Callable[[str, Any | None], Any] | None = None
    """For types that can be asked for docker references: ``for_host(host, near)`` gives the
    options for a bare ``host[:port]``, whose repositories are then those of the host.
    ``near`` are the options of an entry of envgraph.yaml for the same host, whose
    settings (a CA, say) hold here too; None without one."""

    host_of: Callable[[Any], str] | None = None
    """The ``host[:port]`` behind options."""

    prefix_of: Callable[[Any], str] = lambda options: ""
    """What stands before the names of these repositories on that host, as PREFIX in
    ``HOST/PREFIX/NAME``: layers of bases on the same host are mounted, not sent."""
