"""What a Dockerfile names, and what of it is refused."""

from __future__ import annotations

import pytest

from envgraph.errors import Diagnostic
from envgraph.model.spec import NamedImage
from envgraph.spec.dockerfile import (
    DockerfileFacts,
    read_dockerfile,
    step_images,
    step_secrets,
)
from envgraph.spec.platform_arguments import image_for
from envgraph.spec.problems import Problems

ALPINE = "docker.io/library/alpine:3"


def read(text: str) -> tuple[DockerfileFacts | None, tuple[Diagnostic, ...]]:
    problems = Problems()
    return read_dockerfile(text.encode(), "Dockerfile", problems), problems.result()


def images(text: str) -> dict[str, str]:
    facts, problems = read(text)
    assert facts is not None, problems
    return {image.text: image.reference for image in facts.images}


def test_every_base_is_seen_and_stages_are_none() -> None:
    text = (
        "FROM python:3.12 AS Build\nFROM build\nCOPY --from=0 /a /a\nCOPY --from=BUILD /a /b\n"
        "COPY --from=alpine:3 /bin/sh /sh\nRUN --mount=type=bind,from=busybox,target=/x true\n"
    )
    assert images(text) == {
        "python:3.12": "docker.io/library/python:3.12",
        "alpine:3": ALPINE,
        "busybox": "docker.io/library/busybox:latest",
    }
    facts, _ = read(text)
    assert facts is not None
    assert facts.base == "python:3.12"


def test_arguments_before_from_are_put_in() -> None:
    text = "ARG V=3\nARG NAME=alpine\nFROM ${NAME}:$V\nFROM ${NOTHING:-alpine}:${V:+3}\n"
    assert images(text) == {"alpine:3": ALPINE}


def test_arguments_of_a_stage_mean_nothing_to_from() -> None:
    _, problems = read("FROM alpine:3\nARG V=3\nFROM alpine:$V\n")
    assert [(d.code, d.source.line if d.source else 0) for d in problems] == [
        ("dockerfile-argument", 3)
    ]


def test_arguments_of_the_platform_wait_for_it() -> None:
    [image] = read("FROM alpine:3-${TARGETARCH}\n")[0].images  # type: ignore[union-attr]
    assert image == NamedImage("alpine:3-${TARGETARCH}", "")
    assert image_for(image, "linux-64") == ("alpine:3-amd64", f"{ALPINE}-amd64")
    assert image_for(image, "linux-aarch64")[0] == "alpine:3-arm64"


def test_what_heredocs_hold_is_no_instruction() -> None:
    text = "FROM alpine:3\nRUN <<EOF\nFROM nothing\nEOF\nCOPY <<E /a\n{x}\nE\n"
    assert images(text) == {"alpine:3": ALPINE}


def test_continuations_comments_and_the_escape_directive() -> None:
    text = "# escape=`\nFROM `\n  # why\n  alpine:3\nRUN echo `\n  --from=no\n"
    assert images(text) == {"alpine:3": ALPINE}


def test_the_empty_image_is_no_image() -> None:
    facts, _ = read("FROM scratch\nCOPY a /a\n")
    assert facts is not None
    assert (facts.images, facts.base) == ((), "scratch")


def test_secrets_are_named() -> None:
    text = "FROM alpine:3\nRUN --mount=type=secret,id=one --mount=type=secret,src=/x/two true\n"
    facts, _ = read(text)
    assert facts is not None
    assert facts.secrets == ("one", "two")


@pytest.mark.parametrize(
    "syntax", ["docker/dockerfile:1", "docker/dockerfile", "docker.io/docker/dockerfile:1.7-labs"]
)
def test_dockers_own_frontend_is_the_builders(syntax: str) -> None:
    assert images(f"# syntax={syntax}\nFROM alpine:3\n") == {"alpine:3": ALPINE}


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("# syntax=evil/frontend:1\nFROM a\n", "frontend-unpinned", 1),
        ("# escape=`\n#syntax = evil/frontend\nFROM a\n", "frontend-unpinned", 2),
        ("# syntax=evil/x@sha256:" + "a" * 64 + "\nFROM a\n", "frontend", 1),
        ("FROM {{image}}\n", "template", 1),
        ("FROM a\nADD https://h.example/x /x\n", "unpinned-add", 2),
        ("FROM a\nADD https://h.example/x.git#main /x\n", "unpinned-add", 2),
        ("FROM a\nFRO b\n", "dockerfile", 2),
        ("RUN x\n", "dockerfile", 1),
        ("FROM a\nRUN <<EOF\nx\n", "dockerfile", 1),
        ("FROM a b\n", "dockerfile", 1),
        ("FROM Big/Name\n", "image-reference", 1),
        ("FROM a\nCOPY --from=$X /a /b\n", "dockerfile", 2),
        ("FROM a\nCOPY --from=7 /a /b\n", "dockerfile", 2),
        ("FROM a\nCOPY --from=https://h.example/x /a /b\n", "image-reference", 2),
        ("", "dockerfile", 1),
        ("FROM a:${V\n", "dockerfile-argument", 1),
    ],
)
def test_what_is_refused_has_its_line(text: str, code: str, line: int) -> None:
    _, problems = read(text)
    assert problems[0].code == code
    assert problems[0].source is not None
    assert problems[0].source.line == line


def test_a_checksum_or_a_commit_pins_what_is_added() -> None:
    text = (
        f"FROM a\nADD --checksum=sha256:{'a' * 64} https://h.example/x /x\n"
        f"ADD https://h.example/x.git#{'b' * 40} /y\n"
    )
    facts, problems = read(text)
    assert facts is not None
    assert problems == ()


def test_bytes_that_are_no_text() -> None:
    problems = Problems()
    assert read_dockerfile(b"FROM a\n\xff", "Dockerfile", problems) is None
    assert problems.result()[0].code == "encoding"


def test_flags_of_one_step() -> None:
    assert list(step_images("COPY --chown=1:2 --from=alpine:3 /a /b")) == ["alpine:3"]
    step = "RUN --mount=type=secret,id=a --mount=from=busybox,target=/x echo --from=no"
    assert list(step_images(step)) == ["busybox"]
    assert list(step_secrets(step)) == ["a"]
    assert not list(step_images("ENV A=--from=x"))


@pytest.mark.parametrize(
    "line",
    [
        "RUN docker version --format '{{.Server.Version}}'",
        "RUN go list -m -f '{{ .Version }}' all",
        "RUN helm template x --set a='{{- range $i := .items }}{{ end }}'",
        "RUN docker inspect -f '{{json .Config}}' x",
        "# {{latest-image-tag}} stands here when it is rendered",
    ],
)
def test_what_steps_hand_to_other_programs_is_no_template_of_ours(line: str) -> None:
    problems = Problems()
    assert read_dockerfile(f"FROM debian:12\n{line}\n".encode(), "Dockerfile", problems)
    assert problems.result() == ()


@pytest.mark.parametrize("text", ["{{latest-pypi-version}}", "{{ image }}", "{{ended}}"])
def test_a_template_in_a_step_is_one_wherever_it_stands(text: str) -> None:
    problems = Problems()
    data = f"FROM debian:12\nRUN pip install \\\n    a=={text}\n".encode()
    assert read_dockerfile(data, "Dockerfile", problems) is None
    [found] = problems.result()
    assert (found.code, found.source and found.source.line) == ("template", 3)
