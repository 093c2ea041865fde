"""A new lock: the base resolved and the packages solved, once for all that ask the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from envgraph.errors import Diagnostic
from envgraph.lock.follow import MovingBases
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedBase, LockedContext, LockedEnvironment
from envgraph.model.spec import EnvironmentSpec
from envgraph_store import Digest, Store

if TYPE_CHECKING:
    from envgraph.conda.gateway import Gateways
    from envgraph.lock.contexts import Contexts


@dataclass(frozen=True, slots=True)
class MadeLock:
    """A lock that was made now. ``documents``: those of a base that was asked for just now."""

    lock: LockedEnvironment
    documents: Mapping[Digest, bytes] = field(default_factory=dict)
    remarks: tuple[Diagnostic, ...] = ()


class LockMaker:
    """Makes the locks of one piece of work, which sees one state of every channel."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        offline: bool,
        now: datetime,
        bases: Callable[[], MovingBases] | None,
    ) -> None:
        """Bind the parts; opens nothing."""
        self._config = config
        self._store = store
        self._offline = offline
        self._now = now
        self._bases = bases
        self._made: dict[object, MadeLock] = {}
        self._gateways: Gateways | None = None
        self._contexts: Contexts | None = None

    @property
    def contexts(self) -> Contexts:
        """What finds and keeps build contexts that are at an address."""
        if self._contexts is None:
            from envgraph.lock.contexts import Contexts

            self._contexts = Contexts(self._config, self._store, offline=self._offline)
        return self._contexts

    def make_once(
        self,
        spec: EnvironmentSpec,
        pin_key: Digest,
        definition: Digest,
        platform: str,
        previous: LockedEnvironment | None,
        context: LockedContext | None = None,
    ) -> MadeLock:
        """Like :meth:`make`; what was made for the same question is the answer again.

        Only where nothing but the pin key, and the texts and paths that it leaves out,
        has a say: no lock before, nothing from the file's own folder, no remark.
        """
        conda = spec.conda
        if previous is not None or conda is None or conda.pip or conda.channel_paths:
            return self.make(spec, definition, platform, previous, context=context)
        asked = pin_key, spec.image_path, conda.channels
        if asked not in self._made:
            made = self.make(spec, definition, platform, previous)
            if made.remarks:
                return made
            self._made[asked] = made
        return self._made[asked]

    def make(
        self,
        spec: EnvironmentSpec,
        definition: Digest,
        platform: str,
        previous: LockedEnvironment | None,
        base: LockedBase | None = None,
        update: frozenset[str] = frozenset(),
        context: LockedContext | None = None,
        update_context: bool = False,
    ) -> MadeLock:
        """Solve now. Raises ResolveError, FetchError or OfflineError.

        What ``previous`` holds stays where it can, but for the packages in ``update``.
        ``context``: where the files of a build context at an address are pinned already;
        ``update_context`` asks its branch or address again.
        """
        from envgraph.conda.gateway import Gateways
        from envgraph.lock.keep import StoredPackages
        from envgraph.lock.named import lock_named, locked_context
        from envgraph.lock.resolve import lock_environment

        self._gateways = self._gateways or Gateways()
        spec, locked, said_of_context = locked_context(
            spec, self.contexts, context, anew=update_context
        )
        found = lock_named(
            spec, platform, previous, base, lambda: None if self._bases is None else self._bases()
        )
        outcome = lock_environment(
            spec,
            platform,
            self._config,
            base=found.base,
            definition=definition,
            previous=previous,
            update=None if previous is None else update,
            offline=self._offline,
            now=self._now,
            packages=StoredPackages(self._store),
            gateways=self._gateways,
        )
        said = outcome.diagnostics
        if not update:  # the plan lists every change; nobody asked for an update
            said = tuple(d for d in said if d.code != "update-moved")
        lock = replace(outcome.lock, images=found.images, context=locked)
        return MadeLock(lock, found.documents, (*said_of_context, *found.remarks, *said))
