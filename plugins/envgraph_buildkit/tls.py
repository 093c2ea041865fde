"""TLS settings as a context, and why a TLS connection did not come about: in words."""

from __future__ import annotations

import ssl
from pathlib import Path

from envgraph.api import BuilderError
from envgraph_buildkit.options import Endpoint, Tls


def context_of(tls: Tls) -> ssl.SSLContext:
    """BuilderError ``builder-options`` names the file that cannot be used."""
    for path in (tls.ca, tls.cert, tls.key):
        if path:
            _check_readable(path)
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
    except OSError as error:  # SSLError too: a file that is no certificate
        raise _useless(tls.ca, error) from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert:
        try:
            context.load_cert_chain(tls.cert, tls.key or None)
        except OSError as error:
            both = f"{tls.cert} with {tls.key}" if tls.key else tls.cert
            raise _useless(both, error) from None
    return context


def _check_readable(path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise _useless(path, error) from None


def _useless(path: str, error: OSError) -> BuilderError:
    why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return BuilderError(
        f"a file of the TLS settings cannot be used: {path}",
        code="builder-options",
        detail=str(why or error).replace("_", " ").lower(),
        hint="`ca`, `cert` and `key` of `builder:` (or DOCKER_CERT_PATH) name PEM files",
    )


def reason_of(error: ssl.SSLError) -> str:
    """OpenSSL's name for it; Python does not know all of them, and has their text then."""
    return error.reason or str(error).upper().replace(" ", "_")


def no_tls(endpoint: Endpoint, error: ssl.SSLError) -> BuilderError:
    """Why, and what to do about it: which side did not trust the other, and for what."""
    reason = reason_of(error)
    why, hint = reason.replace("_", " ").lower(), ""
    if isinstance(error, ssl.SSLCertVerificationError):
        why, hint = _distrusted(error)
    elif "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        why = "it wants a certificate of this client"
        hint = "set `cert:` and `key:`"
    elif "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        why = "it does not trust this client's certificate"
        hint = "let its authority sign one, and set `cert:` and `key:` to it"
    elif "EOF" in reason or "WRONG_VERSION_NUMBER" in reason:
        why = "it does not speak TLS"
        hint = "leave `ca:`, `cert:` and `key:` out (DOCKER_TLS_VERIFY too), or correct the port"
    return BuilderError(
        f"no TLS connection to {endpoint.address}: {why}",
        code="builder-refused",
        detail=f"The address is from {endpoint.why}. {reason}",
        hint=hint or "correct `ca:`, `cert:` and `key:` (or DOCKER_CERT_PATH)",
    )


def _distrusted(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """What is wrong with the server's certificate: by OpenSSL's numbers."""
    said = error.verify_message
    if error.verify_code in (62, 64):  # host name, address
        return said, "set `server_name:` to a name that its certificate has"
    if error.verify_code in (9, 10):  # not yet valid, expired
        return said, "renew the server's certificate, or see whether this machine's clock is right"
    return said, "set `ca:` to the PEM file of the authority that its certificate comes from"
