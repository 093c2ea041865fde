"""What went wrong, in words: faults of connections, statuses, bodies that cannot be meant."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import urllib3

from envgraph.api import RegistryError

_WORDS: Final = {
    "ConnectTimeoutError": "it does not answer",
    "ReadTimeoutError": "it stopped sending",
    "NewConnectionError": "no connection",
    "NameResolutionError": "the host name is not known",
    "ProtocolError": "the connection broke",
    "IncompleteRead": "the body was cut short",
    "ProxyError": "the proxy refused",
}
_LOGIN: Final = "`envgraph registry login {}` keeps a login, where one is missing"
_NO_TLS: Final = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
)


def speaks_no_tls(error: BaseException) -> bool:
    """Whether the other side answered a TLS greeting with something else."""
    return any(name in str(error).upper().replace(" ", "_") for name in _NO_TLS)


def of_connection(title: str, error: Exception) -> RegistryError:
    """The error for a request without an answer.

    What urllib3 says is not repeated: it may hold addresses with signatures in them.
    """
    cause = getattr(error, "reason", error)
    if isinstance(cause, (ssl.SSLCertVerificationError, urllib3.exceptions.SSLError, ssl.SSLError)):
        text = str(cause)
        if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
            why = re.search(r"certificate verify failed: ([^(]{1,100})", text)
            return RegistryError(
                f"{title}: its certificate is not trusted"
                + (f" ({why.group(1).strip()})" if why else ""),
                code="registry-down",
                hint="`ca:` names a file of certificates to trust; `insecure: true` checks none",
            )
        if speaks_no_tls(cause):
            return RegistryError(
                f"{title} does not speak TLS",
                code="registry-down",
                hint="write http:// before the host, with `insecure: true` where that is meant",
            )
    name = type(error).__name__
    return RegistryError(
        f"{title}: {_WORDS.get(name, f'the request failed ({name})')}",
        code="registry-down",
        retryable=True,
    )


def retry_after(text: str, now: float) -> float | None:
    """Seconds to wait, from a number or a date; None when the header says neither."""
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", text, re.ASCII):
        return float(int(text))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


def of_status(
    title: str,
    what: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Iterable[str],
    now: float,
) -> RegistryError:
    """The error for a status that nobody hoped for; ``what`` was asked (``push alpha``)."""
    words, said = _complaint(body, secrets)
    html = "html" in headers.get("Content-Type", "").lower()
    code, hint, retryable = "registry-answer", "", False
    if status in (401, 403):
        code, hint = "registry-denied", _LOGIN.format(title)
    elif status in (405, 501) or "UNSUPPORTED" in words:
        code = "registry-unsupported"
    elif status in (408, 425, 429) or status >= 500:
        code, retryable = "registry-down", True
    elif "MANIFEST_BLOB_UNKNOWN" in words:
        # It said that it has the blob. docker-registry loses sight of one for a moment while
        # somebody else pushes it too; registries of many machines may lag behind themselves.
        retryable = True
    elif status == 413:
        hint = "something before the registry limits what is sent at once: `upload: chunked`"
    if html and code == "registry-answer":
        hint = "that was HTML: is this a registry's address, and is no login page before it?"
    return RegistryError(
        f"{title}: {what}: it answered {status}" + (f" {', '.join(words)}" if words else ""),
        code=code,
        detail=said,
        hint=hint,
        retryable=retryable,
        retry_after=retry_after(headers.get("Retry-After", ""), now) if retryable else None,
    )


def masked(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every secret that a server may have put into it taken out."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***") if secret else text
    return text


def _complaint(body: bytes, secrets: Iterable[str]) -> tuple[list[str], str]:
    """The codes and the messages of the spec's error object, as far as there is one."""
    try:
        document: Any = json.loads(body)
        errors = [error for error in document["errors"] if isinstance(error, dict)][:5]
    except (ValueError, TypeError, KeyError, RecursionError):
        return [], ""
    codes = [str(error.get("code", "")) for error in errors]
    words = [word for word in codes if re.fullmatch(r"[A-Z_]{1,40}", word)]
    said = [str(error.get("message", "")) for error in errors]
    return words, masked("; ".join(part for part in said if part), secrets)[:300]
