"""Docker's reference grammar, against its regular expressions as published."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envgraph.model.reference import (
    BadReferenceError,
    LocalReference,
    RegistryReference,
    ScratchReference,
    normalise_reference,
    parse_reference,
    parse_registry_reference,
)

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("python", "docker.io/library/python:latest"),
        ("library/python", "docker.io/library/python:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("docker.io/library/python:latest", "docker.io/library/python:latest"),
        ("index.docker.io/python", "docker.io/library/python:latest"),
        ("  python:3.12 ", "docker.io/library/python:3.12"),
        ("user/image", "docker.io/user/image:latest"),
        ("localhost/image", "localhost/image:latest"),
        ("localhost:5000/image:1", "localhost:5000/image:1"),
        ("127.0.0.1:5000/ml/x:1", "127.0.0.1:5000/ml/x:1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("UPPER/image", "UPPER/image:latest"),
        ("python@sha256:" + HEX, "docker.io/library/python@sha256:" + HEX),
        ("python:3.12@sha256:" + HEX, "docker.io/library/python@sha256:" + HEX),
        ("a/b/c/d__e.f---g:T_a.g-1", "docker.io/a/b/c/d__e.f---g:T_a.g-1"),
        (
            "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04",
            "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest",
        ),
        (
            "mcr.microsoft.com/azureml/curated/acpt-pytorch-2.2-cuda12.1:13",
            "mcr.microsoft.com/azureml/curated/acpt-pytorch-2.2-cuda12.1:13",
        ),
        ("scratch", "scratch"),
        ("oci:bases/python", "oci:bases/python"),
        ("oci:store:workspace/env:1", "oci:store:workspace/env:1"),
        ("docker-archive:saved.tar", "docker-archive:saved.tar"),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert normalise_reference(text) == normal
    assert normalise_reference(normal) == normal


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("Python", "lower case"),
        ("user/Image", "lower case"),
        ("python:", "tag"),
        ("python:-x", "tag"),
        ("python:" + "x" * 129, "tag"),
        ("python@sha256:" + HEX[:-1], "digest"),
        ("python@sha256:" + HEX.upper(), "digest"),
        ("python@md5:" + HEX[:32], "digest"),
        ("python@", "digest"),
        ("python@sha256:../../etc", "host name"),
        (HEX, "image id"),
        ("docker://python", "scheme"),
        ("a//b", "name"),
        ("-a", "name"),
        ("a_.b", "name"),
        ("a..b", "name"),
        ("python 3", "name"),
        ("https_//x", "name"),
        ("host:port/x", "host name"),
        ("-host.com/x", "host name"),
        ("x" * 256, "longer"),
        ("oci:", "path"),
        ("oci:x:", "colon"),
        ("docker-archive:a\nb", "control"),
    ],
)
def test_refused(text: str, word: str) -> None:
    with pytest.raises(BadReferenceError, match=word):
        parse_reference(text)


def test_kinds() -> None:
    assert parse_reference("scratch") == ScratchReference()
    assert parse_reference("oci:a/b:n:1") == LocalReference("oci", "a/b", "n:1")
    assert parse_reference("scratch:1") == RegistryReference("docker.io", "library/scratch", "1")


# The grammar of distribution/reference as its documentation has it, but for "[-]+",
# which is "[-]*" there: the same language, and this engine is not RE2.
_ALNUM = r"[a-z0-9]+"
_SEPARATOR = r"(?:[._]|__|[-]+)"
_PATH_COMPONENT = rf"{_ALNUM}(?:{_SEPARATOR}{_ALNUM})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])(?:[:][0-9]+)?"
_NAME = rf"(?:{_HOST}/)?{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][0-9a-fA-F]{32,}"
_DOCKER = re.compile(rf"({_NAME})(?:[:]([\w][\w.-]{{0,127}}))?(?:@({_DIGEST}))?", re.ASCII)


def _docker_accepts(text: str) -> bool:
    """``ParseNormalizedNamed`` as it is written, on top of the grammar."""
    if re.fullmatch(r"[a-f0-9]{64}", text):
        return False
    first, slash, rest = text.partition("/")
    if not slash or (
        not ({".", ":"} & set(first)) and first != "localhost" and first.lower() == first
    ):
        domain, rest = "docker.io", text
    else:
        domain = first
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in rest:
        rest = "library/" + rest
    path = rest.split("@")[0].split(":")[0]
    if not re.fullmatch(_HOST, domain, re.ASCII):
        return False  # docker reads a.b_c/d as a name without a host, and then cannot pull it
    match = _DOCKER.fullmatch(f"{domain}/{rest}")
    if path != path.lower() or match is None or len(path) > 255:
        return False
    digest = match[3]
    return digest is None or bool(
        re.fullmatch(r"sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})", digest)
    )


_PUNCTUATION = ["-", "--", "_", "__", "___", ".", "/", ":", "@", "[", "]", "é", " "]
_WORDS = ["a", "b1", "A", "0", "::1", "localhost", "docker.io", "index.docker.io", "sha256:", HEX]
_PIECES = [*_PUNCTUATION, *_WORDS, "5000", "mcr.microsoft.com", "latest"]


def _agrees(text: str) -> None:
    if text != text.strip() or "://" in text:
        return
    try:
        reference = parse_registry_reference(text)
    except BadReferenceError:
        assert not _docker_accepts(text), text
        return
    assert _docker_accepts(text), text
    assert parse_registry_reference(str(reference)) == RegistryReference(
        reference.domain,
        reference.repository,
        "" if reference.digest else reference.tag,
        reference.digest,
    )


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=9).map("".join))
@example("[::1]:80/a@sha256:" + HEX)
def test_agrees_with_docker(text: str) -> None:
    _agrees(text)


def test_agrees_with_docker_100_000_times() -> None:
    random = Random(52)
    for _ in range(100_000):
        _agrees("".join(random.choices(_PIECES, k=random.randint(1, 9))))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_an_error(text: str) -> None:
    try:
        normal = normalise_reference(text)
    except BadReferenceError:
        return
    assert normalise_reference(normal) == normal
