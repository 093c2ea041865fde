"""Which settings look like secrets, and which do not."""

from __future__ import annotations

import pytest

from envgraph.spec.dockerfile import read_dockerfile
from envgraph.spec.looks_secret import secret_names
from envgraph.spec.problems import Problems


@pytest.mark.parametrize(
    ("instruction", "names"),
    [
        ("ENV API_TOKEN=abc123", ["API_TOKEN"]),
        ("ARG DB_PASSWORD=abc", ["DB_PASSWORD"]),
        ("env password hunter2 and more", ["password"]),
        ('ENV A=1 AWS_SECRET_ACCESS_KEY="a b" B=2', ["AWS_SECRET_ACCESS_KEY"]),
        ("ENV A=1 \\\n  AUTH='x'", ["AUTH"]),
        ("ARG GITHUB_TOKEN", []),
        ("ARG TOKEN=", []),
        ("ENV TOKEN=$TOKEN", []),
        ("ENV TOKEN=${T:-}", []),
        ("ENV KEY_FILE=/run/secrets/key", []),
        ("ENV TOKEN_URL=https://host/token", []),
        ("ENV TOKEN_URL=https://user:pw@host/token", ["TOKEN_URL"]),
        ("ENV AUTH=true MAX_TOKEN=512", []),
        ("ENV PUBLIC_KEY=abc", []),
        ("ENV KEYBOARD=us TOKENIZERS_PARALLELISM=off MONKEY=x", []),
        ("LABEL token=abc", []),
        ("RUN TOKEN=abc make", []),
        ("ENV", []),
    ],
)
def test_names(instruction: str, names: list[str]) -> None:
    assert list(secret_names(instruction)) == names


def test_a_dockerfile_is_warned_of_with_the_line() -> None:
    problems = Problems()
    data = b"FROM debian:12\n\nENV A=b \\\n    HF_TOKEN=abcdef\n"
    assert read_dockerfile(data, "Dockerfile", problems) is not None
    [found] = problems.result()
    assert (found.code, found.severity) == ("secret-in-image", "warning")
    assert found.source is not None
    assert found.source.line == 3
    assert "HF_TOKEN" in found.summary
    assert "abcdef" not in found.summary + found.detail
    assert "--mount=type=secret" in found.hint
