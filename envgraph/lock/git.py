"""git, as a program that is told exactly what it may do: commits looked up, fetched, read.

The installed git is used, since it knows what the user has set up: credential helpers,
netrc, ssh keys and agents, proxies, certificates, ``insteadOf``. What could run a program of
a repository or ask a question is off: no hooks, no helpers, no prompt, no terminal, only
plain protocols. Nothing is ever checked out: trees and files are read as the commit has them,
so no filter, attribute, line ending or link of a repository does anything here.

Credentials of an address reach git in its environment, for that one host, and neither its
command line nor a file.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from envgraph.conda import credentials
from envgraph.errors import EnvgraphError, FetchError, PlatformError, ResolveError
from envgraph.lock.gitenviron import git_environment, git_settings, plain_address
from envgraph.lock.gitproblems import git_failed, no_folder
from envgraph.spec.context_address import COMMIT, shown_address

LOOK_SECONDS: Final = 120.0
FETCH_SECONDS: Final = 3600.0
_PIECE: Final = 1 << 18
_MOST_OUTPUT: Final = 256 << 20
_ASK_MORE: Final = re.compile(
    r"(?i)dumb http|shallow|not our ref|unadvertised|remote error.*want|find remote ref"
)
_MODES: Final = {"120000": "link", "160000": "submodule", "040000": "folder"}


@dataclass(frozen=True, slots=True)
class GitEntry:
    """One entry of a tree: ``kind`` is file, link, folder or submodule."""

    path: str
    kind: str
    executable: bool
    name: str
    """The object's name: of a submodule its commit."""

    size: int = 0


@dataclass(slots=True)
class Git:
    """One repository at an address, and a folder of its own for what is fetched.

    ``address`` has its credentials in place. Every error names it without them.
    """

    address: str
    folder: Path
    offline: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    look_seconds: float = LOOK_SECONDS
    fetch_seconds: float = FETCH_SECONDS
    _reader: subprocess.Popen[bytes] | None = None

    @property
    def shown(self) -> str:
        """The address for people."""
        return shown_address(self.address)

    # -- asking ------------------------------------------------------------

    def look_up(self, ref: str) -> tuple[str, str, bool]:
        """The commit that ``ref`` means now, its full name, and whether it is ambiguous.

        As docker and ``git fetch`` do it, a tag comes before a branch of the same name.
        ResolveError ``context-ref`` when there is none; FetchError when nobody answers.
        """
        if not ref:
            names = ["HEAD"]
        else:
            names = [ref] if ref.startswith("refs/") or ref == "HEAD" else []
            names += [f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}"]
        asked = [*names, *(f"{name}^{{}}" for name in names)]
        said = self._run(
            ["ls-remote", "--", plain_address(self.address), *asked], self.look_seconds
        )
        found: dict[str, str] = {}
        for line in said.decode("utf-8", "surrogateescape").splitlines():
            commit, _, name = line.partition("\t")
            found[name] = commit
        there = [name for name in names if COMMIT.fullmatch(found.get(name, ""))]
        if not there:
            raise ResolveError(
                f"{self.shown} has no branch or tag {ref!r}" if ref else
                f"{self.shown} is an empty repository",
                code="context-ref",
                hint="write all digits of a commit" if re.fullmatch("[0-9a-f]{4,39}", ref)
                else "`git ls-remote` lists what there is",
            )  # fmt: skip
        meant = [found.get(f"{name}^{{}}", found[name]) for name in there]
        return meant[0], there[0], len(set(meant)) > 1

    def fetch(self, commit: str, ref: str) -> None:
        """Bring a commit, as little of its history as the server lets us.

        ``ref`` is where it was found, for servers that give no commit by its name.
        ResolveError ``context-gone`` when it is not there any more.
        """
        if not COMMIT.fullmatch(commit):
            raise ResolveError(f"{commit[:80]!r} is no commit", code="context-gone")
        if not (self.folder / "HEAD").exists():
            kind = "sha256" if len(commit) == 64 else "sha1"
            self._run(["init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "."],
                      self.look_seconds)  # fmt: skip
        every = ["+refs/heads/*:refs/envgraph/heads/*", "+refs/tags/*:refs/envgraph/tags/*"]
        if ref.startswith("refs/") and not ref.startswith(("refs/heads/", "refs/tags/")):
            every.append(f"+{ref}:refs/envgraph/ref")
        ways = (["--depth=1", commit], ["--depth=1", ref or "HEAD"], every)
        last: EnvgraphError | None = None
        for way in ways:
            depth = [word for word in way if word.startswith("--")]
            wanted = [word for word in way if not word.startswith("--")]
            words = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *depth]
            try:
                self._run(
                    [*words, "--", plain_address(self.address), *map(_kept, wanted)],
                    self.fetch_seconds,
                )
            except EnvgraphError as error:
                last = error
                if not _ASK_MORE.search(error.diagnostics[0].detail):
                    raise
                continue
            if self.has(commit):
                return
        if last is not None and not _ASK_MORE.search(last.diagnostics[0].detail):
            raise last
        raise ResolveError(
            f"{self.shown} does not have the commit {commit[:12]}, or does not have it any more",
            code="context-gone",
            detail=f"{commit} is reachable from no branch and no tag",
            hint="`envgraph lock --update-context` takes what the branch means now",
        )

    def has(self, commit: str) -> bool:
        """Whether the commit was fetched."""
        try:
            self._run(["cat-file", "-e", f"{commit}^{{commit}}"], self.look_seconds)
        except EnvgraphError:
            return False
        return True

    # -- reading -----------------------------------------------------------

    def entries(self, tree: str, *, below: bool) -> Iterator[GitEntry]:
        """What a tree holds; with ``below`` everything below it, files alone."""
        words = ["ls-tree", "-z", "-l", "--full-tree", *(["-r"] if below else []), tree]
        for line in self._run(words, self.look_seconds).split(b"\0"):
            if not line:
                continue
            head, _, path = line.partition(b"\t")
            mode, _, name, size = head.decode("ascii").split()
            yield GitEntry(
                path.decode("utf-8", "surrogateescape"),
                _MODES.get(mode, "file"),
                mode == "100755",
                name,
                int(size) if size.isdigit() else 0,
            )

    def folder_tree(self, commit: str, folder: str) -> str:
        """The tree of a folder in a commit; InputError ``context-folder`` when it is none."""
        tree = f"{commit}^{{tree}}"
        done: list[str] = []
        for part in folder.split("/") if folder else ():
            there = {entry.path: entry for entry in self.entries(tree, below=False)}
            found = there.get(part)
            done.append(part)
            if found is None or found.kind != "folder":
                raise no_folder(
                    self.shown, commit, "/".join(done), found.kind if found else None, there
                )
            tree = found.name
        return tree

    def settings_of(self, commit: str) -> dict[str, str]:
        """Path → address of the submodules, as the commit's ``.gitmodules`` has them."""
        words = ["config", "-z", f"--blob={commit}:.gitmodules", "--get-regexp",
                 r"^submodule\..*\.(path|url)$"]  # fmt: skip
        try:
            said = self._run(words, self.look_seconds).decode("utf-8", "surrogateescape")
        except EnvgraphError:
            return {}
        found: dict[str, dict[str, str]] = {}
        for item in said.split("\0"):
            key, _, value = item.partition("\n")
            name, _, what = key.rpartition(".")
            found.setdefault(name, {}).setdefault(what, value)
        return {s["path"]: s["url"] for s in found.values() if "path" in s and "url" in s}

    def read(self, name: str) -> Iterator[bytes]:
        """A file's bytes, piece by piece; each file is read to its end."""
        if self._reader is None:
            self._reader = self._start(["cat-file", "--batch"])
        given, said = self._reader.stdin, self._reader.stdout
        assert given is not None
        assert said is not None
        try:
            given.write(name.encode("ascii") + b"\n")
            given.flush()
            words = said.readline().split()
            left = int(words[2]) if len(words) == 3 else -1
            while left > 0 and (piece := said.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
            if left or said.read(1) != b"\n":
                raise OSError("it ended early")
        except (OSError, ValueError) as error:
            raise FetchError(f"{self.shown}: {name} cannot be read", code="context-git",
                             detail=str(error)) from None  # fmt: skip

    def close(self) -> None:
        """End what still runs."""
        if self._reader is not None:
            _end(self._reader)
            self._reader = None

    # -- running -----------------------------------------------------------

    def _start(self, words: Sequence[str], errors: IO[bytes] | int = subprocess.DEVNULL
               ) -> subprocess.Popen[bytes]:  # fmt: skip
        try:
            return subprocess.Popen(
                ["git", *git_settings(self.address), *words],
                cwd=self.folder,
                env=git_environment(self.address, self.environ, self.folder, offline=self.offline),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # no terminal: ssh has nobody to ask
            )
        except FileNotFoundError:
            raise PlatformError(
                "git is needed for a build context in a repository, and is not installed",
                code="no-git",
                hint="install git, or copy the folder beside the environment file",
            ) from None

    def _run(self, words: Sequence[str], seconds: float) -> bytes:
        """What git says; an error that says why not, credentials taken out."""
        process = self._start(words, subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise FetchError(
                f"{self.shown}: git {words[0]} did not end within {seconds:.0f} seconds",
                code="context-timeout",
                hint="see whether the server answers, then try again",
            ) from None
        finally:
            _end(process)
        if process.returncode == 0 and len(out) <= _MOST_OUTPUT:
            return out
        said = err.decode("utf-8", "replace")
        said = credentials.mask(said, credentials.secrets_of(self.address)).strip()[-4000:]
        raise git_failed(self.shown, said)


def _kept(ref: str) -> str:
    """A refspec that keeps what is fetched; one that has a target already stays."""
    return ref if ":" in ref else f"+{ref}:refs/envgraph/pinned"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.wait()
