r"""Refs and actions are records: small JSON documents with a checksum of their own.

::

    envgraph-record/1 sha256:<hex of all that follows>\n
    {"key"|"name": …, "record"|"value": …, "needs": ["sha256:…", …]}\n

``needs`` are the digests in it that lay in the store when it was written, so a
lost object is told from one that was never here (a DiffID, a base's layer).
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from envgraph_store import files
from envgraph_store.digest import Digest
from envgraph_store.errors import RecordCorrupt, io_error

LONGEST: Final = 64 << 20
_HEAD: Final = b"envgraph-record/1 sha256:"
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})(?![0-9a-f])", re.ASCII)


def encode(document: Mapping[str, object]) -> bytes:
    """The file of a record; raise TypeError or ValueError for what JSON cannot hold."""
    body = json.dumps(
        document, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode("utf-8", "surrogatepass")
    body += b"\n"
    return _HEAD + Digest.of(body).hex.encode() + b"\n" + body


def decode(data: bytes, where: Callable[[], Path]) -> dict[str, Any]:
    """Read a record's file; raise :class:`RecordCorrupt`, which names ``where()``."""
    head, _, body = data.partition(b"\n")
    if head != _HEAD + Digest.of(body).hex.encode():
        raise _corrupt(where, "its checksum is wrong")
    try:
        document = json.loads(body.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        raise _corrupt(where, "it is not JSON") from None
    if not isinstance(document, dict):
        raise _corrupt(where, "it is not a JSON object")
    return document


def load(name: str, folder: int, where: Callable[[], Path]) -> dict[str, Any]:
    """Read the record file ``name``; raise FileNotFoundError or :class:`RecordCorrupt`.

    ``where`` says the path for messages, and is asked only then: a list reads thousands.
    """
    try:
        fd, status = files.open_regular(name, folder)
        try:
            if status.st_size > LONGEST:
                raise _corrupt(where, "it is too large")
            data = b""
            while piece := os.read(fd, status.st_size + 1 - len(data) or 1):
                data += piece
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ELOOP):
            raise _corrupt(where, "it is not a regular file") from error
        raise io_error(error, "read", where()) from error
    return decode(data, where)


def digests_in(value: object) -> set[Digest]:
    """Every ``sha256:<hex>`` that a JSON value holds, in keys and inside longer texts too."""
    text = json.dumps(value, ensure_ascii=False)
    return {Digest.from_hex(found) for found in _DIGEST.findall(text)}


def needs_of(document: Mapping[str, Any]) -> list[Digest]:
    """The digests that were here when the record was written."""
    return [Digest(text) for text in document.get("needs", ())]


def _corrupt(where: Callable[[], Path], fault: str) -> RecordCorrupt:
    return RecordCorrupt(
        f"the record {where()} is damaged: {fault}",
        hint="run 'envgraph store verify --repair'",
    )
