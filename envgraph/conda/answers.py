"""What servers answer, in words; which certificates and log lines are trusted."""

from __future__ import annotations

import logging
import os
import re
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from envgraph.conda import credentials
from envgraph.errors import FetchError


def mask_log(record: logging.LogRecord) -> bool:
    """urllib3 logs paths, and a conda token is part of one."""
    record.msg, record.args = credentials.mask(record.getMessage()), ()
    return True


def trusted_certificates(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The certificates that the user's setup trusts: the usual variables, then the system's."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := environ.get(name):
            try:
                return ssl.create_default_context(
                    cafile=path if not os.path.isdir(path) else None,  # noqa: PTH112
                    capath=path if os.path.isdir(path) else None,  # noqa: PTH112
                )
            except (OSError, ssl.SSLError) as error:
                raise FetchError(f"{name}: {path} cannot be read", detail=str(error)) from None
    return ssl.create_default_context()


def retry_after(text: str | None) -> float | None:
    """Seconds to wait, from a number or a date; None when the header says neither."""
    if not text:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", text, re.ASCII):
        return float(int(text))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def describe(error: Exception) -> str:
    """A failed request in words that need no knowledge of urllib3."""
    name = type(error).__name__
    known = {
        "ConnectTimeoutError": "the server does not answer",
        "ReadTimeoutError": "the server stopped sending",
        "NewConnectionError": "no connection",
        "NameResolutionError": "the host name is not known",
        "ProtocolError": "the connection broke",
        "IncompleteRead": "the body was cut short",
        "ProxyError": "the proxy refused",
    }
    return known.get(name, f"the request failed ({name})")


def hint(status: int) -> str:
    """What a user can do about a status."""
    if status in (401, 403):
        return "credentials go into netrc, or as ${VARIABLE} into the channel's address"
    if status in (404, 410):
        return (
            "the file is gone there: `channels:` in envgraph.yaml can name a mirror that keeps it"
        )
    return ""
