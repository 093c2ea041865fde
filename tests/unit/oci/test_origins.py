"""Credentials never leave their origin: redirects, upload addresses, lists, token services."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envgraph.api import Credentials, Digest, RegistryError, Repository
from envgraph.conda.answers import mask_log
from envgraph.testing.registry.scripted import Reply, ScriptedRegistry, Seen
from envgraph.testing.registry.scripted_answers import TokenService
from envgraph_oci.auth import Auth
from envgraph_oci.connections import without_queries
from envgraph_oci.http import Http
from envgraph_oci.options import OciOptions, Origin, place_of
from tests.oci import Logins, code_of, manifest, opened, push, read
from tests.registries import Certificates, make_certificates

NAME, PASSWORD = "ada", "s3cret"
LOGIN = Credentials(NAME, PASSWORD)
DATA = b"data" * 1000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry(login=(NAME, PASSWORD)) as found:
        yield found


@pytest.fixture
def elsewhere() -> Iterator[ScriptedRegistry]:
    """Another port of the same machine: another origin."""
    with ScriptedRegistry() as found:
        yield found


@pytest.fixture
def repository(server: ScriptedRegistry) -> Iterator[Repository]:
    with opened(server.url, lookup=Logins({server.host: LOGIN})) as registry:
        registry.check()
        yield registry.repository("app")


def to(url: str) -> Callable[[Seen], Reply]:
    """A redirect of the request as it is, to another origin."""
    return lambda seen: Reply(307, {"Location": url + seen.target})


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_reads_follow_redirects_without_the_login(
    server: ScriptedRegistry, elsewhere: ScriptedRegistry, repository: Repository, status: int
) -> None:
    elsewhere.contents.blobs["app", str(Digest.of(DATA))] = DATA
    where = {"Location": f"{elsewhere.url}/v2/app/blobs/{Digest.of(DATA)}?sig=a%2fb"}
    server.script("GET", "/blobs/", Reply(status, where), always=True)
    assert read(repository, DATA) == DATA
    assert read(repository, DATA, 100) == DATA[100:]
    assert elsewhere.authorizations == []
    assert [seen.target.partition("?")[2] for seen in elsewhere.requests] == ["sig=a%2fb"] * 2
    assert elsewhere.requests[1].headers["range"] == "bytes=100-"


def test_a_redirect_at_home_keeps_the_login(
    server: ScriptedRegistry, repository: Repository
) -> None:
    push(repository, DATA)
    server.script("GET", "/blobs/", lambda seen: Reply(302, {"Location": seen.target + "?moved"}))
    assert read(repository, DATA) == DATA
    assert server.requests[-1].target.endswith("?moved")
    assert server.requests[-1].authorization


def test_a_redirect_back_home_comes_without_the_login(
    server: ScriptedRegistry, elsewhere: ScriptedRegistry, repository: Repository
) -> None:
    server.script("GET", "/blobs/", to(elsewhere.url))
    elsewhere.script("GET", "/blobs/", to(server.url))
    with pytest.raises(RegistryError) as caught:
        read(repository, DATA)
    assert code_of(caught.value) == "registry-denied"
    assert server.requests[-1].authorization == ""


@pytest.mark.parametrize("status", [301, 302, 303])
def test_writes_follow_only_what_keeps_them_writes(
    server: ScriptedRegistry, elsewhere: ScriptedRegistry, repository: Repository, status: int
) -> None:
    server.script("PUT", "/blobs/", Reply(status, {"Location": f"{elsewhere.url}/x"}))
    with pytest.raises(RegistryError) as caught:
        push(repository, DATA)
    assert code_of(caught.value) == "registry-answer"
    assert elsewhere.requests == ()


@pytest.mark.parametrize("status", [307, 308])
def test_writes_go_on_with_their_body(
    server: ScriptedRegistry, elsewhere: ScriptedRegistry, repository: Repository, status: int
) -> None:
    elsewhere.script("PUT", "/blobs/", Reply(201))
    server.script("PUT", "/blobs/", Reply(status, {"Location": f"{elsewhere.url}/blobs/x"}))
    push(repository, DATA)
    assert elsewhere.requests[0].body == DATA
    assert elsewhere.authorizations == []


def test_redirects_have_an_end(server: ScriptedRegistry, repository: Repository) -> None:
    server.script("GET", "/blobs/", lambda seen: Reply(302, {"Location": "/blobs/x"}), always=True)
    with pytest.raises(RegistryError, match="redirects"):
        read(repository, DATA)
    assert server.count("GET", "/blobs/") == 11


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://2852039166/x",
        "http://0xA9FEA9FE/x",
        "http://100.100.100.200/x",
        "http://me:pw@127.0.0.1:1/x",
        "http://[/x",
        "http://127.0.0.1:99999/x",
    ],
)
def test_redirects_to_places_that_no_registry_means(
    server: ScriptedRegistry, repository: Repository, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is looked at, too: 2852039166 is 169.254.169.254, and so may any name be."""
    sent: list[bytes] = []
    reached = _Reached(sent)
    real = socket.create_connection

    def connect(address: tuple[str, int], *more: object, **most: object) -> object:
        if address[0] in ("2852039166", "0xA9FEA9FE", "0xa9fea9fe"):
            return reached
        return real(address, *more, **most)  # type: ignore[arg-type]

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    server.script("GET", "/blobs/", Reply(302, {"Location": location}))
    with pytest.raises(RegistryError) as caught:
        read(repository, DATA)
    assert code_of(caught.value) == "registry-answer"
    assert "pw" not in str(caught.value)
    assert sent == []


class _Reached:
    """A connection that has reached the cloud's metadata service."""

    def __init__(self, sent: list[bytes]) -> None:
        self.sent = sent

    def getpeername(self) -> tuple[str, int]:
        return ("169.254.169.254", 80)

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def settimeout(self, seconds: object) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_registry_elsewhere_does_not_lead_to_this_machine() -> None:
    """A registry that is not on loopback gets nothing from what is."""
    with ScriptedRegistry() as inside, opened("https://registry.invalid") as registry:
        http = registry._wire._http
        http._connections._check_peer("registry.invalid", "192.0.2.1")
        with pytest.raises(RegistryError, match="loopback"):
            http._connections._check_peer("storage.invalid", "127.0.0.1")
        with pytest.raises(RegistryError, match="link-local"):
            http._connections._check_peer("storage.invalid", "169.254.0.5")
        http._connections._check_peer("storage.invalid", "192.0.2.2")
        assert inside.requests == ()


def test_https_never_becomes_http(certificates: Certificates, elsewhere: ScriptedRegistry) -> None:
    pair = (certificates.certificate, certificates.key)
    with (
        ScriptedRegistry(certificate=pair) as server,
        opened(server.url, ca=str(certificates.ca)) as registry,
    ):
        repository = registry.repository("app")
        server.script("GET", "/blobs/", to(elsewhere.url))
        server.script("POST", "/blobs/uploads/", Reply(202, {"Location": f"{elsewhere.url}/x"}))
        for call in (lambda: read(repository, DATA), lambda: push(repository, DATA)):
            with pytest.raises(RegistryError, match="from https to"):
                call()
        assert elsewhere.requests == ()


# Upload addresses and lists


def test_an_upload_elsewhere_gets_no_login(
    server: ScriptedRegistry, elsewhere: ScriptedRegistry, repository: Repository
) -> None:
    where = {"Location": f"{elsewhere.url}/store/x?sig=1"}
    server.script("POST", "/blobs/uploads/", Reply(202, where))
    elsewhere.script("PUT", "/store/x", Reply(201))
    push(repository, DATA)
    assert elsewhere.authorizations == []
    assert elsewhere.requests[0].body == DATA


@pytest.mark.parametrize("challenge", ['Basic realm="give me"', 'Bearer realm="{}/token"'])
def test_a_challenge_from_elsewhere_is_not_answered(
    server: ScriptedRegistry, elsewhere: ScriptedRegistry, repository: Repository, challenge: str
) -> None:
    said = {"WWW-Authenticate": challenge.format(elsewhere.url)}
    elsewhere.script("*", "", Reply(401, said), always=True)
    server.script("POST", "/blobs/uploads/", Reply(202, {"Location": f"{elsewhere.url}/x"}))
    server.script("GET", "/blobs/", to(elsewhere.url))
    for call in (lambda: push(repository, DATA), lambda: read(repository, DATA)):
        with pytest.raises(RegistryError) as caught:
            call()
        assert code_of(caught.value) == "registry-denied"
    assert elsewhere.authorizations == []
    assert elsewhere.count() == 2


def test_a_list_does_not_go_on_elsewhere(
    server: ScriptedRegistry, elsewhere: ScriptedRegistry, repository: Repository
) -> None:
    link = {"Link": f'<{elsewhere.url}/v2/app/tags/list>; rel="next"'}
    server.script("GET", "/tags/", Reply(200, link, b'{"tags": ["a"]}'))
    with pytest.raises(RegistryError, match="another host"):
        list(repository.tags())
    assert elsewhere.requests == ()


# Token services


def token_request(
    url: str, realm: str, lookup: Logins, **options: object
) -> tuple[str, list[tuple[str, str]]]:
    """The header for the token service, without any connection; and whose login was asked for."""
    settings = OciOptions(url, **options)  # type: ignore[arg-type]
    http = Http(
        settings, place_of(settings), root="/", environ={}, clock=lambda: 0.0, wall=lambda: 0.0
    )
    http._scheme = http._scheme or "http"
    auth = Auth(http, lookup, settings.auth_hosts)
    scheme, _, rest = realm.partition("://")
    host, _, port = rest.partition("/")[0].partition(":")
    origin = Origin(scheme, host, int(port or {"http": 80, "https": 443}[scheme]))
    login = auth._login_for(origin, ())
    return ("" if login is None else login.username), lookup.asked


@pytest.mark.parametrize(
    ("url", "realm", "given"),
    [
        # 1. its own origin
        ("ghcr.io", "https://ghcr.io/token", "ghcr.io"),
        ("https://r.example:5000", "https://r.example:5000/token", "r.example:5000"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/token", "127.0.0.1:5000"),
        # 2. by https: another port, a domain above, known services
        ("git.example:5050", "https://git.example/jwt/auth", "git.example:5050"),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth", "registry.gitlab.com"),
        ("docker.io", "https://auth.docker.io/token", "docker.io"),
        # never over plain http to another origin
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", ""),
        ("http://localhost:5000", "http://127.0.0.1:5000/token", ""),
        ("ghcr.io", "http://ghcr.io/token", ""),
        # never to strangers: siblings, domains below, names that only end alike, bare suffixes
        ("a.example.com", "https://b.example.com/token", ""),
        ("example.com", "https://evil.example.com/token", ""),
        ("notgitlab.com", "https://gitlab.com/token", ""),
        ("registry.example.com", "https://com/token", ""),
        ("ghcr.io", "https://evil.example/token", ""),
        ("docker.io", "https://auth.docker.io.evil.example/token", ""),
        ("ghcr.io", "https://auth.docker.io/token", ""),
        # what a plain registry says is nobody's word: no https service is given its login
        ("http://127.0.0.1:5000", "https://127.0.0.1:5001/token", ""),
    ],
)
def test_which_token_service_gets_the_login(url: str, realm: str, given: str) -> None:
    host = url.rpartition("://")[2]
    name, _ = token_request(url, realm, Logins({host: Credentials(host, "x")}))
    assert name == given


def test_the_user_can_name_a_token_service() -> None:
    lookup = Logins({"a.example.com": Credentials("registry's", "x")})
    realm = "https://b.example.com/token"
    assert token_request("a.example.com", realm, lookup, auth_hosts=("b.example.com",))[0]
    assert not token_request("a.example.com", realm, lookup, auth_hosts=("b.example.com:444",))[0]
    plain = "http://b.example.com/token"
    assert not token_request("a.example.com", plain, lookup, auth_hosts=("b.example.com",))[0]
    own = Logins({"a.example.com": LOGIN, "b.example.com": Credentials("service's", "y")})
    assert token_request("a.example.com", realm, own)[0] == "service's"


def test_a_foreign_token_service_is_asked_without_a_login() -> None:
    """As for a public image; and when that is not enough, the hint says what to write."""
    service = TokenService(login=(NAME, PASSWORD))
    with (
        ScriptedRegistry(tokens=service) as auth,
        ScriptedRegistry(tokens=service, realm=f"{auth.url}/token") as server,
    ):
        lookup = Logins({server.host: LOGIN})
        with opened(server.url, lookup=lookup) as registry:
            with pytest.raises(RegistryError) as caught:
                registry.check()
            assert code_of(caught.value) == "registry-denied"
            assert f"auth_hosts: ['{auth.host}']" in caught.value.diagnostics[0].hint
        assert auth.count() == 1
        assert (*auth.authorizations, *server.authorizations) == ()
        service.login = None
        with opened(server.url, lookup=lookup) as registry:
            registry.check()
        assert auth.authorizations == []


@pytest.mark.parametrize("realm", ["", "file:///x", "http://169.254.169.254/token", "//", "x y"])
def test_realms_that_are_none(server: ScriptedRegistry, realm: str) -> None:
    server.script("*", "", Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'}), always=True)
    with (
        opened(server.url, lookup=Logins({server.host: LOGIN})) as registry,
        pytest.raises(RegistryError) as caught,
    ):
        registry.check()
    assert code_of(caught.value) in ("registry-answer", "registry-denied")


def test_a_token_service_that_redirects_gets_the_login_alone(certificates: Certificates) -> None:
    pair = (certificates.certificate, certificates.key)
    with ScriptedRegistry() as plain, ScriptedRegistry(certificate=pair) as other:
        service = TokenService(login=(NAME, PASSWORD))
        with ScriptedRegistry(tokens=service, certificate=pair) as server:
            server.realm = f"{server.url}/token"
            for target in (plain, other):
                server.script("GET", "/token", Reply(302, {"Location": f"{target.url}/token"}))
                lookup = Logins({server.host: LOGIN})
                with (
                    opened(server.url, lookup=lookup, ca=str(certificates.ca)) as registry,
                    pytest.raises(RegistryError),
                ):
                    registry.check()
                assert target.authorizations == []


# Certificates


def test_own_authorities(certificates: Certificates, tmp_path: Path) -> None:
    pair = (certificates.certificate, certificates.key)
    stranger = make_certificates(tmp_path / "stranger")
    with ScriptedRegistry(certificate=pair) as server:
        good: list[dict[str, object]] = [
            {"ca": str(certificates.ca)},
            {"insecure": True},
            {"environ": {"SSL_CERT_FILE": str(certificates.ca)}},
            {"environ": {"REQUESTS_CA_BUNDLE": str(certificates.ca)}},
            {"environ": {"SSL_CERT_FILE": str(stranger.ca)}, "ca": str(certificates.ca)},
        ]
        for options in good:
            with opened(server.url, **options) as registry:  # type: ignore[arg-type]
                registry.check()
        bad: list[dict[str, object]] = [
            {},
            {"ca": str(stranger.ca)},
            {"environ": {"SSL_CERT_FILE": str(stranger.ca)}},
        ]
        for options in bad:
            with opened(server.url, **options) as registry:  # type: ignore[arg-type]
                with pytest.raises(RegistryError) as caught:
                    registry.check()
                assert (code_of(caught.value), caught.value.retryable) == ("registry-down", False)
                assert "certificate" in str(caught.value)
                assert "`ca:`" in caught.value.diagnostics[0].hint


@pytest.mark.parametrize("fault", ["another name", "expired"])
def test_a_certificate_that_is_not_good(tmp_path: Path, fault: str) -> None:
    """From the right authority, and refused all the same."""
    made = (
        make_certificates(tmp_path, expired=True)
        if fault == "expired"
        else make_certificates(tmp_path, names="DNS:registry.example")
    )
    with (
        ScriptedRegistry(certificate=(made.certificate, made.key)) as server,
        opened(server.url, ca=str(made.ca)) as registry,
        pytest.raises(RegistryError, match="certificate is not trusted"),
    ):
        registry.check()


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("none.pem", "empty.pem"):
        with (
            opened("https://127.0.0.1:1", ca=str(tmp_path / name)) as registry,
            pytest.raises(RegistryError) as caught,
        ):
            registry.check()
        assert code_of(caught.value) == "registry-options"


def test_insecure_is_for_the_registry_alone(certificates: Certificates) -> None:
    """What it leads to is verified all the same."""
    pair = (certificates.certificate, certificates.key)
    with ScriptedRegistry(certificate=pair) as other, ScriptedRegistry() as server:
        other_by_name = other.url.replace("127.0.0.1", "localhost")
        server.script("GET", "/manifests/", to(other_by_name))
        with (
            opened(server.url, insecure=True) as registry,
            pytest.raises(RegistryError, match="certificate is not trusted"),
        ):
            registry.repository("app").get_manifest("1")
        assert other.requests == ()


def test_plain_and_tls_are_found_out_on_loopback(certificates: Certificates) -> None:
    pair = (certificates.certificate, certificates.key)
    with ScriptedRegistry() as server, opened(server.host) as registry:
        assert registry.repository("a").resolve("1") is None
        assert server.requests[0].target == "/v2/"
    with ScriptedRegistry(certificate=pair) as server:
        with opened(server.host, ca=str(certificates.ca)) as registry:
            assert registry.repository("a").resolve("1") is None
        with opened(server.host, insecure=True) as registry:
            assert registry.repository("a").resolve("1") is None
        with opened(server.host) as registry, pytest.raises(RegistryError, match="certificate"):
            registry.check()


def test_a_tls_client_at_a_plain_server() -> None:
    with (
        ScriptedRegistry() as server,
        opened(server.url.replace("http:", "https:")) as registry,
        pytest.raises(RegistryError) as caught,
    ):
        registry.check()
    assert code_of(caught.value) == "registry-down"


# Proxies


def test_proxies(server: ScriptedRegistry) -> None:
    with ScriptedRegistry() as proxy:
        proxy.script("*", "", Reply(200, {}, b"{}"), always=True)
        environ = {"HTTP_PROXY": proxy.url.replace("//", "//user:pr0xy@")}
        with opened(server.url, environ=environ) as registry:
            registry.check()
        (seen,) = proxy.requests
        assert seen.target == f"{server.url}/v2/"
        assert seen.headers["proxy-authorization"].startswith("Basic ")
        assert server.requests == ()
        environ["NO_PROXY"] = "127.0.0.0/8"
        lookup = Logins({server.host: LOGIN})
        with opened(server.url, environ=environ, lookup=lookup) as registry:
            registry.check()
        assert len(proxy.requests) == 1


def test_manifests_of_an_upload_are_never_sent_elsewhere(
    server: ScriptedRegistry, elsewhere: ScriptedRegistry, repository: Repository
) -> None:
    data = manifest(repository)
    server.script("PUT", "/manifests/", to(elsewhere.url))
    with pytest.raises(RegistryError):
        repository.put_manifest("1", data, "application/vnd.oci.image.manifest.v1+json")
    assert elsewhere.authorizations == []


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_no_query_is_logged_whoever_else_filters(order: list[int]) -> None:
    """conda's connections put the arguments into the line; both filters are on one logger."""
    line = '%s://%s:%s "%s %s %s" %s %s'
    arguments = ("http", "host", 80, "PUT", "/x/y?signature=secret&a=b", "HTTP/1.1", 201, None)
    record = logging.LogRecord("urllib3.connectionpool", 10, "", 1, line, arguments, None)
    filters = [without_queries, mask_log]
    for number in order:
        assert filters[number](record)
    assert record.getMessage() == 'http://host:80 "PUT /x/y?… HTTP/1.1" 201 None'
