"""A request as the Dockerfile and the attributes that BuildKit's frontend takes.

Steps become a Dockerfile with one ``FROM``; a whole Dockerfile stays as it is. Bases are pinned
beside it, as named contexts: ``context:NAME`` says that ``NAME`` means an image by digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from envgraph.api import (
    Base,
    BuilderError,
    BuildRequest,
    Dockerfile,
    Instruction,
    Steps,
)
from envgraph.errors import SourceLocation

BASE_NAME: Final = "envgraph-base"
STORE: Final = "envgraph"
"""What BuildKit calls the host's blobs when it asks the session for them."""

_SYNTAX: Final = re.compile(
    rb"\A(?:\xef\xbb\xbf)?(?:#!.*\n)?\s*(?:#|//)\s*syntax\s*=\s*(\S+)", re.I
)


_FETCHES: Final = re.compile(r"\s*ADD\s.*(?:https?://|git://|git@)", re.I | re.S)
_STEP: Final = re.compile(r"\[(?:\S+ )?(\d+)/\d+\] (\S+)")
_COUNTED: Final = ("RUN", "COPY", "ADD", "WORKDIR")
"""Instructions that are steps of their own to BuildKit."""


def _word(text: str) -> str:
    return text.split(None, 1)[0].upper() if text.strip() else ""


@dataclass(frozen=True, slots=True)
class Written:
    """A Dockerfile as BuildKit gets it, and the way back from its lines."""

    data: bytes
    path: str
    attributes: Mapping[str, str]
    instructions: tuple[Instruction, ...] = ()
    starts: tuple[int, ...] = ()
    """The line of each instruction, from 1."""

    by_blobs: tuple[Base, ...] = ()
    """Bases that BuildKit fetches through the session."""

    names: tuple[tuple[str, str], ...] = ()
    """What a message of BuildKit's may call a base, and what the user calls it."""

    syntax: str = ""
    to_load: tuple[tuple[str, Base], ...] = ()
    """Bases that dockerd has to be given first, under these names."""

    def place(self, line: int | None) -> tuple[int | None, SourceLocation | None]:
        """The instruction of a line and where the user wrote it; None where there is none."""
        if line is None:
            return None, None
        if not self.starts:
            return None, SourceLocation(self.path, line)
        index = max((i for i, start in enumerate(self.starts) if start <= line), default=None)
        if index is None:
            return None, None
        return index, self.instructions[index].source

    def step(self, name: str) -> tuple[int | None, SourceLocation | None]:
        """As :meth:`place`, by what BuildKit calls a step: old servers tell no lines."""
        found = _STEP.match(name)
        if not found or not self.starts:
            return None, SourceLocation(self.path) if self.path else None
        below = 0 if self.data.startswith(b"FROM scratch\n") else 1
        counted = [i for i, each in enumerate(self.instructions) if _word(each.text) in _COUNTED]
        place = int(found[1]) - 1 - below
        if 0 <= place < len(counted):
            instruction = self.instructions[counted[place]]
            if _word(instruction.text) == _word(found[2]):
                return counted[place], instruction.source
        return None, None

    def text(self, index: int | None, line: int | None) -> str:
        """An instruction's first line, for a message."""
        found = ""
        if index is not None:
            found = self.instructions[index].text.strip().splitlines()[0]
        elif line is not None and self.path:
            lines = self.data.decode(errors="replace").splitlines()
            found = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        return f"`{found[:120]}`" if found else ""

    def named_in(self, text: str) -> str:
        """Which base a message of BuildKit's is about."""
        return next((title for name, title in self.names if name in text), "")


def familiar(name: str) -> str:
    """A reference as docker writes it for people, which is how the frontend looks it up."""
    for prefix in ("docker.io/library/", "index.docker.io/library/", "docker.io/", "library/"):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return name.removesuffix(":latest")


def write(
    request: BuildRequest,
    *,
    whole: bool,
    network: str,
    cache_from: Iterable[str],
    loads: bool = False,
) -> Written:
    """What to send for a request; ``whole``: the worker can do all that BuildKit can.

    ``loads``: where it cannot, it is in a dockerd, which can be given images.

    BuilderError ``builder-lacks`` and ``base-missing`` for bases that cannot be handed over.
    """
    recipe = request.recipe
    attributes = {"platform": str(request.platform), "filename": "Dockerfile"}
    attributes |= {f"build-arg:{name}": value for name, value in request.arguments.items()}
    if not request.network:
        attributes["force-network-mode"] = "none"
    elif network != "default":
        attributes["force-network-mode"] = network
    if request.secrets:  # a core dump would hold them, in a layer; old servers do not hear this
        attributes["ulimit"] = "core=0:0"
    imports = [{"Type": "registry", "Attrs": {"ref": ref}} for ref in cache_from]
    if imports and request.network:
        attributes["cache-imports"] = json.dumps(imports)
    if not whole and not request.network:
        _refuse_fetches(recipe)
    pinned = _Pinned(whole, loads, request.network, attributes)
    if isinstance(recipe, Steps):
        for name, base in recipe.images.items():
            pinned.add(name, base)
        data, starts = _steps(recipe, pinned)
        written = Written(data, "", attributes, recipe.instructions, starts)
    else:
        for name, base in recipe.bases.items():
            pinned.add(name, base)
        if recipe.target:
            attributes["target"] = recipe.target
        written = Written(recipe.data, recipe.path, attributes, syntax=_syntax(recipe, request))
    return Written(
        written.data, written.path, attributes, written.instructions, written.starts,
        tuple(pinned.by_blobs), tuple(pinned.names), written.syntax, tuple(pinned.to_load),
    )  # fmt: skip


def _syntax(recipe: Dockerfile, request: BuildRequest) -> str:
    found = _SYNTAX.match(recipe.data)
    name = found[1].decode(errors="replace")[:200] if found else ""
    if name and not request.network:
        raise BuilderError(
            f"`# syntax={name}` makes BuildKit fetch a frontend, and this build has no network",
            code="builder-refused",
            source=SourceLocation(recipe.path, 1),
            hint="BuildKit has a frontend of its own: leave the line out",
        )
    return name


def _refuse_fetches(recipe: Steps | Dockerfile) -> None:
    """Old servers know no source policy, which forbids ``ADD`` to fetch: so it is not sent."""
    if isinstance(recipe, Steps):
        texts = [(each.text, each.source) for each in recipe.instructions]
    else:
        lines = recipe.data.decode(errors="replace").splitlines()
        texts = [(line, SourceLocation(recipe.path, n)) for n, line in enumerate(lines, 1)]
    for text, source in texts:
        if _FETCHES.match(text):
            raise BuilderError(
                "this build has no network, and this BuildKit cannot keep ADD from fetching",
                code="builder-lacks",
                source=source,
            )


def _steps(recipe: Steps, pinned: _Pinned) -> tuple[bytes, tuple[int, ...]]:
    first = "scratch" if recipe.base is None else pinned.first(recipe.base)
    text = f"FROM {first}\n"
    starts = []
    for instruction in recipe.instructions:
        starts.append(text.count("\n") + 1)
        text += instruction.text.rstrip("\n") + "\n"
    return text.encode(errors="surrogateescape"), tuple(starts)


class _Pinned:
    """Collects the named contexts."""

    def __init__(self, whole: bool, loads: bool, network: bool, attributes: dict[str, str]) -> None:
        self._whole = whole
        self._network = network
        self._loads = loads
        self.to_load: list[tuple[str, Base]] = []
        self._attributes = attributes
        self.by_blobs: list[Base] = []
        self.names: list[tuple[str, str]] = []

    def first(self, base: Base) -> str:
        """What ``FROM`` says for the one base of steps."""
        by_blobs = base.open_blob is not None and not (base.pull and self._network)
        if not self._whole and self._loads and by_blobs:
            name = f"{BASE_NAME}-{base.manifest.digest.hex}"
            self._attributes["image-resolve-mode"] = "local"
            self.names += [(name, base.reference)]
            self.to_load.append((name, base))
            return name
        if not self._whole and not self._network:
            raise BuilderError(
                f"the base {base.reference} is not here, and this build has no network",
                code="base-missing",
                hint="build once with network",
            )
        if base.pull and (base.open_blob is None or not self._whole):
            name = f"{base.pull}@{base.manifest.digest}"
            self.names += [(name, name), (str(base.manifest.digest), name)]
            return name
        self._named(BASE_NAME, base)
        return BASE_NAME

    def add(self, name: str, base: Base) -> None:
        """Let ``name`` in the Dockerfile mean ``base``."""
        if not self._whole:
            if name.endswith(f"@{base.manifest.digest}"):
                self.names += [(name, name), (str(base.manifest.digest), name)]
                return
            raise BuilderError(
                f"this BuildKit cannot pin {name}, which a Dockerfile names without its digest",
                code="builder-lacks",
                hint=f"write {name}@{base.manifest.digest}, or use a dockerd with containerd's"
                " image store, or a buildkitd",
            )
        self._named(familiar(name), base)

    def _named(self, name: str, base: Base) -> None:
        digest = base.manifest.digest
        self.names += [(each, base.reference) for each in (name, base.reference, str(digest))]
        if base.open_blob is not None and self._whole:
            self._attributes[f"context:{name}"] = f"oci-layout://{STORE}@{digest}"
            self.by_blobs.append(base)
        elif base.pull:
            self._attributes[f"context:{name}"] = f"docker-image://{base.pull}@{digest}"
        elif base.open_blob is not None:
            raise BuilderError(
                f"this BuildKit takes no base as blobs, and {base.reference} is in no registry",
                code="builder-lacks",
                hint="push it to a registry that the builder reaches, or use a dockerd with"
                " containerd's image store, or a buildkitd",
            )
        else:
            raise BuilderError(
                f"the base {base.reference} is neither here nor in a registry", code="base-missing"
            )
