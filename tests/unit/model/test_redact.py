"""Secrets do not come through, however a step writes them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from envgraph.api import Redactor

SECRET = 'pa55 "w/o+rd\\'


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"got {SECRET} end",
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(SECRET.encode() + b"\n").decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        f"https://user:{quote(SECRET, safe='')}@host/",
        json.dumps({"token": SECRET}),
    ],
)
@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_whole_and_encoded(text: str, ending: bytes) -> None:
    redactor = Redactor()
    redactor.learn(SECRET.encode() + ending)
    cleaned = redactor.clean(text)
    assert "***" in cleaned
    for part in ("pa55", base64.b64encode(SECRET.encode()).decode()[:8], "w%2Fo"):
        assert part not in cleaned


def test_every_line_of_one_and_what_is_too_short() -> None:
    redactor = Redactor()
    redactor.learn(b"-----BEGIN-----\nline-of-a-key\nab\n")
    redactor.learn(b"1")
    assert redactor.clean(b"\xff line-of-a-key") == b"\xff ***"
    assert redactor.clean("x line-of-a-key y 1 ab") == "x *** y 1 ab"
