"""Base references: docker's grammar and its normal form, and images on disk.

Source of the grammar: ``distribution/reference`` (``ParseNormalizedNamed``), which
docker, podman and skopeo share. Pure: nothing here touches a disk or a network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

_DOMAIN_PART: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_IPV6: Final = r"\[[a-fA-F0-9:]+\]"
_DOMAIN: Final = re.compile(
    rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|{_IPV6})(?::[0-9]+)?", re.ASCII
)
_COMPONENT: Final = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)
_IDENTIFIER: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_REPOSITORY: Final = 255
_DEFAULT_DOMAIN: Final = "docker.io"
_LOCAL_KINDS: Final[tuple[Literal["oci", "docker-archive"], ...]] = ("oci", "docker-archive")


class BadReferenceError(ValueError):
    """The text is no reference; the message says why, in words for the user."""


def is_repository(text: str) -> bool:
    """Whether a registry may have a repository of that name (OCI's grammar, 255 characters)."""
    return len(text) <= _MAX_REPOSITORY and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether a repository may have that tag (OCI's grammar, 128 characters)."""
    return _TAG.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class RegistryReference:
    """An image in a registry, in normal form; a digest beats the tag beside it."""

    domain: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        name = f"{self.domain}/{self.repository}"
        return f"{name}@{self.digest}" if self.digest else f"{name}:{self.tag}"


@dataclass(frozen=True, slots=True)
class LocalReference:
    """An image on disk: ``oci:PATH[:NAME]`` or ``docker-archive:PATH[:NAME]``.

    The path ends at the first colon, as for skopeo; a name may hold colons.
    """

    kind: Literal["oci", "docker-archive"]
    path: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f":{self.name}" if self.name else "")


@dataclass(frozen=True, slots=True)
class ScratchReference:
    """The empty image."""

    def __str__(self) -> str:
        return "scratch"


Reference = RegistryReference | LocalReference | ScratchReference


def parse_reference(text: str) -> Reference:
    """Read a base reference of any kind; :class:`BadReferenceError` says what is wrong."""
    text = text.strip()
    if text == "scratch":
        return ScratchReference()
    for kind in _LOCAL_KINDS:
        if text.startswith(kind + ":"):
            return _parse_local(kind, text[len(kind) + 1 :])
    return parse_registry_reference(text)


def normalise_reference(text: str) -> str:
    """The one spelling of a reference: ``python`` → ``docker.io/library/python:latest``."""
    return str(parse_reference(text))


def same_name(one: str, other: str) -> bool:
    """Whether two texts name one image, in any of docker's spellings."""
    if one == other:
        return True
    try:
        return parse_registry_reference(one) == parse_registry_reference(other)
    except BadReferenceError:
        return False


def parse_registry_reference(text: str) -> RegistryReference:
    """Read a docker reference: ``[domain/]path[:tag][@digest]``."""
    if not text:
        raise BadReferenceError("the reference is empty")
    if "://" in text:
        raise BadReferenceError(
            f"{_shown(text)} starts with a scheme: write the reference without it"
        )
    if _IDENTIFIER.fullmatch(text):
        raise BadReferenceError(
            f"{_shown(text)} is an image id, not a name: write name@sha256:{text[:12]}…"
        )
    domain, rest = _split_domain(text)
    name, at, digest = rest.partition("@")
    if at:
        _check_digest(digest)
    path, colon, tag = name.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise BadReferenceError(
            f"the tag {_shown(tag)} is not 1 to 128 letters, digits, '_', '.' or '-'"
        )
    if not _DOMAIN.fullmatch(domain):
        raise BadReferenceError(f"the registry {_shown(domain)} is not a host name")
    if not _REPOSITORY.fullmatch(path):
        if path != path.lower() and _REPOSITORY.fullmatch(path.lower()):
            raise BadReferenceError(f"the repository {_shown(path)} must be lower case")
        raise BadReferenceError(f"{_shown(text)} is not [host/]name[:tag][@digest]")
    if len(path) > _MAX_REPOSITORY:
        raise BadReferenceError(f"the repository is longer than {_MAX_REPOSITORY} characters")
    return RegistryReference(domain, path, tag or ("" if digest else "latest"), digest)


def _split_domain(text: str) -> tuple[str, str]:
    """Docker's rule: a first part with a dot, a colon or capitals, or localhost, is a host."""
    first, slash, rest = text.partition("/")
    is_domain = slash and (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    )
    domain, path = (first, rest) if is_domain else (_DEFAULT_DOMAIN, text)
    if domain == "index.docker.io":
        domain = _DEFAULT_DOMAIN
    if domain == _DEFAULT_DOMAIN and "/" not in path:
        path = "library/" + path
    return domain, path


def _check_digest(digest: str) -> None:
    algorithm, _, digits = digest.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None or len(digits) != length or not _HEX.fullmatch(digits):
        raise BadReferenceError(
            f"{_shown(digest)} is no digest: sha256: and 64 lower-case hexadecimal digits"
        )


def _parse_local(kind: Literal["oci", "docker-archive"], rest: str) -> LocalReference:
    path, colon, name = rest.partition(":")
    if not path:
        raise BadReferenceError(f"{kind}: needs a path: {kind}:PATH or {kind}:PATH:NAME")
    if colon and not name:
        raise BadReferenceError(f"{kind}:{_shown(path)}: ends in a colon without a name")
    if any(ord(c) < 32 or ord(c) == 127 for c in rest):
        raise BadReferenceError(f"{kind}: the path holds a control character")
    return LocalReference(kind, path, name)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")
