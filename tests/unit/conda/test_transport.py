"""Where a redirect may lead, and what the wait of a server means."""

from __future__ import annotations

import pytest

from envgraph.conda import answers
from envgraph.conda.transport import Transport, _redirected


@pytest.mark.parametrize(
    ("current", "location", "target"),
    [
        ("https://h/a/b", "c", "https://h/a/c"),
        ("https://h/a/b", "/c?sig=1", "https://h/c?sig=1"),
        ("http://h/a", "https://other:8443/x", "https://other:8443/x"),
        ("https://h/a", "https://user:pw@other/x", "https://other/x"),
        ("http://10.0.0.1/a", "http://10.0.0.2/b", "http://10.0.0.2/b"),
    ],
)
def test_redirects_that_are_followed(current: str, location: str, target: str) -> None:
    assert _redirected(current, location) == target


@pytest.mark.parametrize(
    ("current", "location"),
    [
        ("https://h/a", "http://h/a"),
        ("https://h/a", "file:///etc/passwd"),
        ("http://h/a", "gopher://h/"),
        ("http://h/a", "http://169.254.169.254/latest"),
        ("http://h/a", "http://[fe80::1]/x"),
    ],
)
def test_redirects_that_are_refused(current: str, location: str) -> None:
    """RELIABILITY 59: no downgrade, no other scheme, no address of the machine's cloud."""
    with pytest.raises(Exception, match="redirected"):
        _redirected(current, location)


def test_retry_after() -> None:
    assert answers.retry_after("7") == 7.0
    assert answers.retry_after(None) is None
    assert answers.retry_after("soon") is None
    assert answers.retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0.0


def test_a_transport_opens_nothing_by_itself() -> None:
    with Transport({}) as transport:
        assert transport._pools == {}
