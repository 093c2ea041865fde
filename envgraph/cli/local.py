"""An environment on this machine: its lock, its variables, its archives, its prefix."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from envgraph.cli.options import Flag
from envgraph.cli.session import Session
from envgraph.errors import PlatformError

if TYPE_CHECKING:
    from envgraph.model.locked import LockedEnvironment, LockedPackage
    from envgraph.model.records import VersionRecord
    from envgraph.workspace import Workspace


RENEW: Final = Flag("--renew", "make the prefix anew, without what was changed in it")
PREFIX_NOTE: Final = (
    "The prefix is yours to edit: what you change in it, or install into it, stays there and goes "
    "nowhere else, and environments with the same packages share it. --renew makes it anew; -v "
    "says where it is."
)


@dataclass(frozen=True, slots=True)
class LocalEnvironment:
    """A prefix that is whole, with the variables that the environment sets."""

    title: str
    prefix: Path
    variables: dict[str, str]


def prepare_local(reference: str, session: Session, *, renew: bool = False) -> LocalEnvironment:
    """Find the prefix of a version on this machine, or make it; ``renew`` makes it anew."""
    from envgraph.run.prefixes import host_platform, prepare

    with session.open_workspace() as workspace:
        record = workspace.find(reference)
        host = host_platform()
        lock = workspace.lock_of(record, host if host in record.locks else None)
        archives = _Archives(workspace, lock, session.console.note)
        with session.console.status(f"Preparing {record.environment} for this machine"):
            found = prepare(lock, archives, waiting=session.console.note, renew=renew)
        variables = runtime_variables(workspace, record)
    if session.common.verbose:
        how = "made now" if found.created else "made before; --renew makes it anew"
        session.console.note(f"prefix {found.path} ({how})")
    return LocalEnvironment(f"{record.environment}:{record.version}", found.path, variables)


def runtime_variables(workspace: Workspace, record: VersionRecord) -> dict[str, str]:
    """The environment variables of a version, from its runtime document."""
    document: Any = json.loads(workspace.store.blobs.read(record.runtime))[1]
    return dict(document.get("environment_variables") or {})


def fetch_base(
    workspace: Workspace, record: VersionRecord, platforms: Sequence[str] | None, session: Session
) -> None:
    """Make the base layers of these images be in the store, and say what was fetched."""
    from envgraph.api.events import Event
    from envgraph.cli.views.text import many, size

    done: dict[str, int] = {}
    total: dict[str, int] = {}
    with session.console.status("Looking for the layers of the base") as tell:

        def show(event: Event) -> None:
            done[event.key], total[event.key] = event.bytes_done, event.bytes_total
            fetched, whole = sum(done.values()), sum(total.values())
            tell(f"Fetching the base: {size(fetched)} of {size(whole)}")

        workspace.ensure_base(record, platforms, on_event=show)
    if done:
        layers = many(len(done), "layer")
        session.console.note(f"fetched {layers} of the base, {size(sum(total.values()))}")


def image_here(record: VersionRecord) -> Any:
    """The image of a version for this machine; PlatformError when it has none."""
    from envgraph.run.prefixes import host_platform

    host = host_platform()
    if host not in record.images:
        raise PlatformError(
            f"{record.environment}:{record.version} has images for {', '.join(record.images)}, "
            f"and this machine is {host}",
            code="other-platform",
            hint=f"add {host} to platforms in envgraph.yaml and apply again",
        )
    return record.images[host]


class _Archives:
    """Where each archive lies; those that the store lost are fetched, once, together."""

    def __init__(
        self, workspace: Workspace, lock: LockedEnvironment, say: Callable[[str], object]
    ) -> None:
        self._workspace = workspace
        self._lock = lock
        self._say = say
        self._complete = False

    def __call__(self, package: LockedPackage) -> Path:
        if not self._complete:
            self._fetch_missing()
            self._complete = True
        return Path(self._workspace.store.packages.path(package.sha256))

    def _fetch_missing(self) -> None:
        store = self._workspace.store
        missing = set(store.packages.missing(p.sha256 for p in self._lock.packages))
        wanted = [p for p in self._lock.packages if p.sha256 in missing]
        if not wanted:
            return
        from envgraph.conda.fetch import fetch_package

        with store.transaction() as transaction:
            for package in wanted:
                self._say(f"fetching {package.title}")
                size = package.size or None
                with transaction.writer("packages", expect=package.sha256, size=size) as writer:
                    fetch_package(
                        package,
                        self._workspace.config,
                        writer.write,
                        offline=self._workspace.offline,
                    )
                    writer.finish()
            transaction.commit()
