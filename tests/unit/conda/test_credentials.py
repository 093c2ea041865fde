"""Secrets in addresses: taken out, put back, masked."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.conda import credentials
from envgraph.conda.logins import Logins
from envgraph.errors import InputError


@pytest.mark.parametrize(
    ("url", "clean", "recorded"),
    [
        ("https://host/ch/", "https://host/ch", "https://host/ch"),
        ("https://u:p@host:8443/t/abc/ch", "https://host:8443/ch", "https://host:8443/ch"),
        ("https://tok@host/ch", "https://host/ch", "https://host/ch"),
        ("https://host/ch?sig=abc#frag", "https://host/ch", "https://host/ch"),
        ("https://host/t/${T}/ch", "https://host/ch", "https://host/t/${T}/ch"),
        ("https://${U}:${P}@host/ch", "https://host/ch", "https://${U}:${P}@host/ch"),
        ("https://u:${P}@host/t/abc/ch", "https://host/ch", "https://host/ch"),
        ("https://${U}:p@host/t/${T}/ch", "https://host/ch", "https://host/t/${T}/ch"),
        ("file:///srv/ch", "file:///srv/ch", "file:///srv/ch"),
        ("conda-forge", "conda-forge", "conda-forge"),
        ("https://[::1]:80/ch", "https://[::1]:80/ch", "https://[::1]:80/ch"),
    ],
)
def test_clean_and_recorded(url: str, clean: str, recorded: str) -> None:
    assert credentials.clean(url) == clean
    assert credentials.recorded(url) == recorded


def test_expand(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from/file\n")
    environ = {"USER_": "me@work", "PASS": "p:w/d", "REAL": "x"}
    secrets = {"token": f"file:{file}", "named": "env:REAL"}

    def expand(text: str) -> str:
        return credentials.expand(text, environ, secrets)

    assert expand("https://${USER_}:$PASS@h/c") == "https://me%40work:p%3Aw%2Fd@h/c"
    assert expand("https://h/t/${token}/c") == "https://h/t/from%2Ffile/c"
    assert expand("https://h/${named}") == "https://h/x"
    assert expand("no references") == "no references"
    for text, code in (
        ("https://${ABSENT}@h", "secret-missing"),
        ("https://u:pass@h/${ABSENT}", "secret-missing"),
    ):
        with pytest.raises(InputError) as caught:
            expand(text)
        assert caught.value.diagnostics[0].code == code
        assert "u:pass" not in str(caught.value.diagnostics[0])
    for wrong, code in (("vault:x", "secret-kind"), ("file:/absent/x", "secret-unreadable")):
        with pytest.raises(InputError) as caught:
            credentials.expand("${bad}", {}, {"bad": wrong})
        assert caught.value.diagnostics[0].code == code


def test_mask() -> None:
    text = "GET https://u:hunter22@h/t/tok-en/x failed for hunter22 at /t/tok-en/noarch"
    masked = credentials.mask(text, ["hunter22"])
    assert "hunter22" not in masked
    assert "tok-en" not in masked
    assert credentials.mask("https://h/t/tok::foo ==") == "https://h/t/***::foo =="
    assert credentials.mask("plain /tmp/t.txt text") == "plain /tmp/t.txt text"


def test_secrets_of() -> None:
    found = credentials.secrets_of("https://me:p%40ss@h/t/abc-def/c")
    assert set(found) == {"p%40ss", "p@ss", "abc-def"}
    assert credentials.secrets_of("https://only@h/c") == ("only",)
    assert credentials.secrets_of("https://[bad/c") == ()


def test_logins(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(
        "machine one.example login me password pw\ndefault login no password no\n"
    )
    rattler = tmp_path / "auth.json"
    rattler.write_text(
        '{"one.example": {"BearerToken": "loses"}, "*.two.example": {"BearerToken": "b"},'
        ' "three.example": {"CondaToken": "c"}, "odd": 3}'
    )
    tokens = tmp_path / ".continuum" / "anaconda-client" / "tokens"
    tokens.mkdir(parents=True)
    (tokens / "https%3A%2F%2Fapi.anaconda.org.token").write_text("a\n")
    logins = Logins({"HOME": str(tmp_path), "RATTLER_AUTH_FILE": str(rattler)})
    assert logins.header("https://one.example/x") == "Basic bWU6cHc="
    assert logins.header("https://deep.two.example:8443/x") == "Bearer b"
    assert logins.header("https://three.example/x") == "token c"
    assert logins.header("https://conda.anaconda.org/x") == "token a"
    assert logins.header("https://unknown.example/x") == ""
    assert Logins({"HOME": str(tmp_path / "absent")}).header("https://one.example/") == ""
    (tmp_path / "broken").write_text("machine\n")
    broken = Logins({"HOME": str(tmp_path), "NETRC": str(tmp_path / "broken")})
    assert broken.header("https://one.example/") == ""
