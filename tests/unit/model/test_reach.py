"""``builder.reach``: what its entries allow, and what is no entry."""

from __future__ import annotations

import pytest

from envgraph.model.reach import Reach, ReachError

DOCKER = "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("entry", "kind", "address", "allowed"),
    [
        ("anywhere", "buildkit", "tcp://elsewhere:1", True),
        ("local", "buildah", "/usr/bin/buildah", True),
        ("local", "buildkit", DOCKER, True),
        ("local", "buildkit", "tcp://127.0.0.1:1234", False),
        ("local", "other", "", False),
        ("type:buildah", "buildah", "/usr/bin/buildah", True),
        ("type:buildkit", "buildkit", "tcp://elsewhere:1", True),
        ("type:buildkit", "buildkit2", "tcp://elsewhere:1", False),
        ("type:other", "other", "", True),
        ("unix:///run/buildkit/*", "buildkit", "unix:///run/buildkit/buildkitd.sock", True),
        ("unix:///run/buildkit/*", "buildkit", "unix:///run/buildkit/../x.sock", False),
        ("unix:///run/buildkit/*", "buildkit", DOCKER, False),
        (DOCKER, "buildkit", DOCKER, True),
        ("tcp://builder", "buildkit", "tcp://builder:1234", True),
        ("tcp://builder", "buildkit", "tcp://Builder:99", True),
        ("tcp://builder:1234", "buildkit", "tcp://builder:1234", True),
        ("tcp://builder:1234", "buildkit", "tcp://builder:12345", False),
        ("tcp://builder", "buildkit", "tcp://builder.evil.example:1234", False),
        ("tcp://*.corp.example", "buildkit", "tcp://a.corp.example:1", True),
        ("tcp://*.corp.example", "buildkit", "tcp://corp.example:1", False),
        ("tcp://*.corp.example", "buildkit", "tcp://notcorp.example:1", False),
        ("tcp://*.corp.example", "buildkit", "tcp://a.corp.example.evil:1", False),
        ("tcp://[::1]:5", "buildkit", "tcp://[::1]:5", True),
        ("tcp://*.corp.example", "buildkit", "dns://pool.corp.example:1", True),
        ("tcp://*.corp.example", "buildkit", "dns://pool.other.example:1", False),
        ("tcp://10.0.0.1", "buildkit", "tcp://10.0.0.10:5", False),
    ],
)
def test_what_an_entry_allows(entry: str, kind: str, address: str, allowed: bool) -> None:
    reach = Reach.read(entry)
    assert reach.allows(kind, address) is allowed
    assert reach.outside(kind, [address]) == (() if allowed else (address,))
    assert reach.open is (entry == "anywhere")


def test_entries_are_alternatives_and_nothing_said_is_anywhere() -> None:
    assert Reach.read(None).open
    reach = Reach.read([" local ", "tcp://builder"])
    assert str(reach) == "local, tcp://builder"
    assert reach.outside("buildkit", [DOCKER, "tcp://x:1", "tcp://builder:1"]) == ("tcp://x:1",)


@pytest.mark.parametrize(
    "value",
    [
        "", "locl", [], [1], {"a": "b"}, True, "builder", "builder:1234", "tcp://", "type:",
        "tcp://user:password@host", "ssh://host", "unix://relative", "tcp://a b", "tcp://*",
        "unix:///a\nlocal", "tcp://host:123456", "https://host",
    ],
)  # fmt: skip
def test_what_is_no_entry(value: object) -> None:
    with pytest.raises(ReachError) as caught:
        Reach.read(value)
    assert "type:NAME" in caught.value.hint
