"""What a command sees beside ``/``, and what can be done to files: values of :mod:`.llb`."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envgraph_buildkit.ops import CACHE, SECRET, SHARINGS, SSH, TMPFS, Change, Mounted

if TYPE_CHECKING:
    from envgraph_buildkit.llb import State


@dataclass(frozen=True, slots=True)
class Bind:
    """Another filesystem at ``target``; None is an empty one. Writable, it is an output."""

    target: str
    source: State | None = None
    path: str = ""
    """The part of the source that is mounted."""

    readonly: bool = False
    discard: bool = False
    """It may be written to, and what was written is dropped."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder that the worker keeps between builds, under an id."""

    target: str
    id: str = ""
    """Empty: the target."""

    sharing: str = "shared"
    """``shared``, ``private`` or ``locked``."""

    source: State | None = None
    """What it holds at first."""


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A folder in memory; ``size`` in bytes, 0 is the worker's default."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of the client's, as a file or as an environment variable."""

    id: str
    target: str = ""
    """Empty, and ``variable`` too: ``/run/secrets/ID``."""

    variable: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0o400
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Ssh:
    """The client's ssh agent, as a socket that ``SSH_AUTH_SOCK`` names."""

    id: str = "default"
    target: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0o600
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Mkdir:
    """A folder. ``owner`` is ``USER:GROUP``, names or numbers; ``time`` seconds since 1970."""

    path: str
    mode: int = 0o755
    parents: bool = False
    owner: str = ""
    time: int | None = None


@dataclass(frozen=True, slots=True)
class Mkfile:
    """A file."""

    path: str
    data: bytes = field(repr=False)
    mode: int = 0o644
    owner: str = ""
    time: int | None = None


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symlink at ``path`` that points at ``target``. Old workers lack it."""

    target: str
    path: str
    owner: str = ""
    time: int | None = None


@dataclass(frozen=True, slots=True)
class Rm:
    """Remove a file or a folder."""

    path: str
    missing_ok: bool = False
    wildcard: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """Files of another filesystem."""

    source: State
    src: str
    dest: str
    mode: int | None = None
    owner: str = ""
    time: int | None = None
    follow_symlinks: bool = False
    contents: bool = False
    """Of a folder, what is in it."""

    unpack: bool = False
    """An archive is unpacked."""

    parents: bool = False
    wildcard: bool = False
    empty_wildcard: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


Mount = Bind | Cache | Tmpfs | Secret | Ssh
Action = Mkdir | Mkfile | Symlink | Rm | Copy


def one_of(names: tuple[str, ...], name: str) -> int:
    """The place of a name; ValueError where it is none of them."""
    if name not in names:
        raise ValueError(f"{name!r}: one of {', '.join(names)}")
    return names.index(name)


def mounted(mount: Mount, cwd: str) -> Mounted:
    """A mount as BuildKit has it; paths are relative to ``cwd``."""
    if isinstance(mount, Secret):
        target = mount.target or ("" if mount.variable else f"/run/secrets/{mount.id}")
        return Mounted(
            target, SECRET, key=mount.id, uid=mount.uid, gid=mount.gid, mode=mount.mode,
            optional=mount.optional, variable=mount.variable,
        )  # fmt: skip
    target = placed(cwd, mount.target)
    if isinstance(mount, Ssh):
        return Mounted(
            target, SSH, key=mount.id, uid=mount.uid, gid=mount.gid, mode=mount.mode,
            optional=mount.optional,
        )  # fmt: skip
    if isinstance(mount, Tmpfs):
        return Mounted(target, TMPFS, size=mount.size)
    source = mount.source.output if mount.source is not None else None
    if isinstance(mount, Cache):
        sharing = one_of(SHARINGS, mount.sharing)
        return Mounted(target, CACHE, source, key=mount.id or target, sharing=sharing)
    return Mounted(
        target, source=source, selector=mount.path, readonly=mount.readonly, discard=mount.discard
    )


def change(action: Action, cwd: str) -> Change:
    """An action as BuildKit has it; paths are relative to ``cwd``."""
    if isinstance(action, Rm):
        values: dict[str, Any] = {
            "path": placed(cwd, action.path), "allowNotFound": action.missing_ok,
            "allowWildcard": action.wildcard,
        }  # fmt: skip
        return Change("rm", values)
    values = {"timestamp": -1 if action.time is None else action.time * 1_000_000_000}
    if isinstance(action, Mkdir):
        values |= {"path": placed(cwd, action.path), "mode": action.mode & 0o777}
        return Change("mkdir", values | {"makeParents": action.parents}, action.owner)
    if isinstance(action, Mkfile):
        values |= {"path": placed(cwd, action.path), "mode": action.mode & 0o777}
        return Change("mkfile", values | {"data": action.data}, action.owner)
    if isinstance(action, Symlink):
        values |= {"oldpath": action.target, "newpath": action.path}
        return Change("symlink", values, action.owner)
    values |= {
        "src": placed(action.source.cwd, action.src),
        "dest": placed(cwd, action.dest, slash=True),
        "mode": -1 if action.mode is None else action.mode,
        "followSymlink": action.follow_symlinks, "dirCopyContents": action.contents,
        "attemptUnpackDockerCompatibility": action.unpack, "createDestPath": action.parents,
        "allowWildcard": action.wildcard, "allowEmptyWildcard": action.empty_wildcard,
        "include_patterns": action.include, "exclude_patterns": action.exclude,
    }  # fmt: skip
    return Change("copy", values, action.owner, action.source.output)


def placed(parent: str, path: str, *, slash: bool = False) -> str:
    """An absolute path, as BuildKit's client writes it; ``slash`` keeps one at the end."""
    made = posixpath.normpath(posixpath.join("/", parent, path))
    made = "/" + made.lstrip("/")
    if slash and path.endswith("/") and made != "/":
        return made + "/"
    if slash and path.endswith("/."):
        return posixpath.join(made, ".")
    return made
