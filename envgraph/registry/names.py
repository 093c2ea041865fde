"""Where things lie in a registry: repositories and tags, both ways. Pure.

::

    envgraph/layers                       every layer of ours, once
    envgraph/steps                        what builders made of docker steps and contexts:
      key-<64 hex>                          an artifact with the result of that step
    envgraph/envgraph_<32 hex>            the images of one definition, with these tags:
      <version>[-<12 hex of the image>]     a version of an environment, for people
      key-<64 hex>                          the image (or index) that a node key makes
      record-<64 hex>                       what an empty store has to know of that key
      pin-<56 hex>-<56 hex>                 a lock, by pin key and by the lock record's digest
    envgraph/catalogue/<escaped name>     shared environments, tagged by version,
      label-<escaped label>                 and by label
      record-moves                          every move of a label, archived, restored
    envgraph/registry:owner               who may write to the catalogue

A version that looks like one of the other tags has its first character escaped, so
none of them can be taken by a version. Tags hold 128 characters: pin keys and digests
are cut to 56 digits there (224 bits), and what is behind such a tag is verified whole.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from envgraph.model.canonical import NodeKey
from envgraph.model.names import (
    escape_repository,
    escape_tag,
    unescape_repository,
    unescape_tag,
)
from envgraph_store.digest import Digest

LAYERS: Final = "envgraph/layers"
STEPS_REPOSITORY: Final = "envgraph/steps"
CATALOGUE: Final = "envgraph/catalogue/"
OWNER_REPOSITORY: Final = "envgraph/registry"
OWNER_TAG: Final = "owner"
MOVES_TAG: Final = "record-moves"

_OURS: Final = ("key-", "record-", "pin-", "label-")
_CUT: Final = 56
_LONGEST: Final = 128
_KEY: Final = re.compile(r"key-[0-9a-f]{64}")
_PIN: Final = re.compile(rf"pin-([0-9a-f]{{{_CUT}}})-([0-9a-f]{{{_CUT}}})")


def version_tag(version: str, image: Digest | None = None) -> str:
    """The tag of a version; with ``image`` the one to take where that is taken (M51).

    >>> version_tag("3"), version_tag("label-x")
    ('3', '_6Cabel-x')
    """
    text = escape_tag(version)
    if text.startswith(_OURS):
        text = f"_{ord(text[0]):02X}{text[1:]}"
    ending = "" if image is None else f"-{image.hex[:12]}"
    if len(text) + len(ending) > _LONGEST:
        text = f"{text[:77]}_.{hashlib.sha256(version.encode()).hexdigest()[:32]}"
    return text + ending


def version_of_tag(tag: str) -> str | None:
    """The version behind a tag of a catalogue; None for every other tag."""
    if tag.startswith(_OURS):
        return None
    first = re.match(r"_([0-9A-F]{2})", tag)
    plain = chr(int(first[1], 16)) + tag[3:] if first else ""
    try:
        return unescape_tag(plain if plain.startswith(_OURS) else tag)
    except (ValueError, UnicodeDecodeError):
        return None


def label_tag(label: str) -> str:
    """The tag of a label; a long one is cut as a version's is."""
    text = "label-" + escape_tag(label)
    if len(text) > _LONGEST:
        text = f"{text[:90]}_.{hashlib.sha256(label.encode()).hexdigest()[:32]}"
    return text


def key_tag(key: NodeKey) -> str:
    """The tag of the image, or of the step's result, that ``key`` makes."""
    return f"key-{_hex(key)}"


def is_key_tag(tag: str) -> bool:
    """Whether a tag is one of :func:`key_tag`."""
    return _KEY.fullmatch(tag) is not None


def record_tag(key: NodeKey) -> str:
    """The tag of the record artifact of ``key``."""
    return f"record-{_hex(key)}"


def pin_prefix(pin_key: Digest) -> str:
    """How the tags of all locks of this pin key begin."""
    return f"pin-{pin_key.hex[:_CUT]}-"


def pin_tag(pin_key: Digest, record: Digest) -> str:
    """The tag of one lock (by its record's digest) of a pin key."""
    return pin_prefix(pin_key) + record.hex[:_CUT]


def is_pin_of(tag: str, pin_key: Digest) -> bool:
    """Whether a tag names a lock of this pin key."""
    found = _PIN.fullmatch(tag)
    return found is not None and found[1] == pin_key.hex[:_CUT]


def catalogue_repository(name: str) -> str:
    """The repository of a shared environment."""
    return CATALOGUE + escape_repository(name)


def name_of_repository(repository: str) -> str | None:
    """The environment behind a repository of the catalogue; None for every other one."""
    if not repository.startswith(CATALOGUE):
        return None
    try:
        return unescape_repository(repository.removeprefix(CATALOGUE))
    except (ValueError, UnicodeDecodeError):
        return None


def _hex(key: NodeKey) -> str:
    return str(key).partition(":")[2]
