"""New locks are agreed upon with the other machines of a workspace, through its registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from envgraph.api.registry import RegistryError
from envgraph.apply.pinning import ToPin, pin
from envgraph.apply.reports import Settlement
from envgraph.errors import Diagnostic
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import lock_identity
from envgraph.model.locked import LockedEnvironment
from envgraph.plan.plan import EnvironmentChange, Plan
from envgraph.registry.pins import RegistryPins, Settled
from envgraph_store import Store


@dataclass(frozen=True, slots=True)
class _Offer:
    """One lock of one environment. ``new``: this apply has solved it, and may give way.

    ``moved``: it is a further generation, on another base, which was asked for: it
    stays, and an earlier one in the registry is no rival.
    """

    change: EnvironmentChange
    platform: str
    lock: LockedEnvironment
    new: bool
    moved: bool = False


class _Mapper(Protocol):
    def __call__(
        self, function: Callable[[_Offer], Settled], items: Iterable[_Offer], /
    ) -> Iterable[Settled]: ...


class PinSharing:
    """Offers locks to a registry, and takes over those that hold there."""

    def __init__(self, config: WorkspaceConfig, store: Store, pins: RegistryPins) -> None:
        """Bind; asks nothing."""
        self._config = config
        self._store = store
        self._pins = pins

    def settle(self, plan: Plan, mapper: _Mapper, *, last: bool = False) -> Settlement:
        """Offer what the registry may lack; and take over what holds there.

        A lock that was solved just now gives way: the other one is pinned and written to
        the lockfile, ours stays as a generation of the pin. One that was pinned before, or
        is committed, stays, and that is said. ``last``: nothing is offered any more.
        A registry that gives no answer changes nothing: the push will say so.
        """
        offers = [offer for offer in _offers(plan) if offer.new or not last]
        try:
            settled = list(mapper(lambda o: self._pins.settle(o.lock, offer=not last), offers))
        except RegistryError:
            return Settlement()
        pairs = list(zip(offers, settled, strict=True))
        lost = [(offer, found.lock) for offer, found in pairs if offer.new and not found.ours]
        self._adopt(lost)
        remarks = [_lost(offer, lock, last=last) for offer, lock in lost]
        remarks += [
            _stays(offer, found)
            for offer, found in pairs
            if found.rivals and not offer.moved and (found.ours or not offer.new)
        ]
        return Settlement(bool(lost), tuple(remarks))

    def _adopt(self, lost: list[tuple[_Offer, LockedEnvironment]]) -> None:
        changed: dict[str, ToPin] = {}
        for offer, lock in lost:
            target = offer.change.target
            known = changed.get(target.name)
            locks = (
                {platform: locked.lock for platform, locked in target.platforms.items()}
                if known is None
                else dict(known.locks)
            )
            locks[offer.platform] = lock
            changed[target.name] = ToPin(target.spec, locks, False, False)
        if changed:
            pin(self._config, self._store, changed)


def _offers(plan: Plan) -> list[_Offer]:
    """A lock that leaves its base for another one is offered, and never gives way.

    It is a new generation on purpose: what the pin held before must not win over it. On
    another image it answers another pin key, and is the first lock of that.
    """
    pushed = {change.target.name for change in plan.pushed}
    return [
        _Offer(
            change,
            platform,
            locked.lock,
            locked.origin == "new" and locked.left is None,
            locked.left is not None,
        )
        for change in plan.environments
        for platform, locked in change.target.platforms.items()
        if locked.origin == "new"
        or (change.target.name in pushed and locked.origin not in ("registry", "edited"))
    ]


def _lost(offer: _Offer, lock: LockedEnvironment, *, last: bool) -> Diagnostic:
    name = offer.change.target.name
    then = "run `envgraph apply` again: it registers that lock" if last else ""
    return Diagnostic(
        "lock-adopted",
        f"another machine pinned the same definition as {name!r} at the same time",
        f"its lock {lock_identity(lock)} (of {lock.created}) holds from now on;"
        f" the one solved here, {lock_identity(offer.lock)}, is kept as a generation of the pin",
        offer.change.target.spec.source,
        then or "commit the lockfile: it holds the lock of both",
        "warning",
    )


def _stays(offer: _Offer, found: Settled) -> Diagnostic:
    """Said by the winner, and by who keeps a lock that it had before it could ask."""
    name = offer.change.target.name
    own = lock_identity(offer.lock)
    if found.ours:
        detail = f"the lock of this one, {own}, holds; the other machine takes it over"
    else:
        detail = (
            f"this one keeps its lock {own}, which it had before; the registry's is"
            f" {lock_identity(found.lock)}"
        )
    return Diagnostic(
        "lock-rival",
        f"another machine has pinned the same definition as {name!r}",
        detail,
        offer.change.target.spec.source,
        "" if found.ours else "to take the registry's: delete the lockfile and the pin, and apply",
        "info",
    )
