"""A process that pushes to a registry in a folder, to be killed or starved. Not a test.

``worker.py WORK ROOT``: says ``ready``, waits for a line, works, and says what it did:
``ack`` after each manifest, ``done`` at the end, ``refused CODE`` for an EnvgraphError.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from envgraph.api import Digest, Repository
from envgraph.errors import EnvgraphError
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph.testing.registry.material import (
    OCI_IMAGE_MANIFEST,
    artifact,
    described,
    image,
    patterned,
    push,
    read_blob,
)
from envgraph_dirs.registry import DirsRegistry

NAME = "team/app"
LAYER = patterned(3 << 20)


def begin(repository: Repository) -> bytes:
    """Push into what is not there yet; then move the tag."""
    push(repository, LAYER)
    first = image(repository, "first")
    repository.put_manifest("1.0", first, OCI_IMAGE_MANIFEST)
    return first


def move(repository: Repository) -> bytes:
    """Move a tag, put another, and an artifact about the first; delete a tag."""
    first, second = image(repository, "first"), image(repository, "second")
    repository.put_manifest("1.0", second, OCI_IMAGE_MANIFEST)
    repository.put_manifest("2.0", second, OCI_IMAGE_MANIFEST)
    report = artifact(repository, "report", described(first, OCI_IMAGE_MANIFEST))
    repository.put_manifest("report", report, OCI_IMAGE_MANIFEST)
    repository.delete("2.0")
    return second


def mount(repository: Repository) -> bytes:
    """Take the layer over from another repository."""
    repository.mount(Digest.of(LAYER), "layers")
    return begin(repository)


def fetch(repository: Repository) -> bytes:
    """Read what is there, as the host does."""
    whole = RetryingRepository(repository, Policy(sleep=lambda seconds: None))
    assert read_blob(whole, described(LAYER)) == LAYER
    return whole.get_manifest("1.0").data


WORK = {"begin": begin, "move": move, "mount": mount}


def say(line: str) -> None:
    """To stdout, by a system call that no test lets fail."""
    os.writev(1, [line.encode() + b"\n"])


def main(kind: str, root: str) -> None:
    """Work once, when told to."""
    repository = DirsRegistry(Path(root)).repository(NAME)
    say("ready")
    sys.stdin.readline()
    try:
        (WORK | {"fetch": fetch})[kind](repository)
    except EnvgraphError as error:
        say(f"refused {error.diagnostics[0].code}")
    say("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
