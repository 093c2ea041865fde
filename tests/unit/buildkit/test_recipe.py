"""Requests as Dockerfiles and attributes, and lines back to instructions."""

from __future__ import annotations

import pytest

from envgraph.api import (
    OCI_IMAGE_MANIFEST,
    Base,
    BuilderError,
    BuildRequest,
    Descriptor,
    Digest,
    Dockerfile,
    Platform,
)
from envgraph.testing.builder.material import steps
from envgraph_buildkit.recipe import familiar, write

DIGEST = Digest.of(b"manifest")
MANIFEST = Descriptor(OCI_IMAGE_MANIFEST, DIGEST, 8)
PULLED = Base("docker.io/library/python:3.12", MANIFEST, (), "docker.io/library/python")


def request(recipe: object, **values: object) -> BuildRequest:
    return BuildRequest(Platform("linux", "amd64"), recipe, **values)  # type: ignore[arg-type]


def written(recipe: object, *, whole: bool = True, network: str = "default", **values: object):  # type: ignore[no-untyped-def]
    return write(request(recipe, **values), whole=whole, network=network)


def test_steps_become_a_dockerfile() -> None:
    recipe = steps(None, "RUN <<EOF\necho 1\nEOF", "ENV A=1 \\\n  B=2", "RUN exit 3")
    found = written(recipe, arguments={"X": "y"}, network="host")
    assert (
        found.data == b"FROM scratch\n" + b"RUN <<EOF\necho 1\nEOF\nENV A=1 \\\n  B=2\nRUN exit 3\n"
    )
    assert found.starts == (2, 5, 7)
    assert found.attributes["build-arg:X"] == "y"
    assert [found.place(line)[0] for line in (1, 2, 4, 5, 6, 7, 99)] == [None, 0, 0, 1, 1, 2, 2]
    assert str(found.place(6)[1]) == "steps.yml:12:5"


def test_a_step_of_an_old_server_by_its_number() -> None:
    recipe = steps(PULLED, "ENV A=1", "RUN a", "LABEL b=c", "WORKDIR /x", "COPY y /")
    found = written(recipe, whole=False)
    assert found.data.startswith(f"FROM docker.io/library/python@{DIGEST}\n".encode())
    assert found.step("[2/4] RUN a")[0] == 1
    assert found.step("[3/4] WORKDIR /x")[0] == 3
    assert found.step("[stage-0 4/4] COPY y /")[0] == 4
    assert written(steps(None, "ENV A=1", "RUN a"), whole=False).step("[1/1] RUN a")[0] == 1
    for name in ("[1/4] FROM x", "[4/4] RUN other", "[9/9] RUN z", "exporting", ""):
        assert found.step(name) == (None, None)


def test_network_is_off_unless_asked_for() -> None:
    recipe = steps(None, "RUN x")
    off = write(request(recipe, network=False), whole=True, network="host")
    assert off.attributes["force-network-mode"] == "none"
    on = write(request(recipe), whole=True, network="host")
    assert on.attributes["force-network-mode"] == "host"


def test_names_of_a_dockerfile_are_pinned_beside_it() -> None:
    data = b"FROM python:3.12\n"
    found = written(Dockerfile(data, "D", {"docker.io/library/python:3.12": PULLED}))
    assert found.data == data
    assert found.attributes["context:python:3.12"] == (
        f"docker-image://docker.io/library/python@{DIGEST}"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("docker.io/library/python:latest", "python"), ("python", "python"),
     ("library/python:3", "python:3"), ("docker.io/team/app", "team/app"),
     ("ghcr.io/library/x:latest", "ghcr.io/library/x")],
)  # fmt: skip
def test_familiar_names(name: str, expected: str) -> None:
    assert familiar(name) == expected


@pytest.mark.parametrize(
    "head", [b"# syntax=x/y:1\n", b"#syntax = x/y:1\n", b"\xef\xbb\xbf# SYNTAX=x/y:1\n",
             b"#!/usr/bin/env x\n# syntax=x/y:1\n"],
)  # fmt: skip
def test_a_syntax_line_needs_network(head: bytes) -> None:
    recipe = Dockerfile(head + b"FROM scratch\n", "D")
    with pytest.raises(BuilderError, match="syntax=x/y:1"):
        write(request(recipe, network=False), whole=True, network="default")
    assert written(recipe).syntax == "x/y:1"


def test_a_comment_that_is_no_syntax_line() -> None:
    found = written(Dockerfile(b"# about\n# a syntax = thing\nFROM scratch\n", "D"))
    assert found.syntax == ""


@pytest.mark.parametrize(
    "text", ["ADD https://x/y /", "add --chmod=1 git@x:y.git /", "ADD \\\n http://x /"]
)
def test_an_old_server_cannot_be_kept_from_fetching(text: str) -> None:
    for recipe in (
        steps(None, text),
        Dockerfile(f"FROM scratch\n{text}".replace("\\\n", "").encode(), "D"),
    ):
        with pytest.raises(BuilderError) as caught:
            write(request(recipe, network=False), whole=False, network="default")
        assert caught.value.code == "builder-lacks"
    assert written(steps(None, text), whole=False)
