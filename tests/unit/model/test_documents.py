"""Lock documents lose nothing, and say so when they are not whole."""

from __future__ import annotations

import json

import pytest

from envgraph.errors import IntegrityError
from envgraph.model.documents import lock_bytes, lock_document, lock_from_document
from envgraph.model.locked import BaseLayer, LockedBase, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

PACKAGE = LockedPackage(
    "conda", "numpy", "2.4.6", "py312h_0", "linux-64", Digest.of(b"numpy"), "conda-forge",
    file_name="numpy-2.4.6-py312h_0.conda", url="https://x/y", size=12, md5="0" * 32,
    build_number=3, noarch="", depends=("python >=3.12",), constrains=("foo <2",),
    timestamp_ms=17, license="BSD", direct=True,
)  # fmt: skip
WHEEL = LockedPackage(
    "pip", "rich", "15.0.0", "", "", Digest.of(b"rich"), "", file_name="rich.whl", size=3,
    reproducible=False,
)  # fmt: skip
BASE = LockedBase(
    "oci:base", Digest.of(b"m"), "application/x", Digest.of(b"c"),
    (BaseLayer("application/y", Digest.of(b"l"), 5, Digest.of(b"d")),),
)  # fmt: skip
LOCK = LockedEnvironment(
    Digest.of(b"definition"), Digest.of(b"pin"), "linux-64", BASE, (PACKAGE, WHEEL),
    ("RUN x",), "2026-01-01T00:00:00Z", {"conda": "py-rattler 0.28"},
)  # fmt: skip


def test_a_lock_survives_its_document() -> None:
    back = lock_from_document(json.loads(lock_bytes(LOCK)))
    assert back == LOCK
    assert (back.created, dict(back.solver)) == (LOCK.created, dict(LOCK.solver))


def test_the_document_names_archives_by_digest_so_that_they_are_kept() -> None:
    text = lock_bytes(LOCK).decode()
    assert str(PACKAGE.sha256) in text
    assert str(WHEEL.sha256) in text


def test_another_schema_is_refused() -> None:
    with pytest.raises(IntegrityError, match="schema"):
        lock_from_document(lock_document(LOCK) | {"schema": "envgraph.lock/2"})


@pytest.mark.parametrize("key", ["definition", "packages", "base", "platform"])
def test_a_document_that_is_not_whole_is_refused(key: str) -> None:
    document = lock_document(LOCK)
    del document[key]
    with pytest.raises(IntegrityError, match="not whole"):
        lock_from_document(document)
