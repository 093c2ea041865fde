"""Where BuildKit is: options, environment, docker's context, the usual places."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import BuilderError
from envgraph_buildkit.dial import dial
from envgraph_buildkit.options import BuildkitOptions, connects, find_endpoint, servers


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}


def context(
    home: dict[str, str], name: str, host: str, *, current: bool, tls: bool = False
) -> None:
    folder = Path(home["HOME"], ".docker")
    key = hashlib.sha256(name.encode()).hexdigest()
    (folder / "contexts/meta" / key).mkdir(parents=True)
    document = {"Name": name, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
    (folder / "contexts/meta" / key / "meta.json").write_text(json.dumps(document))
    if tls:
        (folder / "contexts/tls" / key / "docker").mkdir(parents=True)
        for part in ("ca", "cert", "key"):
            (folder / "contexts/tls" / key / "docker" / f"{part}.pem").write_text("x")
    if current:
        (folder / "config.json").write_text(json.dumps({"currentContext": name}))


def test_the_first_that_says_something_wins(home: dict[str, str]) -> None:
    context(home, "far", "tcp://context:1", current=True)
    home |= {"BUILDKIT_HOST": "tcp://buildkit:1", "DOCKER_HOST": "tcp://docker:1"}
    found = find_endpoint(BuildkitOptions(address="unix:///x"), home, Path("/w"))
    assert (found.address, found.why, found.local) == ("unix:///x", "builder.address", True)
    assert find_endpoint(BuildkitOptions(), home, Path("/w")).address == "tcp://buildkit:1"
    del home["BUILDKIT_HOST"]
    assert find_endpoint(BuildkitOptions(), home, Path("/w")).host_port == ("docker", 1)
    del home["DOCKER_HOST"]
    found = find_endpoint(BuildkitOptions(), home, Path("/w"))
    assert (found.address, found.why) == ("tcp://context:1", "the docker context far")


def test_tls_files(home: dict[str, str], tmp_path: Path) -> None:
    options = BuildkitOptions(address="tcp://h:1", ca="ca.pem", cert="/c.pem", key="k.pem")
    tls = find_endpoint(options, home, Path("/w")).tls
    assert tls is not None
    assert (tls.ca, tls.cert, tls.key, tls.verify) == ("/w/ca.pem", "/c.pem", "/w/k.pem", True)
    (tmp_path / "ca.pem").write_text("x")
    home |= {"DOCKER_HOST": "tcp://h:1", "DOCKER_CERT_PATH": str(tmp_path)}
    assert find_endpoint(BuildkitOptions(), home, Path("/w")).tls is None
    home["DOCKER_TLS_VERIFY"] = "1"
    tls = find_endpoint(BuildkitOptions(), home, Path("/w")).tls
    assert tls is not None
    assert (tls.ca, tls.cert) == (str(tmp_path / "ca.pem"), "")


def test_a_context_with_certificates(home: dict[str, str]) -> None:
    context(home, "far", "tcp://context:1", current=False, tls=True)
    home["DOCKER_CONTEXT"] = "far"
    tls = find_endpoint(BuildkitOptions(), home, Path("/w")).tls
    assert tls is not None
    assert tls.key.endswith("/docker/key.pem")


def test_a_context_that_is_not_there(home: dict[str, str]) -> None:
    home["DOCKER_CONTEXT"] = "gone"
    with pytest.raises(BuilderError, match="the docker context 'gone'") as caught:
        find_endpoint(BuildkitOptions(), home, Path("/w"))
    assert caught.value.code == "builder-options"


def test_a_socket_of_the_user(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "run/buildkit").mkdir(parents=True)
    (tmp_path / "run/buildkit/buildkitd.sock").touch()
    found = find_endpoint(BuildkitOptions(), home, Path("/w"))
    assert found.path == f"{tmp_path}/run/buildkit/buildkitd.sock"


@pytest.mark.parametrize(
    "address",
    ["ssh://host", "http://h:1", "tcp://h", "tcp://h:port", "unix://rel/path", "npipe:////./x",
     "/var/run/docker.sock", "tcp://user:pw@h:1", "docker-container://x"],
)  # fmt: skip
def test_addresses_that_are_refused(address: str, home: dict[str, str]) -> None:
    with pytest.raises(BuilderError) as caught:
        find_endpoint(BuildkitOptions(address=address), home, Path("/w"))
    assert caught.value.code == "builder-options"
    assert caught.value.diagnostics[0].hint
    assert "pw" not in repr(caught.value.diagnostics)


def test_unix_sockets_open_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not connects(BuildkitOptions(address="unix:///x"))
    assert connects(BuildkitOptions(address="tcp://127.0.0.1:1"))
    monkeypatch.setenv("BUILDKIT_HOST", "tcp://h:1")
    assert connects(BuildkitOptions())


@pytest.mark.parametrize(
    "options", [{"network": "bridge"}, {"cert": "a"}, {"cache_to": "a,b"}, {"cache_from": ("a b",)}]
)
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        BuildkitOptions(**options)  # type: ignore[arg-type]


# Several servers


def named(options: BuildkitOptions, connect: bool = True) -> list[tuple[str, str]]:
    return [(each.address, each.server_name) for each in servers(options, connect)]


def names(monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> list[str]:
    """A name service that knows these; the names that it was asked for."""
    asked: list[str] = []

    def look_up(host: str, port: int, *_: object, **more: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, 1, 6, "", (ip, port))
            for ip in known[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


def test_each_address_is_a_server_with_the_same_options() -> None:
    options = BuildkitOptions(
        addresses=("tcp://b-0.b:1234", "tcp://b-1.b:1234"), ca="ca.pem", network="host"
    )
    first, second = servers(options, True)
    assert (first.address, second.address) == options.addresses
    assert {(each.ca, each.network, each.addresses) for each in (first, second)} == {
        ("ca.pem", "host", ())
    }
    for options in (BuildkitOptions(), BuildkitOptions(address="unix:///x")):
        assert servers(options, True) == (options,)


def test_a_name_is_as_many_servers_as_it_has_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = names(monkeypatch, pool=["10.0.0.7", "10.0.0.3", "fd00::7"], six=["fd00::1"])
    options = BuildkitOptions(addresses=("dns://pool:1234", "unix:///x", "dns://six:1"))
    assert named(options) == [
        ("tcp://10.0.0.3:1234", ""),
        ("tcp://10.0.0.7:1234", ""),
        ("unix:///x", ""),
        ("tcp://[fd00::1]:1", ""),
    ]
    assert asked == ["pool", "six"]
    assert named(BuildkitOptions(address="dns://pool:1234", ca="ca.pem"))[0][1] == "pool"
    secure = BuildkitOptions(address="dns://pool:1234", ca="ca.pem", server_name="build")
    assert named(secure)[0][1] == "build"


def test_a_name_that_means_nothing_is_one_server_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, home: dict[str, str]
) -> None:
    names(monkeypatch)
    [one] = servers(BuildkitOptions(address="dns://pool:1234"), True)
    assert one.address == "dns://pool:1234"
    with pytest.raises(BuilderError, match="no BuildKit answers at dns://pool:1234") as caught:
        dial(find_endpoint(one, home, Path("/w")))
    assert "Name or service not known" in caught.value.diagnostics[0].detail
    assert caught.value.retryable


def test_without_connections_no_name_service_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = names(monkeypatch, pool=["10.0.0.7"])
    assert named(BuildkitOptions(address="dns://pool:1234"), False) == [("dns://pool:1234", "")]
    assert asked == []
    assert connects(BuildkitOptions(addresses=("unix:///x", "dns://pool:1")))
    assert not connects(BuildkitOptions(addresses=("unix:///x", "unix:///y")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"address": "unix:///x", "addresses": ("unix:///y",)}, "not both"),
        ({"addresses": ("unix:///y", "unix:///y")}, "twice"),
        ({"addresses": ("ssh://a", "tcp://b", "unix:///y")}, "'ssh://a': forward.*; 'tcp://b': "),
        ({"connect_timeout": 0}, "1 or more"),
    ],
)
def test_addresses_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BuildkitOptions(**options)


def test_one_builder_is_for_one_address(home: dict[str, str]) -> None:
    with pytest.raises(BuilderError, match="one builder is for one address"):
        find_endpoint(BuildkitOptions(addresses=("unix:///x", "unix:///y")), home, Path("/w"))
