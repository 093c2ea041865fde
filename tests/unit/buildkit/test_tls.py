"""Certificate trouble in words: which side distrusts which, why, and what to do."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_server, socket

import pytest

from envgraph.api import BuilderError
from envgraph_buildkit.dial import dial, late_refusal
from envgraph_buildkit.options import Endpoint, Tls
from tests.registries import Certificates, make_certificates

BOTH = "serverAuth,clientAuth"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("good"), usage=BOTH)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("other"), usage=BOTH)


@contextmanager
def server(made: Certificates | None, *, asks: bool = False) -> Iterator[str]:
    """Reads from connections, by TLS where it has a certificate; else it answers in HTTP."""
    context = None
    if made is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.ca))
        context.load_cert_chain(made.certificate, made.key)
        context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE

    def one(client: socket) -> None:
        with suppress(OSError), client:
            if context is None:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            with context.wrap_socket(client, server_side=True) as secure:
                secure.recv(1)

    def serve() -> None:
        with suppress(OSError):
            while True:
                one(listener.accept()[0])

    with create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def refused(address: str, tls: Tls) -> BuilderError:
    endpoint = Endpoint(address, "DOCKER_HOST", tls)
    with pytest.raises(BuilderError) as caught:
        dial(endpoint).close()
    return caught.value


def test_an_authority_that_is_not_known(good: Certificates, other: Certificates) -> None:
    with server(good) as address:
        error = refused(address, Tls(ca=str(other.ca)))
    assert error.code == "builder-refused"
    assert "certificate" in error.diagnostics[0].summary
    assert "from DOCKER_HOST" in error.diagnostics[0].detail
    assert error.diagnostics[0].hint.startswith("set `ca:` to the PEM file of the authority")


def test_another_name(good: Certificates) -> None:
    with server(good) as address:
        error = refused(address, Tls(ca=str(good.ca), server_name="builder.example"))
    assert "builder.example" in error.diagnostics[0].summary
    assert error.diagnostics[0].hint == "set `server_name:` to a name that its certificate has"


def test_a_certificate_that_is_over(tmp_path: Path) -> None:
    old = make_certificates(tmp_path, expired=True)
    with server(old) as address:
        error = refused(address, Tls(ca=str(old.ca)))
    assert "expired" in error.diagnostics[0].summary
    assert error.diagnostics[0].hint.startswith("renew the server's certificate")


def test_a_server_without_tls(good: Certificates) -> None:
    with server(None) as address:
        error = refused(address, Tls(ca=str(good.ca)))
    assert error.diagnostics[0].summary.endswith("it does not speak TLS")
    assert error.diagnostics[0].hint.startswith("leave `ca:`, `cert:` and `key:` out")


def test_a_client_without_a_certificate_and_with_a_strange_one(
    good: Certificates, other: Certificates
) -> None:
    with server(good, asks=True) as address:
        bare = late_refusal(Endpoint(address, "DOCKER_HOST", Tls(ca=str(good.ca))))
        files = Tls(str(good.ca), str(other.certificate), str(other.key))
        strange = late_refusal(Endpoint(address, "DOCKER_HOST", files))
    assert bare is not None
    assert bare.diagnostics[0].summary.endswith("it wants a certificate of this client")
    assert bare.diagnostics[0].hint == "set `cert:` and `key:`"
    assert strange is not None
    assert strange.diagnostics[0].summary.endswith("it does not trust this client's certificate")
    assert late_refusal(Endpoint("tcp://127.0.0.1:1", "DOCKER_HOST")) is None


def test_a_file_that_cannot_be_used_is_the_one_that_is_named(
    good: Certificates, other: Certificates, tmp_path: Path
) -> None:
    ca, cert, key = str(good.ca), str(good.certificate), str(good.key)
    none, text = str(tmp_path / "none.pem"), tmp_path / "text.pem"
    text.write_text("hello\n")
    for tls, named in (
        (Tls(none), none),
        (Tls(str(text)), str(text)),
        (Tls(ca, none, key), none),
        (Tls(ca, cert, none), none),
        (Tls(ca, cert, str(other.key)), f"{cert} with {other.key}"),
    ):
        error = refused("tcp://127.0.0.1:1", tls)
        assert error.code == "builder-options"
        assert error.diagnostics[0].summary.endswith(f": {named}")
