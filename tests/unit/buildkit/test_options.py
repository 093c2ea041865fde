"""Where BuildKit is: options, environment, docker's context, the usual places."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from envgraph.api import BuilderError
from envgraph_buildkit.options import BuildkitOptions, connects, find_endpoint


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
