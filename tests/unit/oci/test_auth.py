"""Logins and tokens: what is asked for, what is sent, and to whom it never is."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from envgraph.api import OCI_IMAGE_MANIFEST, Credentials, Digest, RegistryError
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph.testing.registry.scripted import Reply, ScriptedRegistry, Seen
from envgraph.testing.registry.scripted_answers import TokenService
from envgraph_oci.auth import IDENTITY, read_challenges, widened
from tests.oci import (
    Clock,
    Logins,
    ask_everything,
    code_of,
    described,
    manifest,
    opened,
    push,
    read,
)

NAME, PASSWORD = "ada", "sec:ret é"
LOGIN = Credentials(NAME, PASSWORD)


@pytest.fixture
def service() -> TokenService:
    return TokenService(login=(NAME, PASSWORD))


@pytest.fixture
def server(service: TokenService) -> Iterator[ScriptedRegistry]:
    """A registry that is its own token service."""
    with ScriptedRegistry(tokens=service) as found:
        found.realm = f"{found.url}/token"
        yield found


def logins(server: ScriptedRegistry, login: Credentials = LOGIN) -> Logins:
    return Logins({server.host: login})


# Challenges


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a, b=c"', [("basic", {"realm": "a, b=c"})]),
        (
            'Bearer realm="https://a/b?c=d",service="s",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a/b?c=d", "service": "s",
                         "scope": "repository:a/b:pull,push"})],
        ),
        ("bearer Realm=x , SERVICE = y", [("bearer", {"realm": "x", "service": "y"})]),
        (r'Basic realm="q\"uo\\te"', [("basic", {"realm": 'q"uo\\te'})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        (
            'Basic realm="x", Bearer realm="y",service="z"',
            [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "service": "z"})],
        ),
        ('Bearer realm="one",realm="two"', [("bearer", {"realm": "one"})]),
        ('Bearer realm="never ends', [("bearer", {})]),
        ('"', []),
        ("=" * 100, []),
    ],
)  # fmt: skip
def test_challenges(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [(challenge.scheme, dict(challenge.parameters)) for challenge in read_challenges(text)]
    assert found == expected


def test_a_hostile_challenge_is_read_soon() -> None:
    for text in ("a", "\\", 'x="",', "\t", "a=", "a ", '"', ","):
        for before in ("", "Bearer ", 'Bearer a="', "Bearer a="):
            read_challenges(before + text * 50_000)


def test_a_challenge_widens_only_its_own_repository() -> None:
    scopes = ("repository:a/b:pull",)
    assert widened(scopes, "repository:a/b:pull,delete") == ("repository:a/b:pull,delete",)
    assert widened(scopes, "repository:other:pull registry:catalog:*") == scopes
    assert widened(scopes, "nonsense ::: x:") == scopes


# Basic


def test_basic_is_sent_when_it_is_asked_for() -> None:
    with ScriptedRegistry(login=(NAME, PASSWORD)) as server:
        lookup = logins(server)
        with opened(server.url, lookup=lookup) as registry:
            registry.check()
            ask_everything(registry)
        assert server.requests[0].authorization == ""
        assert all(seen.authorization for seen in server.requests[1:])
        assert len(lookup.asked) == 1


def test_nothing_is_sent_to_who_does_not_ask() -> None:
    with ScriptedRegistry() as server:
        lookup = logins(server)
        with opened(server.url, lookup=lookup) as registry:
            ask_everything(registry)
        assert server.authorizations == []
        assert lookup.asked == []


@pytest.mark.parametrize("login", [None, Credentials(), Credentials(NAME, "wrong")])
def test_a_login_that_is_missing_or_wrong(login: Credentials | None) -> None:
    with ScriptedRegistry(login=(NAME, PASSWORD)) as server:
        lookup = logins(server, login) if login else Logins()
        with opened(server.url, lookup=lookup) as registry:
            for _ in range(2):
                with pytest.raises(RegistryError) as caught:
                    registry.check()
                assert code_of(caught.value) == "registry-denied"
                assert f"envgraph registry login {server.host}" in caught.value.diagnostics[0].hint
                assert "wrong" not in repr(caught.value.diagnostics)


def test_a_login_that_changes_is_asked_for_again() -> None:
    """A helper gives a new password after the old one has expired."""
    with ScriptedRegistry(login=(NAME, "old")) as server:
        lookup = logins(server, Credentials(NAME, "old"))
        with opened(server.url, lookup=lookup) as registry:
            registry.check()
            server.login = (NAME, "new")
            lookup.logins[server.host] = Credentials(NAME, "new")
            registry.check()


@pytest.mark.parametrize("header", ["", "Negotiate", "nonsense ==="])
def test_a_challenge_of_an_unknown_kind(header: str) -> None:
    with ScriptedRegistry() as server:
        server.script("GET", "/v2/", Reply(401, {"WWW-Authenticate": header} if header else {}))
        with opened(server.url, lookup=logins(server)) as registry:
            with pytest.raises(RegistryError) as caught:
                registry.check()
            assert code_of(caught.value) == "registry-denied"
        assert server.authorizations == []


# Tokens


def test_tokens(server: ScriptedRegistry, service: TokenService) -> None:
    with opened(server.url, lookup=logins(server)) as registry:
        registry.check()
        ask_everything(registry)
    assert set(service.given.values()) == {
        (),
        ("repository:team/app:pull",),
        ("repository:team/app:pull,push",),
    }
    asked = [seen for seen in server.requests if seen.path == "/token"]
    assert len(asked) == 3
    for seen in asked:
        assert "service=scripted" in seen.target
        decoded = base64.b64decode(seen.authorization.removeprefix("Basic ")).decode()
        assert decoded == f"{NAME}:{PASSWORD}"
    assert not [s for s in server.requests if s.path != "/token" and "Basic" in s.authorization]


@pytest.mark.parametrize("key", ["token", "access_token"])
@pytest.mark.parametrize("said", ["scripted", ""])
def test_spellings_of_tokens(key: str, said: str) -> None:
    service = TokenService(key=key, service=said, life=None)
    with ScriptedRegistry(tokens=service) as server:
        server.realm = f"{server.url}/token?kept=a%2fb"
        with opened(server.url) as registry:
            ask_everything(registry)
        asked = [seen.target for seen in server.requests if seen.path == "/token"]
        assert all(target.startswith("/token?kept=a%2fb") for target in asked)
        assert all(("service=" in target) == bool(said) for target in asked)


def test_a_challenge_without_a_scope(server: ScriptedRegistry, service: TokenService) -> None:
    bare = f'Bearer realm="{server.url}/token"'
    server.script("HEAD", "/blobs/", Reply(401, {"WWW-Authenticate": bare}))
    with opened(server.url, lookup=logins(server)) as registry:
        registry.repository("a/b").missing([Digest.of(b"")])
    assert list(service.given.values()) == [("repository:a/b:pull",)]


def test_a_token_of_one_repository_is_never_sent_for_another(
    server: ScriptedRegistry, service: TokenService
) -> None:
    with opened(server.url, lookup=logins(server)) as registry:
        for name in ("a", "b", "a/b"):
            ask_everything(registry, name)
            ask_everything(registry, name)
        assert list(registry.list()) == ["a", "a/b", "b"]
    for seen in server.requests:
        token = seen.authorization.removeprefix("Bearer ")
        if token in service.given and seen.path != "/v2/_catalog":
            name = seen.path.removeprefix("/v2/").partition(
                "/manifests" if "/manifests" in seen.path else "/blobs"
            )[0].partition("/tags")[0].partition("/referrers")[0]  # fmt: skip
            assert {scope.split(":")[1] for scope in service.given[token]} == {name}


def test_a_challenge_for_another_repository_gets_no_token_for_it(
    server: ScriptedRegistry, service: TokenService
) -> None:
    challenge = f'Bearer realm="{server.url}/token",service="s",scope="repository:secret:pull,push"'
    server.script("HEAD", "/blobs/", Reply(401, {"WWW-Authenticate": challenge}))
    with opened(server.url, lookup=logins(server)) as registry:
        registry.repository("mine").missing([Digest.of(b"")])
    assert "secret" not in repr(service.given)


def test_mounts_ask_for_two_scopes(server: ScriptedRegistry, service: TokenService) -> None:
    with opened(server.url, lookup=logins(server)) as registry:
        push(registry.repository("a"), b"data")
        assert registry.repository("b").mount(Digest.of(b"data"), "a") is True
    assert ("repository:b:pull,push", "repository:a:pull") in service.given.values()


def test_a_mount_without_the_right_is_none(server: ScriptedRegistry) -> None:
    with opened(server.url, lookup=logins(server)) as registry:
        push(registry.repository("a"), b"data")
        server.script("GET", r"/token.*scope=.*scope=", Reply(403))
        assert registry.repository("b").mount(Digest.of(b"data"), "a") is False
        push(registry.repository("b"), b"data")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_token_that_expires_in_the_middle_of_a_push(
    server: ScriptedRegistry, service: TokenService, method: str
) -> None:
    data = os.urandom(300_000)

    def expire(seen: Seen) -> None:
        service.expire()

    sources: list[io.BytesIO] = []

    def source() -> io.BytesIO:
        sources.append(io.BytesIO(data))
        return sources[-1]

    upload = "chunked" if method == "PATCH" else "whole"
    with opened(server.url, lookup=logins(server), upload=upload, chunk_size=100_000) as registry:
        repository = registry.repository("a")
        push(repository, b"first")
        server.script(method, "/blobs/uploads/", expire)
        repository.push_blob(described(data), source)
        assert read(repository, data) == data
    assert len(sources) == (2 if method == "PUT" else 1)
    assert all(one.closed for one in sources)


def test_a_refused_token_is_renewed_once(server: ScriptedRegistry, service: TokenService) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token",service="scripted"'}
    server.script("GET", "/manifests/", Reply(401, challenge), always=True)
    with opened(server.url, lookup=logins(server)) as registry:
        with pytest.raises(RegistryError) as caught:
            registry.repository("a").get_manifest("1")
        assert code_of(caught.value) == "registry-denied"
        assert server.count("GET", "/manifests/") == 2
        assert len(service.given) == 1


def test_insufficient_scope_widens_the_token(
    server: ScriptedRegistry, service: TokenService
) -> None:
    challenge = (
        f'Bearer realm="{server.url}/token",service="scripted",'
        'scope="repository:a:pull,push,delete",error="insufficient_scope"'
    )
    with opened(server.url, lookup=logins(server)) as registry:
        repository = registry.repository("a")
        data = manifest(repository)
        server.script("PUT", "/manifests/", Reply(401, {"WWW-Authenticate": challenge}))
        repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
    assert list(service.given.values())[-1] == ("repository:a:pull,push,delete",)


def test_tokens_are_renewed_before_they_expire(
    server: ScriptedRegistry, service: TokenService
) -> None:
    service.life = 100
    clock = Clock()
    with opened(server.url, lookup=logins(server), clock=clock) as registry:
        repository = registry.repository("a")
        for seconds, tokens in ((0, 1), (50, 1), (44, 1), (2, 2), (1, 2), (1000, 3)):
            clock.now += seconds
            repository.missing([Digest.of(b"")])
            assert len(service.given) == tokens
    refused = [seen for seen in server.requests if seen.path != "/token" and not seen.authorization]
    assert len(refused) == 1


@pytest.mark.parametrize("life", [0, -5, True, "100", None])
def test_lives_that_are_none_are_a_minute(
    server: ScriptedRegistry, service: TokenService, life: object
) -> None:
    clock = Clock()
    body = json.dumps({"token": "t", "expires_in": life}).encode()
    server.script("GET", "/token", Reply(200, body=body), always=True)
    server.script(
        "HEAD", "/blobs/", lambda seen: Reply(404) if seen.authorization else None, always=True
    )
    with opened(server.url, lookup=logins(server), clock=clock) as registry:
        for seconds in (0, 50, 10):
            clock.now += seconds
            registry.repository("a").missing([Digest.of(b"")])
    assert server.count("GET", "/token") == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token": 3}', b'{"token": ""}', b'{"token": "a\\r\\nX: y"}',
     b'{"token": "\\u00e9"}', b"<html>", b"x" * (2 << 20)],
)  # fmt: skip
def test_answers_that_hold_no_token(server: ScriptedRegistry, body: bytes) -> None:
    server.script("GET", "/token", Reply(200, body=body))
    with (
        opened(server.url, lookup=logins(server)) as registry,
        pytest.raises(RegistryError) as caught,
    ):
        registry.check()
    assert code_of(caught.value) == "registry-answer"


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(401, "registry-denied", False), (403, "registry-denied", False),
     (429, "registry-down", True), (503, "registry-down", True), (404, "registry-answer", False)],
)  # fmt: skip
def test_token_services_that_refuse(
    server: ScriptedRegistry, status: int, code: str, retryable: bool
) -> None:
    server.script("GET", "/token", Reply(status, {"Retry-After": "3"}))
    with (
        opened(server.url, lookup=logins(server)) as registry,
        pytest.raises(RegistryError) as caught,
    ):
        registry.check()
    assert (code_of(caught.value), caught.value.retryable) == (code, retryable)
    assert caught.value.retry_after == (3.0 if retryable else None)


def test_a_public_image_needs_no_login() -> None:
    with ScriptedRegistry(tokens=TokenService()) as server:
        server.realm = f"{server.url}/token"
        with opened(server.url) as registry:
            ask_everything(registry)
        assert not [seen for seen in server.requests if seen.authorization.startswith("Basic")]


def test_a_broken_helper_matters_only_where_a_login_is_needed() -> None:
    def broken(host: str, scope: str) -> None:
        raise RegistryError("the helper failed", code="registry-options")

    with ScriptedRegistry(tokens=TokenService()) as server:
        server.realm = f"{server.url}/token"
        with opened(server.url, lookup=broken) as registry:
            ask_everything(registry)
    with ScriptedRegistry(tokens=TokenService(login=(NAME, PASSWORD))) as server:
        server.realm = f"{server.url}/token"
        with (
            opened(server.url, lookup=broken) as registry,
            pytest.raises(RegistryError, match="helper"),
        ):
            registry.check()


def test_identity_tokens(server: ScriptedRegistry, service: TokenService) -> None:
    """By POST, and not along a redirect: the body would be sent again."""
    service.refresh = "identity é"
    service.key = "access_token"
    lookup = logins(server, Credentials(IDENTITY, "identity é"))
    with opened(server.url, lookup=lookup) as registry:
        ask_everything(registry)
    posts = [seen for seen in server.requests if seen.path == "/token"]
    assert {seen.method for seen in posts} == {"POST"}
    assert all(b"grant_type=refresh_token" in seen.body for seen in posts)
    assert not [seen for seen in posts if seen.authorization]
    with ScriptedRegistry() as elsewhere:
        server.script("POST", "/token", Reply(307, {"Location": f"{elsewhere.url}/token"}))
        with opened(server.url, lookup=lookup) as registry, pytest.raises(RegistryError):
            registry.check()
        assert elsewhere.requests == ()


def test_a_registry_token_is_sent_as_it_is(server: ScriptedRegistry, service: TokenService) -> None:
    service.given["ready-made"] = ("repository:a:pull",)
    lookup = logins(server, Credentials(token="ready-made"))
    with opened(server.url, lookup=lookup) as registry:
        registry.repository("a").missing([Digest.of(b"")])
    assert server.count(pattern="/token") == 0


def test_many_threads_share_one_token(server: ScriptedRegistry, service: TokenService) -> None:
    with opened(server.url, lookup=logins(server), connections=4) as registry:
        repository = registry.repository("a")
        push(repository, b"first")
        service.expire()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: push(repository, b"%d" % n), range(16)))
        assert len(service.given) == 2
        assert repository.missing(Digest.of(b"%d" % n) for n in range(16)) == frozenset()


def test_a_dropped_connection_may_have_been_a_refusal(
    server: ScriptedRegistry, service: TokenService
) -> None:
    """A registry may end a connection whose body it refused: the next try has a new token."""

    def drop(seen: Seen) -> Reply:
        service.expire()
        return Reply(fault="reset")

    server.script("PUT", "/blobs/uploads/", drop)
    with opened(server.url, lookup=logins(server)) as registry:
        repository = RetryingRepository(
            registry.repository("a"), Policy(sleep=lambda seconds: None, clock=lambda: 0.0)
        )
        repository.push_blob(described(b"data"), lambda: io.BytesIO(b"data"))
        assert repository.missing([Digest.of(b"data")]) == frozenset()
