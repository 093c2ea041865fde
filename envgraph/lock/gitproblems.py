"""What git says when it fails, in the user's terms."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from envgraph.errors import EnvgraphError, FetchError, InputError


def no_folder(
    shown: str, commit: str, folder: str, kind: str | None, there: Iterable[str]
) -> InputError:
    """What is at ``folder`` instead: ``kind`` is None where nothing is."""
    import difflib

    where = f"{shown} at {commit[:12]}"
    if kind is None:
        names = sorted(there)
        near = difflib.get_close_matches(folder.rpartition("/")[2], names, 1, 0.6)
        there_are = f"there are {', '.join(names[:8])}" if names else "it is empty"
        return InputError(f"{where} has no folder {folder!r}", code="context-folder",
                          hint=f"did you mean {near[0]!r}?" if near else there_are)  # fmt: skip
    what = {"link": "a symbolic link", "submodule": "a submodule"}.get(kind, "a file")
    hint = {
        "link": "name the folder that it points to: links are not followed out of a context",
        "submodule": "name the submodule's own repository",
    }.get(kind, "leave the file's name out")
    return InputError(f"{where}: {folder!r} is {what}, not a folder", code="context-folder",
                      hint=hint)  # fmt: skip


_REASONS: Final = (
    (
        r"could not read (Username|Password)|Authentication failed|terminal prompts disabled"
        r"|error: 40[13]\b|HTTP Basic: Access denied",
        "context-credentials",
        "{} wants credentials, or there is no such repository",
        "log in by a credential helper or ~/.netrc, or write https://${{NAME}}@HOST/… with NAME"
        " under `secrets:` of envgraph.yaml",
    ),
    (
        r"Permission denied \(|Host key verification failed|no matching host key",
        "context-credentials",
        "{} is not reached by ssh",
        "`ssh -T` to the host shows why: is the key in the agent, the host in known_hosts?",
    ),
    (
        r"not found|does not exist|does not appear to be a git repository|no such repository"
        r"|error: 404\b|not a git repository",
        "context-repository",
        "there is no git repository {}, or none for these credentials",
        "see whether the address is right",
    ),
    (
        r"(?s)dubious ownership",
        "context-repository",
        "git does not trust {}: it belongs to another user",
        "git config --global --add safe.directory PATH",
    ),
    (
        r"SSL certificate problem|certificate verif|unable to get local issuer",
        "context-certificate",
        "the certificate of {} is not trusted",
        "name the authority's file: SSL_CERT_FILE, or git's http.sslCAInfo",
    ),
    (
        r"resolve host|Connection (refused|timed out|reset)|unable to connect|Failed to connect"
        r"|Network is unreachable|Could not connect|Operation too slow|SSL|certificate"
        r"|unexpected disconnect|hung up|early EOF",
        "context-unreachable",
        "{} cannot be reached",
        "see whether the host answers; proxies and certificates are those of your git",
    ),
)


def git_failed(shown: str, said: str) -> EnvgraphError:
    """The error behind what git said; its words are the detail."""
    for pattern, code, summary, hint in _REASONS:
        if re.search(pattern, said, re.IGNORECASE):
            return FetchError(summary.format(shown), code=code, detail=said, hint=hint.format())
    return FetchError(f"git cannot read {shown}", code="context-git", detail=said)
