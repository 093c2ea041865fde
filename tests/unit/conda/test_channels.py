"""What a channel is called, and where it is."""

from __future__ import annotations

import pytest

from envgraph.conda.channels import (
    canonical_name,
    channel_sources,
    locate,
    names_own_channels,
    require_offline,
)
from envgraph.conda.specs import split_channel
from envgraph.errors import InputError, OfflineError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.proxies import proxy_for
from envgraph.model.spec import CondaSpec


def config(**more: object) -> WorkspaceConfig:
    return WorkspaceConfig("t", "1", "/ws", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("conda-forge", "conda-forge"),
        ("conda-forge/label/rc", "conda-forge/label/rc"),
        ("https://conda.anaconda.org/conda-forge/", "conda-forge"),
        ("https://user:pw@conda.anaconda.org/t/tok/private", "private"),
        ("https://repo.anaconda.com/pkgs/main", "pkgs/main"),
        ("https://u:p@host:81/t/tok/a/b/", "https://host:81/a/b"),
        ("https://host/${TOKEN}/a", "https://host/${TOKEN}/a"),
        ("file:///srv/channel/", "file:///srv/channel"),
        ("/srv/channel", "file:///srv/channel"),
        ("../channel", "../channel"),
    ],
)
def test_canonical_name(text: str, name: str) -> None:
    assert canonical_name(text, {"../channel": "/srv/channel"}) == name


def addresses(conda: CondaSpec, settings: WorkspaceConfig) -> list[tuple[str, str]]:
    return [(s.name, s.address) for s in channel_sources(conda, settings, {"T": "tok"})]


def test_where_channels_are() -> None:
    mirrors = {"conda-forge": "http://mirror:81/cf/", "local": "channels/local", "defaults": "/d"}
    settings = config(channels=mirrors)
    written = ("conda-forge", "bioconda", "local", "defaults", "nodefaults", "conda-forge/label/x")
    assert addresses(CondaSpec(channels=written), settings) == [
        ("conda-forge", "http://mirror:81/cf"),
        ("bioconda", "https://conda.anaconda.org/bioconda"),
        ("local", "file:///ws/channels/local"),
        ("defaults", "file:///d"),
        ("conda-forge/label/x", "http://mirror:81/cf/label/x"),
    ]
    plain = addresses(CondaSpec(channels=("defaults",)), config())
    assert plain == [
        ("pkgs/main", "https://repo.anaconda.com/pkgs/main"),
        ("pkgs/r", "https://repo.anaconda.com/pkgs/r"),
    ]


def test_default_channels_and_duplicates() -> None:
    settings = config(default_channels=("a", "b"))
    assert [n for n, _ in addresses(CondaSpec(), settings)] == ["a", "b"]
    assert not names_own_channels(CondaSpec(channels=("nodefaults",)))
    twice = CondaSpec(channels=("x", "https://conda.anaconda.org/x", "x/"))
    assert addresses(twice, settings) == [("x", "https://conda.anaconda.org/x")]
    with pytest.raises(InputError):
        channel_sources(CondaSpec(), config(default_channels=()), {})
    for wrong in ("s3://bucket/x", "ftp://h/x"):
        with pytest.raises(InputError):
            channel_sources(CondaSpec(channels=(wrong,)), settings, {})


def test_credentials_are_apart_from_the_address() -> None:
    (source,) = locate("https://u:${T}@h/t/${T}/c", {}, config(), {"T": "tok"})
    assert (source.name, source.address) == ("https://h/c", "https://h/c")
    assert source.secret_address == "https://u:tok@h/t/tok/c"
    assert source.has_credentials
    assert "tok" not in repr(source).replace("${T}", "")


def test_offline() -> None:
    files = locate("file:///srv/c", {}, config(), {})
    require_offline(files, "x")
    with pytest.raises(OfflineError):
        require_offline((*files, *locate("conda-forge", {}, config(), {})), "x")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("numpy >=1", (None, None, "numpy >=1")),
        ("conda-forge::numpy", ("conda-forge", None, "numpy")),
        ("conda-forge/noarch::tzdata", ("conda-forge", "noarch", "tzdata")),
        ("pkgs/main::numpy", ("pkgs/main", None, "numpy")),
        ("https://h:81/t/x/c::numpy=1.2", ("https://h:81/t/x/c", None, "numpy=1.2")),
        ("https://h/c/linux-64::numpy", ("https://h/c", "linux-64", "numpy")),
        ("numpy[channel=foo]", ("foo", None, "numpy")),
        ("numpy[channel='foo',version='>=1']", ("foo", None, "numpy[version='>=1']")),
        ("numpy[version='>=1',channel=foo]", ("foo", None, "numpy[version='>=1']")),
        (
            "numpy[build=x, channel=foo, version=1]",
            ("foo", None, "numpy[build=x, version=1]"),
        ),
    ],
)
def test_split_channel(text: str, parts: tuple[str | None, str | None, str]) -> None:
    assert split_channel(text) == parts


def test_proxies() -> None:
    env = {"HTTPS_PROXY": "http://p:1", "http_proxy": "q:2", "NO_PROXY": "in.side,10.0.0.0/8,h:81"}
    assert proxy_for("https://out/x", env) == "http://p:1"
    assert proxy_for("http://out/x", env) == "http://q:2"
    for inside in ("https://in.side/", "https://a.in.side/", "http://10.1.2.3/", "http://h:81/"):
        assert proxy_for(inside, env) is None
    assert proxy_for("http://h:82/", env) == "http://q:2"
    assert proxy_for("http://notin.sides/", env) == "http://q:2"
    assert proxy_for("http://out/", {"all_proxy": "socks5://s"}) == "socks5://s"
    assert proxy_for("http://out/", {"all_proxy": "http://s", "no_proxy": "*"}) is None
    assert proxy_for("http://out/", {}) is None
