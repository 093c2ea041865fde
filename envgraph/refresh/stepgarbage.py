"""Results of docker steps in the workspace's registry that no environment there begins with.

They belong to no workspace: what is needed, all record artifacts of the registry say together,
those of other workspaces too. So where one of them cannot be read, nothing is judged. No image
is lost with them: an environment's record has its own results, and its repository the layers.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from envgraph.errors import EnvgraphError, NotFoundError
from envgraph.interchange.chain import keys_in
from envgraph.model.oci import DOCUMENT_LIMIT, read_object
from envgraph.refresh.remote import Mapper
from envgraph.registry.names import STEPS_REPOSITORY, is_key_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import RetryingRepository
from envgraph.registry.steps import steps_document
from envgraph_store import Digest


@dataclass(frozen=True, slots=True)
class UnneededSteps:
    """One artifact; ``size`` is that of its layers, those that images share included."""

    artifact: Digest
    created: str
    size: int
    tags: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The entry of ``store gc --registry --json``."""
        return {
            "repository": STEPS_REPOSITORY,
            "artifact": str(self.artifact),
            "created": self.created,
            "size": self.size,
            "tags": list(self.tags),
        }


def find_steps(
    remote: Remote,
    needed: Collection[str],
    *,
    now: datetime,
    grace: timedelta,
    mapper: Mapper = map,
) -> tuple[UnneededSteps, ...]:
    """Artifacts that hold none of the ``needed`` keys and are older than ``grace``.

    One that cannot be read is left alone. Changes nothing.
    """
    repository = remote.repository(STEPS_REPOSITORY)
    try:
        tags = [tag for tag in repository.tags() if is_key_tag(tag)]
    except NotFoundError:
        return ()
    by_artifact: dict[Digest, list[str]] = {}
    for tag, found in zip(tags, mapper(repository.resolve, tags), strict=True):
        if found is not None:
            by_artifact.setdefault(found.digest, []).append(tag)
    found_all = mapper(
        lambda item: _judged(repository, *item, needed, remote.title), by_artifact.items()
    )
    return tuple(
        item for item in found_all if item is not None and is_older(item.created, now, grace)
    )


def _judged(
    repository: RetryingRepository,
    artifact: Digest,
    tags: list[str],
    needed: Collection[str],
    title: str,
) -> UnneededSteps | None:
    what = f"{title}: {STEPS_REPOSITORY}@{artifact}"
    try:
        manifest = repository.get_manifest(str(artifact)).data
        described = steps_document(manifest, what)
        with repository.open_blob(described.digest, described.size) as body:
            _, created, keys = keys_in(body.read(DOCUMENT_LIMIT + 1), what)
        sizes = {layer["digest"]: layer["size"] for layer in read_object(manifest, what)["layers"]}
        size = sum(sizes.values())
    except (EnvgraphError, KeyError, TypeError):
        return None
    if any(key in needed for key in keys):
        return None
    return UnneededSteps(artifact, created, size, tuple(sorted(tags)))


def is_older(time: str, now: datetime, grace: timedelta) -> bool:
    """An age that cannot be read is none: what it is of is left alone."""
    try:
        return now - datetime.fromisoformat(time) >= grace
    except (ValueError, TypeError):
        return False
