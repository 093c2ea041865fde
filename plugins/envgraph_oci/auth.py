"""Who asks: challenges, logins, and tokens that are good for one repository each.

Nothing is sent before the registry asks for it. What is sent goes to the registry's own
origin, to the ``auth_hosts`` of its settings, and, a login only, to its token service when
that is one of these (README.md, "Where a login goes"):

1. the registry's own origin;
2. by https: the same host on another port, a domain above it (registry.gitlab.com →
   gitlab.com), or a service that is known to belong to it (docker.io → auth.docker.io);
3. by https: a host of ``auth_hosts``;
4. by https: a host for which the user's setup has a login of its own: then that one.

Any other token service is asked without a login, as for a public image.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode, urlsplit

from envgraph.api import Credentials, RegistryError, read_object
from envgraph.errors import IntegrityError
from envgraph_oci.answers import Answer, Call
from envgraph_oci.http import Http
from envgraph_oci.options import DOCKER_HUB, Origin, next_address, origin_of

IDENTITY: Final = "<token>"
"""The user name that marks a password as an identity token: docker's convention."""

_SERVICES: Final = {DOCKER_HUB: "auth.docker.io"}
_TOKEN_LIMIT: Final = 1 << 20
_USUAL_SECONDS: Final = 60.0
_MARGIN: Final = 5.0
_PARAMETER: Final = re.compile(
    r'\s*([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*(?:,|$)'
)
_SCHEME: Final = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|(?=,)|$)(?!=)")

Lookup = Callable[[str, str], Credentials | None]
Scopes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Challenge:
    """One ``WWW-Authenticate``: its scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    text: str
    until: float


def read_challenges(text: str) -> list[Challenge]:
    """The challenges of a header (RFC 9110 11.6.1); what cannot be read ends the list."""
    found: list[Challenge] = []
    place, text = 0, text[:8192]
    while match := _SCHEME.match(text, place):
        place = match.end()
        parameters: dict[str, str] = {}
        while pair := _PARAMETER.match(text, place):
            place = pair.end()
            value = pair[3] if pair[2] is None else re.sub(r"\\(.)", r"\1", pair[2])
            parameters.setdefault(pair[1].lower(), value)
        found.append(Challenge(match[1].lower(), parameters))
    return found


def widened(scopes: Scopes, asked: str) -> Scopes:
    """``scopes`` with the further actions that a challenge asks for on the same things.

    What it asks for on anything else (another repository) is not given.
    """
    result = []
    for scope in scopes:
        name, _, actions = scope.rpartition(":")
        known = actions.split(",")
        for other in asked.split():
            other_name, _, more = other.rpartition(":")
            if other_name == name:
                known += [action for action in more.split(",") if action not in known]
        result.append(f"{name}:{','.join(known)}")
    return tuple(result)


class Auth:
    """Sends calls to one registry, with what it asks for; safe for threads.

    ``lookup(host, scope)`` gives the user's login.
    """

    def __init__(self, http: Http, lookup: Lookup, auth_hosts: tuple[str, ...]) -> None:
        """Know nothing yet."""
        self._http = http
        self._lookup = lookup
        self._auth_hosts = frozenset(origin_of(f"https://{host}") for host in auth_hosts)
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._login: Credentials | None = None
        self._lock = threading.RLock()

    def send(self, call: Call, scopes: Scopes = ()) -> Answer:
        """The answer to a call that needs ``scopes``; a 401 is answered once."""
        allowed = origin_of(call.url) in (self._http.origin, *self._auth_hosts)
        used = self._header(scopes) if allowed else ""
        try:
            answer = self._http.send(call, used)
        except RegistryError as error:
            if error.retryable and call.body is not None:
                self._forget(scopes)  # a refused token can look like a broken connection
            raise
        if answer.status != 401 or not allowed or origin_of(answer.url) != origin_of(call.url):
            return answer
        header = self._answered(answer, scopes, used)
        return self._http.send(call, header)

    def _forget(self, scopes: Scopes) -> None:
        with self._lock:
            self._tokens.pop(scopes, None)

    def _header(self, scopes: Scopes) -> str:
        """What to send before anybody asks: what was asked for the last time."""
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return ""
            if challenge.scheme == "basic":
                return _basic(self._login) if self._login is not None else ""
            token = self._current(scopes) or self._fetch(challenge, scopes, scopes)
            return f"Bearer {token.text}"

    def _current(self, scopes: Scopes) -> _Token | None:
        token = self._tokens.get(scopes)
        return token if token is not None and token.until > self._http.clock() else None

    def _answered(self, answer: Answer, scopes: Scopes, used: str) -> str:
        """The header that a 401 asks for; ``used`` is the one that it refused."""
        found = {c.scheme: c for c in reversed(read_challenges(answer.header("WWW-Authenticate")))}
        challenge = found.get("bearer") or found.get("basic")
        refused = answer.error()  # read here: whatever follows, the connection is free
        if challenge is None:
            raise refused
        with self._lock:
            self._challenge = replace(
                challenge,
                parameters={
                    k: v for k, v in challenge.parameters.items() if k in ("realm", "service")
                },
            )
            if challenge.scheme == "basic":
                self._login = self._ask(self._http.place.title, scopes)
                if self._login is None or _basic(self._login) == used:
                    raise refused
                return _basic(self._login)
            token = self._current(scopes)
            if token is not None and f"Bearer {token.text}" != used:
                return f"Bearer {token.text}"  # another thread has just renewed it
            wanted = widened(scopes, challenge.parameters.get("scope", ""))
            return f"Bearer {self._fetch(challenge, scopes, wanted).text}"

    def _ask(self, host: str, scopes: Scopes) -> Credentials | None:
        """The user's login for a host; what it holds is masked from here on."""
        login = self._lookup(host, scopes[0] if scopes else "")
        if login is None or not (login.username or login.password or login.token):
            return None
        pair = f"{login.username}:{login.password}"
        encoded = base64.b64encode(pair.encode()).decode()
        self._http.secrets |= {login.password, login.token, encoded} - {""}
        return login

    def _fetch(self, challenge: Challenge, scopes: Scopes, wanted: Scopes) -> _Token:
        """A token from the service that the challenge names, kept for ``scopes``."""
        realm = next_address(f"{self._http.origin}/v2/", challenge.parameters.get("realm", ""),
                             self._http.place)  # fmt: skip
        problem: RegistryError | None = None
        try:
            login = self._login_for(origin_of(realm), scopes)
        except RegistryError as error:  # a helper that fails is none of a public image's business
            login, problem = None, error
        if login is not None and login.token:
            return _Token(login.token, self._http.clock() + _USUAL_SECONDS)
        began = self._http.clock()
        answer = self._http.send(*_token_call(realm, challenge, wanted, login))
        if answer.status != 200:
            refused = self._refused(answer.error(), realm, login)
            raise problem or refused
        data = answer.read(_TOKEN_LIMIT)
        try:
            document = read_object(data or b"", "token")
        except IntegrityError:
            raise answer.answer_error("its token service gave no token") from None
        text = document.get("token") or document.get("access_token")
        if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text):
            raise answer.answer_error("its token service gave no token")
        seconds = document.get("expires_in")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
            seconds = _USUAL_SECONDS
        token = _Token(text, began + max(seconds - _MARGIN, seconds / 2))
        self._http.secrets.add(text)
        self._tokens[scopes] = token
        return token

    def _login_for(self, service: Origin, scopes: Scopes) -> Credentials | None:
        """The login that a token service may have; see the rule at the top."""
        place, own = self._http.place, self._http.origin
        if service == own:
            return self._ask(place.title, scopes)
        if service.scheme != "https":
            return None
        related = own.scheme == "https" and (
            service.host == own.host
            or ("." in service.host and own.host.endswith("." + service.host))
            or _SERVICES.get(place.title) == service.host
        )
        if related or service in self._auth_hosts:
            return self._ask(place.title, scopes)
        return self._ask(str(service).removeprefix("https://"), ())

    def _refused(
        self, error: RegistryError, realm: str, login: Credentials | None
    ) -> RegistryError:
        """A token service's refusal; when it was asked without a login, why."""
        service = origin_of(realm)
        if error.diagnostics[0].code != "registry-denied" or login is not None:
            return error
        if service == self._http.origin or self._lookup(self._http.place.title, "") is None:
            return error
        host = str(service).partition("://")[2]
        return RegistryError(
            f"{self._http.place.title}: its token service {service} is another host, and was"
            " not given the login",
            code="registry-denied",
            hint=f"if it belongs to the registry, write `auth_hosts: [{host!r}]`",
        )


def _token_call(
    realm: str, challenge: Challenge, scopes: Scopes, login: Credentials | None
) -> tuple[Call, str]:
    """The request for a token, with its Authorization header."""
    asked: list[tuple[str, str]] = []
    if challenge.parameters.get("service"):
        asked.append(("service", challenge.parameters["service"]))
    if login is not None and login.username == IDENTITY:
        form = [
            ("grant_type", "refresh_token"),
            ("client_id", "envgraph"),
            *asked,
            *((("scope", " ".join(scopes)),) if scopes else ()),
            ("refresh_token", login.password),
        ]
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(form).encode()
        return Call("POST", realm, "get a token", kind, body, follow=False), ""
    query = urlencode([*asked, *(("scope", scope) for scope in scopes)])
    mark = ("&" if urlsplit(realm).query else "?") if query else ""
    return Call("GET", f"{realm}{mark}{query}", "get a token"), _basic(login)


def _basic(login: Credentials | None) -> str:
    if login is None:
        return ""
    pair = f"{login.username}:{login.password}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
