"""Addresses of registries, strictly read, and what plugins' options may be."""

from __future__ import annotations

import pytest

from envgraph.api import RegistryError
from envgraph_oci.options import OciOptions, Place, for_host, next_address, origin_of, place_of
from envgraph_oci.plugin import envgraph_registries
from tests.oci import code_of


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("ghcr.io", Place("ghcr.io", "ghcr.io", ("https",))),
        ("GHCR.io/team/ml", Place("ghcr.io", "ghcr.io", ("https",), "team/ml")),
        ("https://r.example:5000/a/", Place("r.example:5000", "r.example:5000", ("https",), "a")),
        ("127.0.0.1:5000/ml", Place("127.0.0.1:5000", "127.0.0.1:5000", ("http", "https"), "ml")),
        ("localhost:5000", Place("localhost:5000", "localhost:5000", ("http", "https"))),
        ("[::1]:5000", Place("[::1]:5000", "[::1]:5000", ("http", "https"))),
        ("http://127.8.9.1", Place("127.8.9.1", "127.8.9.1", ("http",))),
        ("https://localhost", Place("localhost", "localhost", ("https",))),
        ("docker.io", Place("docker.io", "registry-1.docker.io", ("https",))),
        ("index.docker.io/me", Place("docker.io", "registry-1.docker.io", ("https",), "me")),
        (" https://registry-1.docker.io ", Place("docker.io", "registry-1.docker.io", ("https",))),
    ],
)
def test_addresses(url: str, place: Place) -> None:
    assert place_of(OciOptions(url)) == place


def test_insecure_is_https_before_http() -> None:
    assert place_of(OciOptions("r.example", insecure=True)).schemes == ("https", "http")
    assert place_of(OciOptions("http://r.example", insecure=True)).schemes == ("http",)
    assert place_of(OciOptions("https://r.example", insecure=True)).schemes == ("https",)


@pytest.mark.parametrize(
    "url",
    ["", "/", "http://r.example", "http://127.0.0.1.evil.example", "http://128.0.0.1", "ftp://a",
     "a b", "a:0", "a:65536", "a:b", "-a", "a..b", "é.example", "a/B", "a//b", "a?x", "a#x",
     "oci:a", "://a", "[:::]", "[1.2]", "http://docker.io", "https://", "[::1", "a/../b", "http://localhost.evil.example"],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        place_of(OciOptions(url))
    assert code_of(caught.value) == "registry-options"


@pytest.mark.parametrize("url", ["https://me:s3cret@r.example", "me:s3cret@r.example/a"])
def test_a_login_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        place_of(OciOptions(url))
    assert "s3cret" not in repr(caught.value.diagnostics)
    assert "registry login" in caught.value.diagnostics[0].hint


@pytest.mark.parametrize(
    "options",
    [{"upload": "half"}, {"connections": 0}, {"read_timeout": -1}, {"chunk_size": 0}],
)
def test_options_that_cannot_be_meant(options: dict[str, object]) -> None:
    with pytest.raises(RegistryError):
        place_of(OciOptions("a", **options))  # type: ignore[arg-type]


def test_a_bare_host_takes_over_what_is_known_of_it() -> None:
    near = OciOptions("http://127.0.0.1:5000/ml", ca="x.pem", connections=9)
    assert for_host("127.0.0.1:5000", near) == OciOptions(
        "http://127.0.0.1:5000", ca="x.pem", connections=9
    )
    assert for_host("ghcr.io", None) == OciOptions("ghcr.io")


def test_the_plugin_says_its_host() -> None:
    (plugin,) = envgraph_registries()
    assert plugin.host_of is not None
    assert plugin.host_of(OciOptions("https://index.docker.io/x")) == "docker.io"
    assert plugin.connects(OciOptions("127.0.0.1:5000"))


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("/v2/x?a=%2f&b==&c", "https://r.example/v2/x?a=%2f&b==&c"),
        ("y?z", "https://r.example/v2/y?z"),
        ("?only", "https://r.example/v2/app?only"),
        ("https://other.example:444/x", "https://other.example:444/x"),
        ("//other.example/x", "https://other.example/x"),
    ],
)
def test_where_a_location_leads(location: str, address: str) -> None:
    place = place_of(OciOptions("r.example"))
    assert next_address("https://r.example/v2/app?old=1", location, place) == address


def test_a_registry_at_a_link_local_address_may_lead_to_itself() -> None:
    place = place_of(OciOptions("https://169.254.7.7"))
    assert next_address("https://169.254.7.7/v2/", "/x", place) == "https://169.254.7.7/x"
    with pytest.raises(RegistryError):
        next_address("https://169.254.7.7/v2/", "https://169.254.169.254/", place)


def test_origins() -> None:
    assert origin_of("https://R.example./x") == origin_of("https://r.example:443")
    assert origin_of("https://r.example") != origin_of("https://r.example:444")
    assert origin_of("https://r.example") != origin_of("http://r.example")
    assert str(origin_of("http://[::1]:5000/x")) == "http://[::1]:5000"
