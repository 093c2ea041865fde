"""What is known about a layer after it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envgraph_store.digest import Digest


@dataclass(frozen=True, slots=True)
class LayerContent:
    """One layer: its hashes and sizes in bytes, and what lies in it.

    ``paths`` and ``directories`` are below the prefix, sorted. ``paths`` (all that
    is not a directory) is left out of :meth:`to_json`: it is large and seldom
    needed, so it is kept apart as :meth:`listing`.
    """

    diff_id: Digest
    raw_size: int
    size: int
    """Compressed."""

    head_raw: int
    """Bytes of the directories' headers at the start of the raw archive."""

    head_size: int
    """Bytes of their frame."""

    media_type: str
    files: int
    directories: tuple[str, ...] = ()
    env_vars: Mapping[str, str] = field(default_factory=dict)
    """From ``etc/conda/env_vars.d``."""

    activate_scripts: tuple[str, ...] = ()
    deactivate_scripts: tuple[str, ...] = ()
    post_link_scripts: tuple[str, ...] = ()
    """Scripts that an installer would run and the assembler never does."""

    notes: tuple[str, ...] = ()
    """What a person may want to know, one sentence each."""

    paths: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """All but ``paths``, as :meth:`from_json` reads it."""
        return {
            "format": 1,
            "diff_id": str(self.diff_id),
            "raw_size": self.raw_size,
            "size": self.size,
            "head_raw": self.head_raw,
            "head_size": self.head_size,
            "media_type": self.media_type,
            "files": self.files,
            "directories": list(self.directories),
            "env_vars": dict(self.env_vars),
            "activate_scripts": list(self.activate_scripts),
            "deactivate_scripts": list(self.deactivate_scripts),
            "post_link_scripts": list(self.post_link_scripts),
            "notes": list(self.notes),
        }

    def listing(self) -> bytes:
        """``paths`` as JSON in ASCII; names that are not UTF-8 survive."""
        return json.dumps(list(self.paths), separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, document: Mapping[str, Any], listing: bytes = b"[]") -> LayerContent:
        """Read :meth:`to_json`, and :meth:`listing` where the paths matter."""
        if document.get("format") != 1:
            raise ValueError(f"layer record of format {document.get('format')!r}")
        return cls(
            diff_id=Digest(document["diff_id"]),
            raw_size=document["raw_size"],
            size=document["size"],
            head_raw=document["head_raw"],
            head_size=document["head_size"],
            media_type=document["media_type"],
            files=document["files"],
            directories=tuple(document["directories"]),
            env_vars=dict(document["env_vars"]),
            activate_scripts=tuple(document["activate_scripts"]),
            deactivate_scripts=tuple(document["deactivate_scripts"]),
            post_link_scripts=tuple(document["post_link_scripts"]),
            notes=tuple(document["notes"]),
            paths=tuple(json.loads(listing)),
        )
