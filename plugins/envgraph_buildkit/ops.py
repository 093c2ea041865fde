"""The operations of an LLB graph, and their bytes.

An operation is a value: what it runs, and the outputs of others that it works on. Its bytes are
BuildKit's ``pb.Op``, serialised deterministically, and its name in the graph is their sha256. So
equal graphs give equal bytes, and they are those that BuildKit's own Go client gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from envgraph.api import Platform
from envgraph_buildkit.messages import encode, message

NOTHING: Final = -1
"""The index of an input that is ``scratch``, and of an output that nobody reads."""

_PLATFORM_SOURCES: Final = ("docker-image://", "oci-layout://")
NETWORKS: Final = ("sandbox", "host", "none")
SECURITIES: Final = ("sandbox", "insecure")
SHARINGS: Final = ("shared", "private", "locked")
BIND, SECRET, SSH, CACHE, TMPFS = range(5)


@dataclass(frozen=True, slots=True)
class Output:
    """One of the filesystems that an operation leaves."""

    node: Node
    index: int = 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Node:
    """An operation; each is one of its own, however equal its bytes are to another's."""

    inputs: tuple[Output | None, ...] = ()
    platform: Platform | None = None
    """The one that it is for, where that is not the graph's."""

    name: str = ""
    """What progress calls it."""

    fresh: bool = False
    """It runs even when it ran before."""

    ability: ClassVar[str] = ""
    """What a worker must be able to do, beyond the oldest that this client speaks to."""

    any_platform: ClassVar[bool] = False

    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """Put the operation into ``op``; ``place`` adds an input and gives its index."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source(Node):
    """Something that comes from outside."""

    identifier: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """As :meth:`Node.fill`."""
        op.source.identifier = self.identifier
        op.source.attrs.update(self.attributes)


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount of an :class:`Exec`: its kind, and what BuildKit wants to know of that kind."""

    target: str
    kind: int = BIND
    source: Output | None = None
    selector: str = ""
    readonly: bool = False
    discard: bool = False
    """What is written there is thrown away."""

    key: str = ""
    sharing: int = 0
    size: int = 0
    uid: int = 0
    gid: int = 0
    mode: int = 0
    optional: bool = False
    variable: str = ""
    """A secret's environment variable."""

    @property
    def writes(self) -> bool:
        """It is an output."""
        return self.kind == BIND and not self.readonly and not self.discard


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Exec(Node):
    """A command in a container."""

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    user: str = ""
    mounts: tuple[Mounted, ...]
    """The first is ``/``."""

    network: int = 0
    security: int = 0
    hosts: tuple[tuple[str, str], ...] = ()
    exit_codes: tuple[int, ...] = ()

    def ordered(self) -> list[Mounted]:
        """The mounts that are filesystems, as BuildKit wants them: by target."""
        files = [each for each in self.mounts if each.kind not in (SECRET, SSH)]
        return sorted(files, key=lambda each: each.target.encode())

    def index(self, mount: Mounted) -> int:
        """Which output a mount is."""
        return [each for each in self.ordered() if each.writes].index(mount)

    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """As :meth:`Node.fill`."""
        run, outputs = op.exec, 0
        run.meta.args.extend(self.args)
        run.meta.env.extend(f"{name}={value}" for name, value in self.env)
        run.meta.cwd, run.meta.user = self.cwd, self.user
        run.meta.removeMountStubsRecursive = True
        run.meta.validExitCodes.extend(self.exit_codes)
        for name, address in self.hosts:
            run.meta.extraHosts.add(Host=name, IP=address)
        run.network, run.security = self.network, self.security
        for each in self.ordered():
            made = run.mounts.add(
                input=place(each.source), selector=each.selector, dest=each.target,
                readonly=each.readonly, output=outputs if each.writes else NOTHING,
                mountType=each.kind,
            )  # fmt: skip
            outputs += each.writes
            if each.kind == CACHE:
                made.cacheOpt.ID, made.cacheOpt.sharing = each.key, each.sharing
            elif each.kind == TMPFS:
                made.TmpfsOpt.SetInParent()
                made.TmpfsOpt.size = each.size
        for each in self.mounts:
            if each.variable:
                run.secretenv.add(ID=each.key, name=each.variable, optional=each.optional)
            elif each.kind in (SECRET, SSH):
                made = run.mounts.add(input=NOTHING, dest=each.target, mountType=each.kind)
                options = made.secretOpt if each.kind == SECRET else made.SSHOpt
                options.ID, options.uid, options.gid = each.key, each.uid, each.gid
                options.mode, options.optional = each.mode, each.optional


@dataclass(frozen=True, slots=True)
class Change:
    """A file action: its field in ``FileAction``, the values, whose it is, what it copies."""

    kind: str
    values: Mapping[str, Any]
    owner: str = ""
    source: Output | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Files(Node):
    """Actions on files, in order; one layer. The first input is what they work on."""

    changes: tuple[Change, ...]
    any_platform: ClassVar[bool] = True

    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """As :meth:`Node.fill`."""
        base = place(self.inputs[0])
        copied = [place(each.source) for each in self.changes]
        below = len(op.inputs)
        for number, (change, secondary) in enumerate(zip(self.changes, copied, strict=True)):
            action = op.file.actions.add(
                input=base if number == 0 else below + number - 1, secondaryInput=secondary,
                output=0 if number == len(self.changes) - 1 else NOTHING,
            )  # fmt: skip
            made = getattr(action, change.kind)
            made.SetInParent()
            for key, value in change.values.items():
                if isinstance(value, tuple):
                    getattr(made, key).extend(value)
                else:
                    setattr(made, key, value)
            for part, name in zip(("user", "group"), change.owner.split(":", 1), strict=False):
                if not name:
                    continue
                who = getattr(made.owner, part)
                if name == "root" or name.isdecimal():
                    who.byID = 0 if name == "root" else int(name)
                else:
                    who.byName.name, who.byName.input = name, base


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Merge(Node):
    """Filesystems laid over each other, without copying."""

    ability: ClassVar[str] = "mergeop"
    any_platform: ClassVar[bool] = True

    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """As :meth:`Node.fill`."""
        for each in self.inputs:
            op.merge.inputs.add(input=place(each))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Diff(Node):
    """What the second input has and the first has not."""

    ability: ClassVar[str] = "diffop"
    any_platform: ClassVar[bool] = True

    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """As :meth:`Node.fill`."""
        lower, upper = self.inputs
        op.diff.lower.SetInParent()
        op.diff.lower.input = place(lower)
        op.diff.upper.SetInParent()
        op.diff.upper.input = place(upper)


@dataclass(frozen=True, slots=True)
class Definition:
    """A graph's bytes. ``message`` is BuildKit's ``pb.Definition``, serialised."""

    operations: tuple[bytes, ...] = ()
    """Each after its inputs; the last names the output. Empty for ``scratch``."""

    data: bytes = b""
    abilities: frozenset[str] = frozenset()
    """What the worker must be able to do: ``mergeop``, ``diffop``, ``oci-layout``."""

    allowed: tuple[str, ...] = ()
    """Entitlements that it needs: ``network.host``, ``security.insecure``."""

    locals: tuple[str, ...] = ()
    """The names of folders of the client's that it reads."""


def define(
    output: Output | None, platform: Platform, unique: Callable[[str], str] = lambda name: ""
) -> Definition:
    """The bytes of a graph for a platform.

    ``unique`` gives a text for a local folder: solves that run at once share a step only when
    their texts are equal.
    """
    if output is None:
        return Definition()
    whole = message("Definition")()
    digests: dict[int, str] = {}
    abilities, allowed, folders = set(), set(), set()
    for node in _inputs_first(output.node):
        data = _bytes(node, digests, platform, unique)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        digests[id(node)] = digest
        if digest not in whole.metadata:
            getattr(whole, "def").append(data)
        about = whole.metadata[digest]
        about.ignore_cache |= node.fresh
        if node.name:
            about.description["llb.customname"] = node.name
        if node.ability:
            about.caps[node.ability] = True
            abilities.add(node.ability)
        if isinstance(node, Source):
            scheme, _, rest = node.identifier.partition("://")
            if scheme == "local":
                folders.add(rest)
            elif scheme == "oci-layout":
                abilities.add(scheme)
        elif isinstance(node, Exec):
            if node.network == NETWORKS.index("host"):
                allowed.add("network.host")
            if node.security:
                allowed.add("security.insecure")
    last = message("Op")()
    last.inputs.add(digest=digests[id(output.node)], index=output.index)
    operations = getattr(whole, "def")
    operations.append(encode(last))
    return Definition(
        tuple(operations), encode(whole), frozenset(abilities), tuple(sorted(allowed)),
        tuple(sorted(folders)),
    )  # fmt: skip


def _inputs_first(last: Node) -> Iterator[Node]:
    """Every node once, after its inputs; graphs may be deeper than Python's stack."""
    done: set[int] = set()
    stack: list[tuple[Node, bool]] = [(last, False)]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            yield node
            continue
        stack.append((node, True))
        stack += [(each.node, False) for each in reversed(inputs_of(node)) if each is not None]


def inputs_of(node: Node) -> list[Output | None]:
    """What a node works on."""
    found = list(node.inputs)
    if isinstance(node, Exec):
        found += [each.source for each in node.ordered()]
    elif isinstance(node, Files):
        found += [each.source for each in node.changes]
    return found


def _bytes(
    node: Node, digests: Mapping[int, str], platform: Platform, unique: Callable[[str], str]
) -> bytes:
    """One ``pb.Op``. Go writes the operation itself after all other fields, and so is it here."""
    head, body = message("Op")(), message("Op")()
    repeats = isinstance(node, Merge | Diff)

    def place(output: Output | None) -> int:
        if output is None:
            return NOTHING
        found = message("Input")(digest=digests[id(output.node)], index=output.index)
        if not repeats and found in body.inputs:
            return list(body.inputs).index(found)
        body.inputs.append(found)
        return len(body.inputs) - 1

    node.fill(body, place)
    head.inputs.extend(body.inputs)
    del body.inputs[:]
    source = node.identifier if isinstance(node, Source) else ""
    if source.startswith("local://"):
        body.source.attrs["local.unique"] = unique(source.removeprefix("local://"))
    if not node.any_platform and (not source or source.startswith(_PLATFORM_SOURCES)):
        wanted = node.platform or platform
        head.platform.OS, head.platform.Architecture = wanted.os, wanted.architecture
        head.platform.Variant = wanted.variant
    head.constraints.SetInParent()
    return encode(head) + encode(body)
