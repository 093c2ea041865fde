"""The operations of an LLB graph: what each runs, and the outputs of others that it works on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from envgraph.api import Platform

NOTHING: Final = -1
"""The index of an input that is ``scratch``, and of an output that nobody reads."""

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
class Node(ABC):
    """An operation; each is one of its own, however equal its bytes are to another's."""

    inputs: tuple[Output | None, ...] = ()
    platform: Platform | None = None
    """The one that it is for, where that is not the graph's."""

    name: str = ""
    """What progress calls it."""

    fresh: bool = False
    """It runs even when it ran before."""

    any_platform: ClassVar[bool] = False

    def abilities(self) -> set[str]:
        """BuildKit's names of what the worker must know.

        It refuses a graph with a name that it does not know, and ignores fields so.
        """
        return set()

    @abstractmethod
    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """Put the operation into ``op``; ``place`` adds an input and gives its index."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source(Node):
    """Something that comes from outside."""

    identifier: str
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])

    def abilities(self) -> set[str]:
        """A checksum that is ignored would be none."""
        return {"source.git.checksum"} if "git.checksum" in self.attributes else set()

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

    def abilities(self) -> set[str]:
        """What not every worker has."""
        asked = {
            "exec.meta.network": self.network,
            "exec.meta.security": self.security,
            "exec.validexitcode": self.exit_codes,
            "exec.secretenv": any(each.variable for each in self.mounts),
        }
        return {name for name, wanted in asked.items() if wanted}

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

    def abilities(self) -> set[str]:
        """Symlinks and patterns are younger than the rest."""
        kinds = {"file.symlink.create" for each in self.changes if each.kind == "symlink"}
        patterns = ("include_patterns", "exclude_patterns")
        if any(each.values.get(key) for each in self.changes for key in patterns):
            kinds.add("file.copy.includeexcludepatterns")
        return kinds

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

    any_platform: ClassVar[bool] = True

    def abilities(self) -> set[str]:
        """As :meth:`Node.abilities`."""
        return {"mergeop"}

    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """As :meth:`Node.fill`."""
        for each in self.inputs:
            op.merge.inputs.add(input=place(each))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Diff(Node):
    """What the second input has and the first has not."""

    any_platform: ClassVar[bool] = True

    def abilities(self) -> set[str]:
        """As :meth:`Node.abilities`."""
        return {"diffop"}

    def fill(self, op: Any, place: Callable[[Output | None], int]) -> None:
        """As :meth:`Node.fill`."""
        lower, upper = self.inputs
        op.diff.lower.SetInParent()
        op.diff.lower.input = place(lower)
        op.diff.upper.SetInParent()
        op.diff.upper.input = place(upper)
