"""No spelling of a secret survives in what is hashed or shown."""

from __future__ import annotations

import pytest

from envgraph.model.addresses import has_credentials, masked, without_credentials

CANARIES = [
    "https://me:canary@h.example/c", "https://canary@h.example/c", "https://h.example/t/canary/c",
    "https://h.example/t/canary", "https://me:ca/canary@h.example/c", "https://me:p@canary@h.example/",
    "git+https://canary@h.example/o/r.git@main#egg=x", "--index-url=https://me:canary@h.example/s",
    "https://h.example/x.whl?sig=canary&v=1", "https://h.example/x?v=1&X-Token=canary#f",
    "a @ https://me:canary@h.example/a.whl", "'https://me:canary@h.example/'",
    '["https://a.example","https://me:canary@h.example"]', "x https://a.example https://canary@h/",
    "https://proxy.example/https://me:canary@h.example/c", "HTTPS://me:canary@h.example",
    "https://me:canary@[::1]:80/c", "ftp://me:canary@h.example", "https://me:canary@h.example/c::numpy",
]  # fmt: skip


@pytest.mark.parametrize("text", CANARIES)
def test_canaries(text: str) -> None:
    assert has_credentials(text)
    assert "canary" not in masked(text)
    assert "canary" not in without_credentials(text)
    assert without_credentials(without_credentials(text)) == without_credentials(text)


@pytest.mark.parametrize(
    "text",
    [
        "conda-forge", "https://h.example/c", "https://h.example:8443/c@1/x", "a @ ./b",
        "git+ssh://git@h.example/o/r.git@main", "https://h.example/t/", "file:///a@b/c", "./t/x/y",
        "https://h.example/a?v=1", "x@y.example",
    ],
)  # fmt: skip
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert not has_credentials(text)
    assert masked(text) == text
    assert without_credentials(text) == text


def test_references_are_no_secrets() -> None:
    for text in ("https://${U}:${P}@h/c", "https://h/t/${TOKEN}/c", "https://$TOKEN@h/c"):
        assert not has_credentials(text)
    assert without_credentials("https://h/t/${TOKEN}/c") == "https://h/c"
