"""The record that lies beside an image of envgraph's in its registry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from envgraph.errors import EnvgraphError
from envgraph.history.foundimage import FoundImage
from envgraph.history.pictures import registry_reference
from envgraph.registry.artifacts import (
    ENVIRONMENT_TYPE,
    EnvironmentRecord,
    fetch_parts,
    read_contents,
    read_environment,
    read_version,
)

if TYPE_CHECKING:
    from envgraph.registry.remotes import Remotes

_MOST_RECORDS: Final = 50
"""How many records of a repository are read to find the one of an image."""


def record_beside(remotes: Remotes, text: str, image: FoundImage) -> EnvironmentRecord | None:
    """The version that an image is, as the record beside it in its registry says.

    Only documents are fetched. None where no record there is about this image.
    """
    reference = registry_reference(text)
    repository = remotes.for_host(reference.domain).repository(reference.repository)
    try:
        tags = [tag for tag in repository.tags() if tag.startswith("record-")]
    except EnvgraphError:
        return None
    for tag in sorted(tags)[:_MOST_RECORDS]:
        what = f"{reference.domain}/{reference.repository}:{tag}"
        try:
            contents = read_contents(repository.get_manifest(tag).data, ENVIRONMENT_TYPE, what)
            only = replace(contents, parts=contents.parts[:1], config=contents.parts[0])
            record = read_version(only, fetch_parts(repository, only), what)
            if image.digest not in (record.image, *record.images.values()):
                continue
            return read_environment(contents, fetch_parts(repository, contents), what)
        except EnvgraphError:
            continue  # damaged, or gone meanwhile: the image itself can be compared
    return None
