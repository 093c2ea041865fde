"""Settings of ``builder: {type: buildkit}``, and where BuildKit is when they do not say."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from envgraph.api import BuilderError, BuilderPlace
from envgraph_buildkit.cachetext import read_cache

DEFAULTS: Final = ("unix:///run/buildkit/buildkitd.sock", "unix:///var/run/docker.sock")
"""Where BuildKit usually is; the first that is there is used."""
SETTING: Final = "builder.address"


@dataclass(frozen=True, slots=True)
class BuildkitOptions:
    """The keys beside ``type: buildkit``."""

    address: str = ""
    """``unix:///PATH`` or ``tcp://HOST:PORT``, of a buildkitd or a dockerd; empty: see
    :func:`find_endpoint`. ``dns://HOST:PORT`` is every server whose address HOST has."""

    addresses: tuple[str, ...] = ()
    """Several of them, instead of ``address``: see :func:`servers`. One builder is for one."""

    ca: str = ""
    """A PEM file of the authorities that the server's certificate comes from. Any of the
    TLS keys makes a ``tcp://`` connection TLS."""

    cert: str = ""
    """A PEM file of this client's certificate, with ``key``."""

    key: str = ""
    server_name: str = ""
    """The name in the server's certificate, where it is not the host of ``address``."""

    connect_timeout: int = 5
    """Seconds in which a server has to take a connection and say its first word."""

    cache_from: tuple[str, ...] = ()
    """Out of which BuildKit may take what others built: references in registries, of caches or of
    images with an inline cache, and ``type=…,KEY=VALUE`` (see :mod:`.cachetext`)."""

    cache_to: str = ""
    """Where BuildKit keeps what it built, every stage: a reference in a registry, or ``type=…``."""

    network: str = "default"
    """The network of ``RUN`` in builds that may have one: ``default`` or ``host``, which the
    server must allow."""

    lend_layers: bool = False
    """Build the next step on the layers as BuildKit made them, where it still has these: the
    base is not sent, and a step sees the times that files really got. What it writes may then
    depend on what BuildKit still has."""

    provenance: str = ""
    """``max``: keep how each step was built, as BuildKit tells it. It changes no image."""

    def __post_init__(self) -> None:
        """ValueError for what can be told without a server."""
        if self.network not in ("default", "host"):
            raise ValueError(f"network is {self.network!r}: `default` or `host`")
        if self.provenance not in ("", "max"):
            raise ValueError(f"provenance is {self.provenance!r}: `max`, or leave it out")
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key come together")
        if self.connect_timeout < 1:
            raise ValueError("connect_timeout is a number of seconds, 1 or more")
        if self.address and self.addresses:
            raise ValueError("write address or addresses, not both")
        if wrong := [each for each in self.addresses if _fault(each)]:
            raise ValueError("; ".join(f"{each!r}: {_fault(each)}" for each in wrong))
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError("the same address stands in addresses twice")
        for each in self.cache_from:
            read_cache(each, kept=False)
        if self.cache_to:
            read_cache(self.cache_to, kept=True)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a TLS connection; empty where there is none."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where BuildKit is, and who said so."""

    address: str
    why: str
    tls: Tls | None = None
    connect_seconds: float = 5.0

    @property
    def local(self) -> bool:
        """It is a unix socket."""
        return self.address.startswith("unix://")

    @property
    def path(self) -> str:
        """The unix socket's path."""
        return self.address.removeprefix("unix://")

    @property
    def host_port(self) -> tuple[str, int]:
        """Of a ``tcp://`` address."""
        parts = urlsplit(self.address)
        return parts.hostname or "", parts.port or 0


def servers(options: BuildkitOptions, connect: bool) -> Sequence[BuildkitOptions]:
    """The same options for each server by itself; ``dns://`` names are looked up if ``connect``.

    A name that means nothing just now stays as it is: its builder says so when it is asked.
    """
    named = options.addresses or ((options.address,) if options.address else ())
    if not named:
        return (options,)
    secure = bool(options.ca or options.cert)
    found: dict[str, BuildkitOptions] = {}
    for address in named:
        for each, name in _looked_up(address) if connect else ((address, ""),):
            of_cert = options.server_name or (name if secure else "")
            one = replace(options, address=each, addresses=(), server_name=of_cert)
            found.setdefault(each, one)
    return tuple(found.values())


def _looked_up(address: str) -> Iterator[tuple[str, str]]:
    """The addresses of a ``dns://`` name, with that name: its certificates are for it."""
    parts = urlsplit(address)
    if parts.scheme != "dns" or not parts.hostname:
        yield address, ""
        return
    try:
        answers = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except OSError:
        yield address, ""
        return
    # a pod of two families is one server, not two
    four = {str(a[4][0]) for a in answers if a[0] == socket.AF_INET}
    six = {str(a[4][0]) for a in answers if a[0] == socket.AF_INET6}
    for host in sorted(four or six):
        yield f"tcp://{f'[{host}]' if ':' in host else host}:{parts.port}", parts.hostname


def connects(options: BuildkitOptions) -> bool:
    """Whether builders of these options open connections beyond unix sockets."""
    if options.addresses:
        return not all(each.startswith("unix://") for each in options.addresses)
    try:
        return not find_endpoint(options, os.environ, Path("/")).local
    except BuilderError:
        return False  # it connects to nothing, and says so when it is asked


def places(options: BuildkitOptions) -> tuple[BuilderPlace, ...]:
    """Where builders of these options would be asked; BuilderError where there is nothing."""
    found = [find_endpoint(each, os.environ, Path("/")) for each in servers(options, False)]
    return tuple(BuilderPlace(each.address, each.why) for each in found)


def find_endpoint(options: BuildkitOptions, environ: Mapping[str, str], root: Path) -> Endpoint:
    """``address``, ``BUILDKIT_HOST``, ``DOCKER_HOST``, docker's context, the usual places.

    Files in options are relative to ``root``. BuilderError ``builder-options`` for an
    address that this client does not speak, ``builder-down`` when there is none.
    """
    tls = None
    if options.ca or options.cert or options.server_name:
        ca, cert, key = (
            str(root / each) if each else "" for each in (options.ca, options.cert, options.key)
        )
        tls = Tls(ca, cert, key, options.server_name)
    if options.addresses:
        raise BuilderError(
            "one builder is for one address", code="builder-options",
            hint="open one for each that `servers(options, True)` gives",
        )  # fmt: skip
    found = _find(options, environ, tls)
    return replace(_checked(found), connect_seconds=float(options.connect_timeout))


def _find(options: BuildkitOptions, environ: Mapping[str, str], tls: Tls | None) -> Endpoint:
    if options.address:
        return Endpoint(options.address, SETTING, tls)
    if address := environ.get("BUILDKIT_HOST"):
        return Endpoint(address, "BUILDKIT_HOST", tls)
    if address := environ.get("DOCKER_HOST"):
        return Endpoint(address, "DOCKER_HOST", tls or _docker_tls(environ))
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    if found := _context(folder, environ.get("DOCKER_CONTEXT", ""), tls):
        return found
    runtime = environ.get("XDG_RUNTIME_DIR")
    rootless = (f"unix://{runtime}/buildkit/buildkitd.sock", f"unix://{runtime}/docker.sock")
    places = (*(rootless if runtime else ()), *DEFAULTS)
    for address in places:
        if Path(address.removeprefix("unix://")).exists():
            return Endpoint(address, "it is there")
    raise BuilderError(
        "there is no BuildKit on this machine",
        code="builder-down",
        detail="Looked at:\n" + "\n".join(places),
        hint="start dockerd or buildkitd, or set `builder: {address: …}`, BUILDKIT_HOST or"
        " DOCKER_HOST",
        retryable=True,
    )


def _docker_tls(environ: Mapping[str, str]) -> Tls | None:
    """What ``DOCKER_TLS_VERIFY``, ``DOCKER_TLS`` and ``DOCKER_CERT_PATH`` say."""
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not environ.get("DOCKER_TLS"):
        return None
    folder = Path(environ.get("DOCKER_CERT_PATH") or Path(environ.get("HOME", "/")) / ".docker")
    return _tls_of(folder, verify)


def _tls_of(folder: Path, verify: bool) -> Tls:
    """The files that docker keeps in a folder."""
    ca, cert, key = (
        str(path) if (path := folder / f"{name}.pem").exists() else ""
        for name in ("ca", "cert", "key")
    )
    return Tls(ca, cert, key, verify=verify)


def _context(folder: Path, name: str, tls: Tls | None) -> Endpoint | None:
    """The docker context ``name``, or the current one; None for docker's default."""
    if not name:
        try:
            config = json.loads((folder / "config.json").read_bytes())
            name = config.get("currentContext", "") if isinstance(config, dict) else ""
        except (OSError, ValueError):
            return None
    if not isinstance(name, str) or name in ("", "default"):
        return None
    key = hashlib.sha256(name.encode()).hexdigest()
    try:
        meta = json.loads((folder / "contexts/meta" / key / "meta.json").read_bytes())
        docker = meta["Endpoints"]["docker"]
        address = str(docker["Host"])
        verify = not docker.get("SkipTLSVerify", False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuilderError(
            f"the docker context {name!r} cannot be read",
            code="builder-options",
            detail=f"{type(error).__name__}: {error}",
            hint="`docker context ls` shows those that are there",
        ) from None
    files = folder / "contexts/tls" / key / "docker"
    if tls is None and files.is_dir():
        tls = _tls_of(files, verify)
    return Endpoint(address, f"the docker context {name}", tls)


def _fault(address: str) -> str:
    """Why this client does not speak an address, as a hint; empty where it does."""
    parts = urlsplit(address)
    try:
        fine = (parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/")) or (
            parts.scheme in ("tcp", "dns")
            and bool(parts.hostname)
            and parts.port is not None
            and parts.username is None
        )
    except ValueError:
        fine = False
    if fine:
        return ""
    return {
        "ssh": "forward the socket (`ssh -L /tmp/b.sock:/var/run/docker.sock HOST`) and use unix://",
        "http": "write tcp:// for it",
        "https": "write tcp:// for it, with `ca:`",
    }.get(parts.scheme, "write unix:///PATH or tcp://HOST:PORT")


def _checked(endpoint: Endpoint) -> Endpoint:
    """The endpoint; BuilderError when this client cannot use its address."""
    if fault := _fault(endpoint.address):
        scheme = urlsplit(endpoint.address).scheme[:20] or "none"
        raise BuilderError(
            f"{endpoint.why} is no address that envgraph_buildkit speaks: scheme {scheme}",
            code="builder-options",
            hint=fault,
        )
    return endpoint
