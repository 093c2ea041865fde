"""The builder: one connection, and for each build a session, a Solve and a spool folder."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from envgraph.api import (
    CAN_PROVENANCE,
    Builder,
    BuilderError,
    BuildRequest,
    BuildResult,
    Cancel,
    Capabilities,
    Event,
    Platform,
    PluginContext,
)
from envgraph_buildkit import caches as caching
from envgraph_buildkit.caches import CacheExport
from envgraph_buildkit.cachetext import read_cache
from envgraph_buildkit.connection import Connection
from envgraph_buildkit.content import Bases, Content, Store
from envgraph_buildkit.docker import forget_image, load_image, save_image
from envgraph_buildkit.exported import Exported, read_blobs, read_tar
from envgraph_buildkit.filesync import FileSync, Tree, tree_of, tree_of_file
from envgraph_buildkit.lent import lent
from envgraph_buildkit.messages import message
from envgraph_buildkit.opened import Opened
from envgraph_buildkit.options import BuildkitOptions, Endpoint, find_endpoint
from envgraph_buildkit.outputs import FileSend, FileTarget
from envgraph_buildkit.progress import Progress, Redactor
from envgraph_buildkit.provenance import statement_of
from envgraph_buildkit.recipe import Written, write
from envgraph_buildkit.result import bases_of, known_blob, result_of
from envgraph_buildkit.services import logins, secrets
from envgraph_buildkit.solve import run_solve

_EXPORT: Final = {"compression": "uncompressed", "oci-mediatypes": "true", "tar": "false"}
"""``tar``: blobs are sent one by one, and those that are here are not."""
_DENY: Final = 1
_FETCHED: Final = ("http://*", "https://*", "git://*", "docker-image://*")


class BuildkitBuilder(Builder):
    """Builds with the BuildKit that the options, the environment or this machine name."""

    def __init__(
        self, options: BuildkitOptions, context: PluginContext, environ: Mapping[str, str]
    ) -> None:
        """Bind; nothing is dialled."""
        self._options = options
        self._context = context
        self._environ = environ
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._loading = threading.Lock()
        self._loaded: dict[str, Connection] = {}
        self._broken: list[Connection] = []

    @property
    def title(self) -> str:
        """``buildkit at unix:///var/run/docker.sock``."""
        try:
            return f"buildkit at {self._endpoint().address}"
        except BuilderError:
            return "buildkit"

    def _endpoint(self) -> Endpoint:
        return find_endpoint(self._options, self._environ, Path(self._context.root))

    def _connected(self) -> Connection:
        with self._lock:
            if self._connection is not None and self._connection.broken:
                self._broken.append(self._connection)  # other builds may still end on it
                self._connection = None
            if self._connection is None:
                self._connection = Connection(self._endpoint())
            return self._connection

    def capabilities(self) -> Capabilities:
        """What the worker can do; BuilderError when nothing answers."""
        found = self._connected().capabilities()
        if self._options.provenance:
            return replace(found, features=found.features | {CAN_PROVENANCE})
        return found

    def _load(self, connection: Connection, written: Written, folder: Path) -> None:
        """Give dockerd the bases that it takes only as images; each once."""
        for name, base in written.to_load:
            with self._loading:
                if self._loaded.get(name) is not connection:
                    load_image(connection.endpoint, base, name, folder)
                    self._loaded[name] = connection

    def close(self) -> None:
        """Take back what was lent to dockerd, and close the connection."""
        with self._lock:
            for name, connection in self._loaded.items():
                forget_image(connection.endpoint, name)
            self._loaded.clear()
            for each in (self._connection, *self._broken):
                if each is not None:
                    each.close()
            self._connection = None
            self._broken.clear()

    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        """Build, read what came back, and keep it until the context is left."""
        if cancel.is_set():
            raise BuilderError("the build was cancelled", code="cancelled")
        connection = self._connected()
        worker = connection.worker()
        _check_platform(request.platform, worker.platforms)
        if self._options.provenance and not worker.whole:
            raise BuilderError(
                f"{self.title} keeps no provenance of what it builds",
                code="builder-lacks",
                hint="leave `provenance:` out, or use a dockerd with containerd's image store, or"
                " a buildkitd",
            )
        with tempfile.TemporaryDirectory(prefix="envgraph-buildkit-") as name:
            folder = Path(name)
            run, own = self._run(connection, request, on_event, folder, cancel)
            with run.exported() as exported:
                result = result_of(exported, request, folder, own=own)
            run.spool.unlink(missing_ok=True)
            if self._options.provenance:
                statement = statement_of(connection, run.ref, result, run.redactor.clean)
                result = replace(result, provenance=statement)
            yield result

    def _run(
        self,
        connection: Connection,
        request: BuildRequest,
        on_event: Callable[[Event], None],
        folder: Path,
        cancel: Cancel,
    ) -> tuple[Run, bool]:
        """The build, done: on what BuildKit has of the base already, where it has it still.

        And whether BuildKit has the host's own layers now, since it lost what it made.
        """
        whole = connection.worker().whole
        own = lent(request, whole=whole) if self._options.lend_layers else None
        for attempt in (own, None) if own is not None else (None,):
            asked = request if attempt is None else attempt.request
            written = write(
                asked, whole=whole, network=self._options.network, loads=connection.docker
            )
            self._load(connection, written, folder)
            run = Run(connection, self._options, self._context, asked, written, on_event, folder)
            try:
                run.solve(cancel)
                return run, own is not None and attempt is None
            except BuilderError:
                if attempt is None or not attempt.asked:
                    raise
        raise AssertionError("the last attempt returns or raises")


def _check_platform(wanted: Platform, offered: tuple[Platform, ...]) -> None:
    known = {(each.os, each.architecture) for each in offered}
    if (wanted.os, wanted.architecture) not in known:
        raise BuilderError(
            f"this BuildKit does not build for {wanted}",
            code="builder-lacks",
            detail=f"It builds for {', '.join(map(str, offered)) or 'nothing'}.",
            hint="use a builder on a machine of that platform, or give this one QEMU's binfmt",
        )


class Run:
    """One build: what BuildKit may ask for, and where the image goes."""

    def __init__(
        self, connection: Connection, options: BuildkitOptions, context: PluginContext,
        request: BuildRequest, written: Written, on_event: Callable[[Event], None], folder: Path,
    ) -> None:  # fmt: skip
        """Bind; nothing is asked yet."""
        self._connection = connection
        self._network = options.network
        self._imports, self._left, self._exports = _caches(options, request, Path(context.root))
        self._request = request
        self._written = written
        self.spool = folder / "image.tar"
        self._blobs = folder / "blobs"
        self._blobs.mkdir(exist_ok=True)
        self._manifest = ""
        self._spool = FileTarget(self.spool)
        self.ref = uuid.uuid4().hex
        self.redactor = redactor = Redactor()
        self._progress = Progress(on_event, redactor)
        trees = {"dockerfile": tree_of_file("Dockerfile", written.data)}
        trees["context"] = (
            Tree((), _nothing) if request.context is None else tree_of(request.context)
        )
        self._shared_key = _shared_key(context.root, trees["context"])
        known = partial(known_blob, request)
        bases = Bases(written.by_blobs, bases_of(request), self._blobs, known)
        self._opened = Opened()
        self._handlers = {
            **FileSync(trees, request.epoch).handlers(),
            **Content(_stores(self._imports, self._exports), bases, self._opened).handlers(),
            **FileSend({0: self._spool}).handlers(),
            **logins(lambda host: context.credentials(host, ""), redactor),
            **secrets(request.secrets, redactor),
        }

    def solve(self, cancel: Cancel) -> None:
        """Run it; the image's tar is at the spool's place then."""
        whole = self._connection.worker().whole
        name = f"envgraph-build-{self.ref}"
        message_ = message("SolveRequest")(
            Ref=self.ref, Frontend="dockerfile.v0",
            FrontendAttrs=dict(self._written.attributes),
            Exporter="oci" if whole else "moby",
            ExporterAttrs=_EXPORT if whole else {"name": name},
        )  # fmt: skip
        if self._request.network:
            caching.add(message_, self._imports, self._exports, frontend=True)
            if self._network == "host":
                message_.Entitlements.append("network.host")
        else:
            message_.SourcePolicy.version = 1
            for pattern in _FETCHED:
                rule = message_.SourcePolicy.rules.add(action=_DENY)
                rule.selector.identifier = pattern
        try:
            answer = run_solve(
                self._connection, message_, self._handlers, self._progress, self._written,
                shared_key=self._shared_key, cancel=cancel, timeout=self._request.timeout,
            )  # fmt: skip
            if self._spool.came:
                self._spool.keep()
            if not whole:
                save_image(self._connection.endpoint, name, self.spool)
        finally:
            self._opened.close()
            if not whole:
                forget_image(self._connection.endpoint, name)
        self._manifest = answer.get("containerimage.digest", "")
        if "cache.manifest" in answer:
            caching.finish(self._left, answer)

    def exported(self) -> AbstractContextManager[Exported]:
        """The image that came, by whichever way; BuilderError when none did."""
        if self.spool.exists():
            return read_tar(self.spool, self._request.platform)
        if not self._manifest:
            raise BuilderError(
                "BuildKit said that the build is done, and sent no image", code="builder-answer"
            )
        return read_blobs(self._blobs, self._manifest, self._request.platform)


def _caches(
    options: BuildkitOptions, request: BuildRequest, root: Path
) -> tuple[list[caching.Entry], list[CacheExport], list[caching.Entry]]:
    """Imports, and exports in both forms; a cache that cannot be written ends no build."""
    if not request.network:
        return [], [], []
    taken = [caching.of_text(read_cache(each, kept=False), root) for each in options.cache_from]
    left: list[CacheExport] = []
    if options.cache_to:
        left.append(caching.of_text(read_cache(options.cache_to, kept=True), root))
    exports = [
        replace(each, attributes={**each.attributes, "ignore-error": "true"})
        for each in caching.exports(left)
    ]
    return list(caching.imports(taken)), left, exports


def _stores(*groups: list[caching.Entry]) -> dict[str, Store]:
    return {name: store for group in groups for e in group for name, store in e.stores.items()}


def _shared_key(root: str, tree: Tree) -> str:
    """Equal for contexts that are versions of each other: BuildKit asks for changed files only."""
    top = sorted({entry.path.partition("/")[0] for entry in tree.entries})
    return hashlib.sha256(repr((root, top)).encode()).hexdigest()


def _nothing(path: str) -> BinaryIO:
    raise FileNotFoundError(path)
