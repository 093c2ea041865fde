"""A builder in process, for tests without a daemon: it copies and sets, and runs nothing.

``COPY``, ``ENV``, ``LABEL``, ``WORKDIR``, ``USER`` and ``CMD`` on ``scratch`` or on a base handed
over as blobs. What it cannot do it refuses with ``builder-lacks``.
"""

from __future__ import annotations

import io
import json
import posixpath
import shlex
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from envgraph.api import (
    CAN_BASE_BLOBS,
    CAN_NO_NETWORK,
    OCI_LAYER,
    Base,
    BuilderError,
    BuilderPlugin,
    BuildRequest,
    BuildResult,
    Cancel,
    Capabilities,
    ContextEntry,
    Descriptor,
    Digest,
    Event,
    Instruction,
    Layer,
    Platform,
    PluginContext,
    Steps,
)
from envgraph.errors import NotFoundError

_PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))


@dataclass(frozen=True, slots=True)
class CopyingOptions:
    """It has none."""


class CopyingBuilder:
    """Layers out of files, configs out of settings. ``built`` keeps every request."""

    title = "the copying builder"

    def __init__(self) -> None:
        """Nothing was built."""
        self.built: list[BuildRequest] = []

    def capabilities(self) -> Capabilities:
        """Bases by blobs, and no network, as it needs none."""
        return Capabilities(_PLATFORMS, frozenset({CAN_BASE_BLOBS, CAN_NO_NETWORK}), "copying 1")

    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        """Build in memory."""
        recipe = request.recipe
        if not isinstance(recipe, Steps):
            raise BuilderError("the copying builder reads no Dockerfile", code="builder-lacks")
        if request.platform not in _PLATFORMS:
            raise BuilderError(f"it does not build for {request.platform}", code="builder-lacks")
        self.built.append(request)
        image = _Image(request, recipe.base)
        for index, instruction in enumerate(recipe.instructions):
            if cancel.is_set():
                raise BuilderError("the build was cancelled", code="cancelled")
            name = instruction.text.splitlines()[0]
            on_event(Event("start", str(index), "builder-step", name))
            try:
                image.run(index, instruction)
            except BuilderError as error:
                text = error.diagnostics[0].summary
                on_event(Event("failed", str(index), "builder-step", name, text=text))
                raise
            on_event(Event("done", str(index), "builder-step", name))
        if cancel.is_set():
            raise BuilderError("the build was cancelled", code="cancelled")
        blobs = {Digest.of(data): data for data in image.layers}

        @contextmanager
        def open_layer(digest: Digest) -> Iterator[BinaryIO]:
            if digest not in blobs:
                raise NotFoundError(f"the build made no layer {digest}")
            yield io.BytesIO(blobs[digest])

        layers = tuple(
            Layer(Descriptor(OCI_LAYER, Digest.of(data), len(data)), Digest.of(data))
            for data in image.layers
        )
        yield BuildResult(recipe.base, layers, image.config(layers), open_layer)


class _Image:
    def __init__(self, request: BuildRequest, base: Base | None) -> None:
        self._request = request
        self._base = base
        self.layers: list[bytes] = []
        self._time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(request.epoch))
        document: dict[str, Any] = {}
        if base is not None:
            if base.open_blob is None:
                raise BuilderError("it pulls no bases", code="builder-lacks")
            with base.open_blob(base.manifest.digest) as stream:
                manifest = json.loads(stream.read())
            with base.open_blob(Digest(manifest["config"]["digest"])) as stream:
                document = json.loads(stream.read())
        self._settings: dict[str, Any] = dict(document.get("config") or {})
        self._history: list[dict[str, Any]] = list(document.get("history") or [])

    def run(self, index: int, instruction: Instruction) -> None:
        word, _, rest = instruction.text.strip().partition(" ")
        before = len(self.layers)
        try:
            method = {
                "COPY": self._copy, "ENV": self._env, "LABEL": self._label,
                "WORKDIR": self._workdir, "USER": self._user, "CMD": self._cmd,
            }[word.upper()]  # fmt: skip
        except KeyError:
            raise BuilderError(
                f"the copying builder has no {word}",
                code="builder-lacks", source=instruction.source, instruction=index,
            ) from None  # fmt: skip
        try:
            method(rest.strip())
        except ValueError as error:
            raise BuilderError(
                f"`{instruction.text}` failed: {error}",
                code="step-failed", source=instruction.source, instruction=index,
            ) from None  # fmt: skip
        entry: dict[str, Any] = {"created": self._time, "created_by": instruction.text}
        if len(self.layers) == before:
            entry["empty_layer"] = True
        self._history.append(entry)

    def _env(self, rest: str) -> None:
        env = dict(pair.split("=", 1) for pair in self._settings.get("Env") or [])
        env |= _pairs(rest)
        self._settings["Env"] = [f"{name}={value}" for name, value in env.items()]

    def _label(self, rest: str) -> None:
        self._settings["Labels"] = (self._settings.get("Labels") or {}) | _pairs(rest)

    def _workdir(self, rest: str) -> None:
        path = posixpath.normpath(posixpath.join(self._settings.get("WorkingDir") or "/", rest))
        self._settings["WorkingDir"] = path
        self.layers.append(self._tar({path.strip("/"): None}))

    def _user(self, rest: str) -> None:
        self._settings["User"] = rest

    def _cmd(self, rest: str) -> None:
        try:
            self._settings["Cmd"] = json.loads(rest)
        except ValueError:
            self._settings["Cmd"] = ["/bin/sh", "-c", rest]

    def _copy(self, rest: str) -> None:
        *sources, target = shlex.split(rest)
        if not sources or any(each.startswith("--") for each in sources):
            raise ValueError("it copies SOURCE… TARGET, without flags")
        entries = {} if self._request.context is None else {
            entry.path: entry for entry in self._request.context.entries()
        }  # fmt: skip
        where = posixpath.join(self._settings.get("WorkingDir") or "/", target)
        into = where.endswith("/") or where.endswith("/.") or len(sources) > 1
        found: dict[str, ContextEntry | None] = {}
        for source in (posixpath.normpath(each).strip("/") for each in sources):
            inner = {
                path: entry
                for path, entry in entries.items()
                if source == "." or path == source or path.startswith(source + "/")
            }
            if not inner and source != ".":
                raise ValueError(f"{source} is not in the context")
            whole = source in inner and not inner[source].folder
            for path, entry in inner.items():
                if whole:
                    name = posixpath.join(where, posixpath.basename(path)) if into else where
                else:
                    name = posixpath.join(where, path if source == "." else path[len(source) + 1 :])
                found[posixpath.normpath(name).strip("/")] = entry
        self.layers.append(self._tar(found))

    def _tar(self, entries: dict[str, ContextEntry | None]) -> bytes:
        names = dict(entries)
        for name in entries:
            while name := posixpath.dirname(name):
                names.setdefault(name, None)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, entry in sorted(names.items()):
                if not name:
                    continue
                info = tarfile.TarInfo(name)
                info.mtime = self._request.epoch
                info.mode = 0o755 if entry is None else entry.mode
                if entry is None or entry.folder:
                    info.type = tarfile.DIRTYPE
                    tar.addfile(info)
                elif entry.link:
                    info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
                    tar.addfile(info)
                else:
                    assert self._request.context is not None
                    with self._request.context.open(entry.path) as stream:
                        data = stream.read()
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()

    def config(self, layers: tuple[Layer, ...]) -> bytes:
        below = [layer.diff_id for layer in self._base.layers] if self._base else []
        document = {
            "architecture": self._request.platform.architecture,
            "os": self._request.platform.os,
            "config": self._settings,
            "created": self._time,
            "history": self._history,
            "rootfs": {
                "type": "layers",
                "diff_ids": [str(each) for each in [*below, *(layer.diff_id for layer in layers)]],
            },
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _pairs(rest: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in shlex.split(rest)]
    if not pairs or not all(equals for _, equals, _ in pairs):
        raise ValueError("NAME=VALUE is wanted")
    return {name: value for name, _, value in pairs}


def copying_plugin(builder: CopyingBuilder | None = None) -> BuilderPlugin:
    """The type ``copying``, for ``Plugins((), builders=[…])``; ``builder`` is the one it opens."""

    @contextmanager
    def open_it(options: CopyingOptions, context: PluginContext) -> Iterator[CopyingBuilder]:
        yield builder or CopyingBuilder()

    return BuilderPlugin(
        "copying", "copies files in this process", CopyingOptions, open_it,
        connects=lambda options: False,
    )  # fmt: skip
