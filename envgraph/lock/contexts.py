"""Build contexts at an address: pinned when they are locked, and kept in the store.

A branch, a tag or an address is resolved once, to a commit or to the sha256 of an archive.
The files come into the store as they are chosen by docker's ignore rules: each as a blob,
and the listing of all under the tree's own digest, so the lock, which names the tree, keeps
them. From then on they are read from the store, whatever became of where they came from; a
store that lacks them fetches the pinned commit or archive, and nothing else will do.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from envgraph.conda import credentials
from envgraph.errors import (
    Diagnostic,
    EnvgraphError,
    FetchError,
    InputError,
    IntegrityError,
    OfflineError,
)
from envgraph.lock.archivetree import ArchiveTree, plain_tar
from envgraph.lock.contextfiles import Files, keep_files, kept_entries, title_of
from envgraph.lock.fetcharchive import fetch_archive
from envgraph.lock.git import Git
from envgraph.lock.gittree import GitTree
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import ContextOrigin, LockedContext
from envgraph.model.spec import BuildSpec
from envgraph.spec.build_section import with_dockerfile
from envgraph.spec.context_address import (
    COMMIT,
    ArchiveContext,
    BadContextError,
    GitContext,
    parse_context,
    shown_address,
)
from envgraph.spec.listing import tree_text
from envgraph.spec.problems import Problems, printable
from envgraph.spec.tree import TreeEntry
from envgraph_store import Digest, Store

DOCKERFILE_LIMIT: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class FoundContext:
    """A context as it is locked. ``build`` says what its Dockerfile names, too."""

    build: BuildSpec
    locked: LockedContext
    remarks: tuple[Diagnostic, ...] = ()


class Contexts:
    """Finds, keeps and reads the contexts of one piece of work; each is fetched once."""

    def __init__(self, config: WorkspaceConfig, store: Store, *, offline: bool) -> None:
        """Bind the parts; opens nothing."""
        self._config = config
        self._store = store
        self._offline = offline
        self._found: dict[object, FoundContext] = {}
        self._meant: dict[tuple[str, str], tuple[str, str, bool] | EnvgraphError] = {}

    def lock(
        self, build: BuildSpec, before: LockedContext | None, *, anew: bool = False
    ) -> FoundContext:
        """The context of a build, pinned now, or where ``before`` has it pinned.

        ``anew``: the ref or address is asked again, whatever was pinned. Files that the store
        keeps of the same commit are not fetched again. InputError, ResolveError, FetchError,
        OfflineError and IntegrityError at the place of ``build.path``; every problem of its
        Dockerfile at once.
        """
        still = self._still(build, before)
        origin = None if anew else still
        given = tuple(sorted(build.arguments.items()))
        asked = (build.path, build.dockerfile_path, given, origin, anew)
        if asked not in self._found:
            known = before if still and before and before.origin == still else None
            with _placed(build):
                self._found[asked] = self._lock(build, origin, known)
        return self._found[asked]

    def bring(self, build: BuildSpec, locked: LockedContext) -> tuple[TreeEntry, ...]:
        """The entries of a locked context, sizes too; all of it is in the store then.

        What is missing there is fetched again, as it was pinned. IntegrityError where that
        is another tree.
        """
        found = kept_entries(self._store, locked.tree)
        if found is None and locked.origin is not None:
            with _placed(build):
                got = self._fetch(build, locked.origin)[0]
                if got != locked.tree:
                    raise IntegrityError(
                        f"{locked.origin.address} at {locked.origin.short} is not what was locked",
                        code="context-changed",
                        detail=f"its tree is {got}, and the lock says {locked.tree}",
                        hint="`envgraph lock --update-context` takes what is there now",
                    )
            found = kept_entries(self._store, locked.tree)
        if found is None:
            raise InputError("the files of the build context are not in the store",
                             code="context-gone", source=build.source)  # fmt: skip
        return found

    def named(self, build: BuildSpec, data: bytes) -> BuildSpec:
        """The build with what its Dockerfile's text names; InputError as :meth:`lock`."""
        return self._named(build, data)[0]

    def _named(self, build: BuildSpec, data: bytes) -> tuple[BuildSpec, tuple[Diagnostic, ...]]:
        problems = Problems()
        where = f"{title_of(build)}{build.dockerfile_path}"
        found = with_dockerfile(build, data, where, problems)
        if problems.failed:
            raise InputError(problems.result())
        return found, problems.result()

    def meant(self, context: GitContext) -> tuple[str, str, bool]:
        """What the ref of a repository means now: see :meth:`envgraph.lock.git.Git.look_up`.

        Each is asked for once.
        """
        context = self._expanded(context)
        asked = (context.repository, context.ref)
        if asked not in self._meant:
            try:
                with self._git(context) as git:
                    self._meant[asked] = git.look_up(context.ref)
            except EnvgraphError as error:  # nobody is asked twice in vain
                self._meant[asked] = error
        answer = self._meant[asked]
        if isinstance(answer, EnvgraphError):
            raise _again(answer, answer.diagnostics)
        return answer

    # -- locking -----------------------------------------------------------

    def _still(self, build: BuildSpec, before: LockedContext | None) -> ContextOrigin | None:
        """The pinned origin, where the same branch of the same repository is asked for.

        A change of anything else is no reason to take another commit.
        """
        origin = None if before is None else before.origin
        if origin is None:
            return None
        try:
            asked, had = parse_context(build.path), parse_context(origin.address)
        except BadContextError:  # a lock that somebody wrote
            return None
        if isinstance(asked, GitContext) and isinstance(had, GitContext):
            same = (asked.shown, asked.ref) == (had.shown, had.ref)
        else:
            same = shown_address(build.path) == origin.address
        return replace(origin, address=shown_address(build.path)) if same else None

    def _lock(
        self, build: BuildSpec, origin: ContextOrigin | None, known: LockedContext | None
    ) -> FoundContext:
        remarks: list[Diagnostic] = []
        context = parse_context(build.path)
        if origin is None and isinstance(context, GitContext):
            origin, remarks = self._pinned(build, context)
        files = self._same(build, origin, known)
        if files is None or known is None or origin is None:
            tree, origin, files, pointers = self._fetch(build, origin)
            remarks += pointers
        else:
            tree = known.tree
        named, said = self._named(build, self._dockerfile(build, files))
        remarks += said
        locked = LockedContext(tree, build.dockerfile_path, dict(build.arguments), origin)
        return FoundContext(replace(named, tree=tree), locked, tuple(remarks))

    def _same(
        self, build: BuildSpec, origin: ContextOrigin | None, known: LockedContext | None
    ) -> dict[str, TreeEntry] | None:
        """The files by path, where the store keeps this very folder of this very commit."""
        if known is None or origin is None or known.origin is None:
            return None
        if (origin.pinned, origin.address) != (known.origin.pinned, known.origin.address):
            return None
        if build.dockerfile_path != known.dockerfile_path:  # ignore rules go by its name
            return None
        entries = kept_entries(self._store, known.tree)
        return None if entries is None else {entry.path: entry for entry in entries}

    def _pinned(
        self, build: BuildSpec, context: GitContext
    ) -> tuple[ContextOrigin, list[Diagnostic]]:
        """Where the ref points now; a commit is one already."""
        address = shown_address(build.path)
        if COMMIT.fullmatch(context.ref):
            return ContextOrigin("git", address, context.ref), []
        commit, name, ambiguous = self.meant(context)
        remarks = []
        if ambiguous:
            remarks.append(
                Diagnostic(
                    "context-ambiguous",
                    f"{context.shown}: {context.ref!r} is a tag and a branch; {name} is taken",
                    source=build.source,
                    hint="write the full name: refs/heads/… or refs/tags/…",
                    severity="warning",
                )
            )
        return ContextOrigin("git", address, commit, name), remarks

    def _dockerfile(self, build: BuildSpec, files: dict[str, TreeEntry]) -> bytes:
        entry = files.get(build.dockerfile_path)
        if entry is None or entry.digest is None:
            near = sorted(p for p in files if p.rpartition("/")[2].lower().startswith("dockerfile"))
            what = "is no file in" if entry else "is not in"
            raise InputError(
                f"{build.dockerfile_path} {what} {title_of(build).rstrip('/:')}",
                code="missing-dockerfile",
                hint=f"dockerfile_path: {printable(near[0])}" if near else "",
            )
        return self._store.blobs.read(entry.digest, DOCKERFILE_LIMIT)

    # -- bytes -------------------------------------------------------------

    def _fetch(
        self, build: BuildSpec, origin: ContextOrigin | None
    ) -> tuple[Digest, ContextOrigin, dict[str, TreeEntry], list[Diagnostic]]:
        """Bring the files into the store: tree, origin, entries by path, remarks."""
        context = parse_context(build.path)
        if context is None:
            raise InputError(
                f"{build.path} is no address of a build context", code="remote-context"
            )
        with tempfile.TemporaryDirectory(prefix="envgraph-context-") as name, ExitStack() as stack:
            folder = Path(name)
            files: Files
            if isinstance(context, GitContext):
                assert origin is not None
                files = self._commit(self._expanded(context), origin, folder, stack)
            else:
                files, origin = self._archive(context, origin, folder)
            entries, remarks = keep_files(self._store, build, files)
        return Digest.of(tree_text(list(entries.values()))), origin, entries, remarks

    def _commit(
        self, context: GitContext, origin: ContextOrigin, folder: Path, stack: ExitStack
    ) -> GitTree:
        count = 0

        def new(context: GitContext) -> Git:
            nonlocal count
            count += 1
            own = folder / f"repository-{count}"
            own.mkdir(mode=0o700)
            return stack.enter_context(self._git(context, own))

        git = new(context)
        git.fetch(origin.pinned, origin.ref)
        tree = GitTree(f"{context.shown} at {origin.short}")
        tree.add(git, context, origin.pinned, new)
        return tree

    def _archive(
        self, context: ArchiveContext, origin: ContextOrigin | None, folder: Path
    ) -> tuple[ArchiveTree, ContextOrigin]:
        packed = folder / "packed"
        address = credentials.expand(context.address, os.environ, self._config.secrets)
        sha256, mark = fetch_archive(address, packed, offline=self._offline)
        if origin is not None and sha256 != origin.pinned:
            raise IntegrityError(
                f"{context.shown} is not the archive that was locked",
                code="context-changed",
                detail=f"its sha256 is {sha256}, and the lock says {origin.pinned}",
                hint="`envgraph lock --update-context` takes what is there now",
            )
        origin = origin or ContextOrigin("archive", context.shown, sha256, "", mark)
        plain = plain_tar(packed, folder / "plain", context.shown)
        return ArchiveTree.of(plain, context.shown), origin

    # -- places ------------------------------------------------------------

    def _expanded(self, context: GitContext) -> GitContext:
        address = credentials.expand(context.repository, os.environ, self._config.secrets)
        return replace(context, repository=address)

    @contextmanager
    def _git(self, context: GitContext, folder: Path | None = None) -> Iterator[Git]:
        if self._offline and not context.is_file:
            raise OfflineError(
                f"{context.shown} would need a connection",
                hint="run it without --offline once: what is pinned needs none afterwards",
            )
        with ExitStack() as stack:
            if folder is None:
                made = tempfile.TemporaryDirectory(prefix="envgraph-context-")
                folder = Path(stack.enter_context(made))
            git = Git(context.repository, folder, self._offline)
            try:
                yield git
            finally:
                git.close()


@contextmanager
def _placed(build: BuildSpec) -> Iterator[None]:
    """Problems without a place are those of ``build.path``."""
    try:
        yield
    except EnvgraphError as error:
        found = [replace(d, source=d.source or build.source) for d in error.diagnostics]
        raise _again(error, found) from error


def _again(error: EnvgraphError, diagnostics: Sequence[Diagnostic]) -> EnvgraphError:
    """The same error with these diagnostics."""
    raised = type(error)(diagnostics)
    if isinstance(error, FetchError) and isinstance(raised, FetchError):
        raised.retryable, raised.status = error.retryable, error.status
    return raised
