"""``index.json``: the images by name, for other tools; derived from the refs."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from envgraph_store import files
from envgraph_store.digest import Digest, DigestError
from envgraph_store.errors import RecordCorrupt, io_error
from envgraph_store.layout import INDEX_FILE, MEDIA_TYPE_INDEX, REF_NAME, Folders, replace_file
from envgraph_store.refs import RefReader

PREFIX: Final = "images/"
"""Refs below this name are images."""

_PASSED_ON: Final = ("platform", "artifactType")


def build(refs: RefReader) -> bytes:
    """What ``index.json`` should hold: one descriptor for each image ref, by name."""
    manifests = [_descriptor(name, ref.value) for name, ref in refs.list(PREFIX).items()]
    manifests.sort(key=lambda entry: (entry["annotations"][REF_NAME], entry["digest"]))
    document = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": manifests}
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8")


def rewrite(folders: Folders, refs: RefReader) -> bool:
    """Bring ``index.json`` up to date; the caller holds the index lock. False: it was."""
    wanted = build(refs)
    try:
        if read(folders) == wanted:
            return False
        replace_file(folders["root"], INDEX_FILE, wanted, folders.disk)
    except OSError as error:
        raise io_error(error, "write", folders.path / INDEX_FILE) from error
    return True


def read(folders: Folders) -> bytes | None:
    """The bytes of ``index.json``; None if it is no regular file or not there."""
    try:
        fd, status = files.open_regular(INDEX_FILE, folders["root"])
    except OSError:
        return None
    try:
        return os.pread(fd, status.st_size, 0)
    finally:
        os.close(fd)


def names_of(folders: Folders, digest: Digest) -> list[str]:
    """The names that ``index.json`` gives an image; none where it cannot be read.

    A hint: the refs are the truth, and a process may have died before it wrote this.
    """
    try:
        entries = json.loads(read(folders) or b"")["manifests"]
        return [e["annotations"][REF_NAME] for e in entries if e["digest"] == str(digest)]
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        return []


def is_damaged(folders: Folders) -> bool:
    """Whether ``index.json`` is missing or cannot be read as an index (not: out of date)."""
    try:
        document = json.loads(read(folders) or b"")
        return not (document["schemaVersion"] == 2 and isinstance(document["manifests"], list))
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        return True


def _descriptor(name: str, value: dict[str, Any]) -> dict[str, Any]:
    try:
        annotations = {str(k): str(v) for k, v in (value.get("annotations") or {}).items()}
        annotations[REF_NAME] = str(value["ref_name"])
        descriptor = {
            "mediaType": str(value["mediaType"]),
            "digest": str(Digest(value["digest"])),
            "size": int(value["size"]),
            "annotations": annotations,
        }
    except (KeyError, TypeError, ValueError, AttributeError, DigestError) as error:
        raise RecordCorrupt(
            f"the ref {name!r} is no image: it needs mediaType, digest, size and ref_name"
        ) from error
    descriptor.update({key: value[key] for key in _PASSED_ON if key in value})
    return descriptor
