"""Debian's docker-registry for tests: on a free port, open or with a login, plain or by TLS."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services import missing, require_tool

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RunningRegistry:
    """A registry that answers at ``host`` (``127.0.0.1:PORT``) and keeps all in ``folder``."""

    host: str
    folder: Path
    log: Path
    scheme: str = "http"

    @property
    def url(self) -> str:
        """With its scheme."""
        return f"{self.scheme}://{self.host}"


@dataclass(frozen=True, slots=True)
class Certificates:
    """An authority and what it signed for 127.0.0.1 and localhost, as files in PEM."""

    ca: Path
    certificate: Path
    key: Path


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def docker_registry(
    folder: Path,
    *,
    users: Mapping[str, str] | None = None,
    certificates: Certificates | None = None,
    token: Mapping[str, str] | None = None,
    deletes: bool = True,
) -> Iterator[RunningRegistry]:
    """Start one and stop it at the end; :func:`tests.services.missing` where there is none.

    ``users``: name → password, for basic authentication. ``token``: ``realm``, ``service``,
    ``issuer``, ``rootcertbundle`` of a token service.
    """
    program = require_tool("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(5):
        port = free_port()
        config = folder / "config.yml"
        config.write_text(_config(folder, port, users, certificates, token, deletes))
        log = folder / "registry.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [program, "serve", str(config)],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={"PATH": os.defpath, "HOME": str(folder), "OTEL_TRACES_EXPORTER": "none"},
            )
        try:
            if _answers(process, port, certificates):
                scheme = "https" if certificates else "http"
                yield RunningRegistry(f"127.0.0.1:{port}", folder / "storage", log, scheme)
                return
        finally:
            process.kill()
            process.wait()
    missing(f"docker-registry does not start: {log.read_text()[-2000:]}")


def _config(
    folder: Path,
    port: int,
    users: Mapping[str, str] | None,
    certificates: Certificates | None,
    token: Mapping[str, str] | None,
    deletes: bool,
) -> str:
    lines = [
        "version: 0.1",
        "log: {level: warn}",
        "validation: {manifests: {urls: {allow: ['^https://']}}}",  # foreign layers
        f"storage: {{filesystem: {{rootdirectory: {folder / 'storage'}}},"
        f" delete: {{enabled: {str(deletes).lower()}}}}}",
        f"http: {{addr: '127.0.0.1:{port}'"
        + (
            f", tls: {{certificate: {certificates.certificate}, key: {certificates.key}}}"
            if certificates
            else ""
        )
        + "}",
    ]
    if users:
        table = folder / "htpasswd"
        program = require_tool("htpasswd")
        table.write_text(
            "".join(
                subprocess.run(
                    [program, "-inBC", "4", name],
                    input=password,
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout.strip()
                + "\n"
                for name, password in users.items()
            )
        )
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {table}}}}}")
    if token:
        pairs = ", ".join(f"{key}: '{value}'" for key, value in token.items())
        lines.append(f"auth: {{token: {{{pairs}}}}}")
    return "\n".join(lines) + "\n"


def _answers(
    process: subprocess.Popen[bytes], port: int, certificates: Certificates | None
) -> bool:
    """Whether it came up; waits for the process, not for a time."""
    end = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            connection: http.client.HTTPConnection = (
                http.client.HTTPSConnection(
                    "127.0.0.1",
                    port,
                    context=ssl.create_default_context(cafile=str(certificates.ca)),
                )
                if certificates
                else http.client.HTTPConnection("127.0.0.1", port)
            )
            connection.request("GET", "/")
            connection.getresponse().read()
            connection.close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def make_certificates(
    folder: Path,
    *,
    names: str = "",
    rsa: bool = False,
    expired: bool = False,
    usage: str = "serverAuth",
) -> Certificates:
    """An own authority and a certificate for 127.0.0.1 and localhost (or ``names``).

    ``rsa``: with RSA keys, which sign tokens. ``expired``: the certificate was good in 2020.
    ``usage``: what it is for.
    """
    program = require_tool("openssl")
    folder.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run([program, *arguments], cwd=folder, capture_output=True, check=True)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    curve = ["-newkey", "rsa:2048", "-nodes"] if rsa else curve
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
            "-subj", "/CN=envgraph tests", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=registry")
    (folder / "extensions").write_text(
        f"subjectAltName={names or 'IP:127.0.0.1,DNS:localhost'}\nextendedKeyUsage={usage}\n"
    )
    then = [require_tool("faketime"), "2020-01-01 00:00:00"] if expired else []
    sign = [*then, program, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem",
            "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.pem",
            "-extfile", "extensions", "-days", "2"]  # fmt: skip
    subprocess.run(sign, cwd=folder, capture_output=True, check=True)
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
