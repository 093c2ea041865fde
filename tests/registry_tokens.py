"""A token service for docker-registry: signs what it is asked for, after a look at the login."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.parse
from pathlib import Path

from envgraph.testing.registry.scripted import Reply, ScriptedRegistry, Seen
from tests.registries import Certificates
from tests.services import require_tool

ISSUER, SERVICE = "tests", "docker-registry"
_YEAR_2100 = 4102444800


class Signer:
    """Tokens in the form that docker-registry verifies: a JWT with its certificate in it.

    ``login`` is who gets them. What was granted is in :attr:`granted`.
    """

    def __init__(self, certificates: Certificates, folder: Path, login: tuple[str, str]) -> None:
        self.certificates, self.folder, self.login = certificates, folder, login
        self.granted: list[list[str]] = []

    def settings(self, realm: str) -> dict[str, str]:
        """What docker-registry has to know."""
        return {
            "realm": realm,
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(self.certificates.ca),
        }

    def serve(self, server: ScriptedRegistry) -> None:
        """Answer ``/token`` of a server."""
        server.script("GET", "^/token", self.answer, always=True)

    def answer(self, seen: Seen) -> Reply:
        """A token for the scopes that are asked for; 401 for another login."""
        pair = base64.b64encode(":".join(self.login).encode()).decode()
        if seen.authorization != f"Basic {pair}":
            return Reply(401)
        scopes = urllib.parse.parse_qs(seen.target.partition("?")[2]).get("scope", [])
        self.granted.append(scopes)
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        return Reply(200, {}, json.dumps({"token": self.token(access)}).encode())

    def token(self, access: list[dict[str, object]]) -> str:
        """A JWT by RS256."""
        pem = self.certificates.certificate.read_text()
        der = "".join(line for line in pem.splitlines() if "CERTIFICATE" not in line)
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {
            "iss": ISSUER, "sub": self.login[0], "aud": SERVICE, "exp": _YEAR_2100, "nbf": 0,
            "iat": 0, "jti": str(len(self.granted)), "access": access,
        }  # fmt: skip
        signed = ".".join(_url64(json.dumps(part).encode()) for part in (header, claims))
        command = [require_tool("openssl"), "dgst", "-sha256", "-sign", self.certificates.key]
        done = subprocess.run(command, input=signed.encode(), capture_output=True, check=True)
        return f"{signed}.{_url64(done.stdout)}"


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
