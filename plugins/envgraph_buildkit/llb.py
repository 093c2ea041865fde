r"""Build graphs without a Dockerfile: filesystems, and what is done to them.

A :class:`State` is a filesystem, with the settings of what will run in it. Every call gives a
new one; nothing runs before :meth:`envgraph_buildkit.client.BuildkitClient.solve`::

    base = llb.image("docker.io/library/debian@sha256:…")
    made = base.run("make install", env={"V": "1"}, mounts=[llb.Bind("/src", llb.local("src"))])
    made = made.file(llb.Mkfile("/etc/motd", b"hello\n"), llb.Rm("/var/cache"))

BuildKit reads no settings out of an image's config here: :meth:`State.with_config` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from envgraph.api import Platform
from envgraph_buildkit.mounts import (
    Action,
    Bind,
    Cache,
    Copy,
    Mkdir,
    Mkfile,
    Mount,
    Rm,
    Secret,
    Ssh,
    Symlink,
    Tmpfs,
    change,
    mounted,
    one_of,
    placed,
)
from envgraph_buildkit.ops import (
    NETWORKS,
    SECURITIES,
    Definition,
    Diff,
    Exec,
    Files,
    Merge,
    Mounted,
    Output,
    Source,
    define,
)

__all__ = [
    "Action", "Bind", "Cache", "Copy", "Definition", "Executed", "Mkdir", "Mkfile", "Mount", "Rm",
    "Secret", "Ssh", "State", "Symlink", "Tmpfs", "diff", "git", "http", "image", "local", "merge",
    "oci_layout", "scratch",
]  # fmt: skip

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class State:
    """A filesystem, and the environment, folder and user of what runs in it next."""

    output: Output | None = None
    """None is ``scratch``."""

    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    platform: Platform | None = None

    def with_env(self, **values: str) -> State:
        """With environment variables."""
        kept = tuple(pair for pair in self.env if pair[0] not in values)
        return replace(self, env=(*kept, *values.items()))

    def with_cwd(self, path: str) -> State:
        """With a working folder, relative to the present one."""
        return replace(self, cwd=placed(self.cwd, path))

    def with_user(self, user: str) -> State:
        """With a user: ``NAME``, ``UID``, ``NAME:GROUP``."""
        return replace(self, user=user)

    def with_config(self, config: bytes) -> State:
        """With the environment, folder and user of an image's config (its JSON)."""
        found = json.loads(config).get("config") or {}
        pairs = (each.partition("=") for each in found.get("Env") or ())
        made = self.with_env(**{name: value for name, _, value in pairs})
        made = made.with_user(found.get("User") or "")
        return made.with_cwd(found.get("WorkingDir") or "/")

    def run(self, command: str | Sequence[str], **settings: Any) -> State:
        """The filesystem after a command: :meth:`execute`'s, of ``/``."""
        return self.execute(command, **settings).root

    def execute(
        self, command: str | Sequence[str], *, env: Mapping[str, str] | None = None,
        cwd: str = "", user: str = "", mounts: Iterable[Mount] = (), network: str = "sandbox",
        security: str = "sandbox", readonly: bool = False,
        hosts: Mapping[str, str] | None = None, exit_codes: Sequence[int] = (),
        platform: Platform | None = None, name: str = "", fresh: bool = False,
    ) -> Executed:  # fmt: skip
        """Run a command: a text for ``/bin/sh -c``, or its arguments.

        ``network`` is ``sandbox``, ``host`` or ``none``; ``security`` ``sandbox`` or
        ``insecure``; the server must allow ``host`` and ``insecure``. ``exit_codes``: those
        that are no failure, 0 alone when empty. ``fresh``: it runs even when it ran before.
        """
        args = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
        if not args:
            raise ValueError("a command has at least one argument")
        state = self.with_env(**(env or {})).with_cwd(cwd or ".").with_user(user or self.user)
        if not any(key == "PATH" for key, _ in state.env):
            state = state.with_env(PATH=_PATH)
        first = Mounted("/", source=self.output, readonly=readonly)
        made, by_target = [first], {"/": first}
        agents = 0
        for each in mounts:
            if isinstance(each, Ssh):
                each = replace(each, target=each.target or f"/run/buildkit/ssh_agent.{agents}")
                agents += 1
                if "SSH_AUTH_SOCK" not in dict(state.env):
                    state = state.with_env(SSH_AUTH_SOCK=each.target)
            one = mounted(each, state.cwd)
            if one.target in by_target and not one.variable:
                raise ValueError(f"two mounts at {one.target}")
            made.append(one)
            by_target[one.target] = one
        node = Exec(
            args=args, env=state.env, cwd=state.cwd, user=state.user, mounts=tuple(made),
            network=one_of(NETWORKS, network), security=one_of(SECURITIES, security),
            hosts=tuple((hosts or {}).items()), exit_codes=tuple(exit_codes),
            platform=platform or self.platform, name=name, fresh=fresh,
        )  # fmt: skip
        return Executed(self, node, by_target)

    def file(self, *actions: Action, name: str = "", fresh: bool = False) -> State:
        """The filesystem after these actions, which make one layer."""
        if not actions:
            return self
        changes = tuple(change(each, self.cwd) for each in actions)
        node = Files(inputs=(self.output,), changes=changes, name=name, fresh=fresh)
        return replace(self, output=Output(node))

    def definition(
        self, platform: Platform, unique: Callable[[str], str] = lambda name: ""
    ) -> Definition:
        """The graph's bytes; see :func:`envgraph_buildkit.ops.define`."""
        return define(self.output, self.platform or platform, unique)


@dataclass(frozen=True, slots=True)
class Executed:
    """A command that will have run."""

    before: State
    node: Exec
    mounts: Mapping[str, Mounted] = field(repr=False)

    @property
    def root(self) -> State:
        """``/`` afterwards."""
        return self.mount("/")

    def mount(self, target: str) -> State:
        """What a writable :class:`Bind` holds afterwards. KeyError where there is none."""
        one = self.mounts[target]
        if not one.writes:
            if target == "/":
                return self.before
            raise KeyError(target)
        output = Output(self.node, self.node.index(one))
        return replace(self.before, output=output) if target == "/" else State(output)


def scratch() -> State:
    """Nothing."""
    return State()


def image(
    reference: str, *, platform: Platform | None = None, resolve: str = "", name: str = ""
) -> State:
    """An image of a registry: ``HOST/REPOSITORY@sha256:…`` or ``…:TAG``, written in full.

    ``resolve``: ``local`` takes what the worker has, ``pull`` asks the registry always.
    """
    attributes = {"image.resolvemode": resolve} if resolve else {}
    return _source(f"docker-image://{reference}", attributes, platform, name)


def oci_layout(
    store: str, digest: str, *, platform: Platform | None = None, name: str = ""
) -> State:
    """An image of an OCI layout on this machine; ``solve(oci_layouts={store: folder})``."""
    return _source(f"oci-layout://local/{store}@{digest}", {"oci.store": store}, platform, name)


def local(
    folder: str, *, include: Sequence[str] = (), exclude: Sequence[str] = (),
    follow: Sequence[str] = (), name: str = "",
) -> State:  # fmt: skip
    """A folder of this machine, by a name; ``solve(local={name: folder})`` says where it is.

    ``include``, ``exclude``: patterns as in ``.dockerignore``. ``follow``: paths that are
    sent, with what symlinks there point at.
    """
    attributes = {"local.sharedkeyhint": folder}
    for key, values in (
        ("local.includepattern", include), ("local.excludepatterns", exclude),
        ("local.followpaths", follow),
    ):  # fmt: skip
        if values:
            attributes[key] = json.dumps(list(values), separators=(",", ":"))
    return _source(f"local://{folder}", attributes, None, name)


def git(
    url: str, ref: str = "", *, subfolder: str = "", checksum: str = "", keep_git: bool = False,
    token_secret: str = "GIT_AUTH_TOKEN", header_secret: str = "GIT_AUTH_HEADER", ssh: str = "",  # noqa: S107  ids
    known_hosts: str = "", name: str = "",
) -> State:  # fmt: skip
    """A git repository at a branch, tag or commit. ``checksum``: the commit that it must be.

    ``token_secret``, ``header_secret``: ids of secrets for https, which need not be there.
    ``ssh``: id of an agent.
    """
    bare = url.partition("://")[2] or url.partition("@")[2].replace(":", "/", 1) or url
    fragment = f"#{ref}" + (f":{subfolder}" if subfolder else "") if ref or subfolder else ""
    attributes = {"git.fullurl": url}
    for key, value in (
        ("git.checksum", checksum), ("git.keepgitdir", "true" if keep_git else ""),
        ("git.authtokensecret", token_secret), ("git.authheadersecret", header_secret),
        ("git.mountsshsock", ssh), ("git.knownsshhosts", known_hosts),
    ):  # fmt: skip
        if value:
            attributes[key] = value
    return _source(f"git://{bare.rpartition('@')[2]}{fragment}", attributes, None, name)


def http(
    url: str, *, checksum: str = "", filename: str = "", mode: int = 0, uid: int = 0, gid: int = 0,
    name: str = "",
) -> State:  # fmt: skip
    """One file by http or https. ``checksum``: ``sha256:…`` that it must have."""
    attributes = {}
    for key, value in (
        ("http.checksum", checksum), ("http.filename", filename),
        ("http.perm", f"0{mode:o}" if mode else ""), ("http.uid", str(uid) if uid else ""),
        ("http.gid", str(gid) if gid else ""),
    ):  # fmt: skip
        if value:
            attributes[key] = value
    return _source(url, attributes, None, name)


def merge(*states: State, name: str = "") -> State:
    """The states laid over each other, later ones on top, without copying."""
    real = [each for each in states if each.output is not None]
    if len(real) < 2:
        return real[0] if real else scratch()
    node = Merge(inputs=tuple(each.output for each in real), name=name)
    return replace(real[0], output=Output(node))


def diff(lower: State, upper: State, *, name: str = "") -> State:
    """What ``upper`` has that ``lower`` has not, removals included."""
    if lower.output is None:
        return upper
    return replace(lower, output=Output(Diff(inputs=(lower.output, upper.output), name=name)))


def _source(
    identifier: str, attributes: Mapping[str, str], platform: Platform | None, name: str
) -> State:
    node = Source(identifier=identifier, attributes=attributes, platform=platform, name=name)
    return State(Output(node), platform=platform)
