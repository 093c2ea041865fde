"""What git is told before it starts: settings, protocols, and the user's own logins."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from envgraph.conda import credentials

_KEPT: Final = re.compile(
    r"GIT_(SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|PROXY_COMMAND|EXEC_PATH|SSL_\w+|HTTP_\w+"
    r"|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+))"
)
"""Git's variables that say how this user reaches others; all other ones are left out."""

_SETTINGS: Final = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false",
    "fetch.recurseSubmodules=false", "credential.interactive=false", "protocol.version=2",
    "http.lowSpeedLimit=1000", "http.lowSpeedTime=60", "advice.detachedHead=false",
)  # fmt: skip
_HELPER: Final = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n"'
    ' "$ENVGRAPH_GIT_USER" "$ENVGRAPH_GIT_PASSWORD"; }; f'
)
_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def plain_address(address: str) -> str:
    """The address as a command line may show it: who logs in by ssh stays, all else goes."""
    parts = urlsplit(address) if "://" in address else None
    if parts is None or "@" not in parts.netloc:
        return address
    info, _, host = parts.netloc.rpartition("@")
    if parts.scheme == "ssh":
        host = f"{info.partition(':')[0]}@{host}"
    return urlunsplit(parts._replace(netloc=host))


def git_settings(address: str) -> list[str]:
    """Options before the command: nothing of a repository runs, nobody is asked.

    A login in the address is told to git by a helper for its host alone, which reads it from
    the environment (:func:`git_environment`).
    """
    settings = list(_SETTINGS)
    if credentials.userinfo(address) and address.startswith("http"):
        parts = urlsplit(plain_address(address))
        host = f"{parts.scheme}://{parts.netloc}"
        settings += ["credential.helper=", f"credential.{host}.helper={_HELPER}"]
    return [word for item in settings for word in ("-c", item)]


def git_environment(
    address: str, environ: Mapping[str, str], folder: Path, *, offline: bool
) -> dict[str, str]:
    """The user's variables without those that would change what git reads or runs."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or _KEPT.fullmatch(name)
    }
    kept.pop("SSH_ASKPASS", None)
    kept |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": _protocols(address, offline),
        "GIT_NO_REPLACE_OBJECTS": "1",
        "SSH_ASKPASS_REQUIRE": "never",
        "LC_ALL": "C",
    }
    is_ssh = not address.startswith(("http", "file:", "git:"))
    told = {"GIT_SSH", "GIT_SSH_COMMAND"} & kept.keys()
    if is_ssh and not told and not _is_set("core.sshCommand", kept, folder):
        kept["GIT_SSH_COMMAND"] = "ssh -oBatchMode=yes -oConnectTimeout=30"
    bundle = next((kept[name] for name in _BUNDLES if kept.get(name)), "")
    own = "GIT_SSL_CAINFO" in kept or not address.startswith("https:")
    if bundle and not own and not _is_set("http.sslCAInfo", kept, folder):
        kept["GIT_SSL_CAINFO"] = bundle
    login = credentials.userinfo(address)
    if login and address.startswith("http"):
        kept |= dict(zip(("ENVGRAPH_GIT_USER", "ENVGRAPH_GIT_PASSWORD"), login, strict=True))
    return kept


def _protocols(address: str, offline: bool) -> str:
    """What git may speak: no helper, and no redirect from https to http."""
    if offline:
        return "file"
    return "file:git:https:ssh" + ("" if address.startswith("https:") else ":http")


def _is_set(setting: str, environment: Mapping[str, str], folder: Path) -> bool:
    """Whether the user's git has a setting of its own."""
    with suppress(FileNotFoundError, subprocess.TimeoutExpired):
        done = subprocess.run(
            ["git", "config", "--get", setting],
            env=dict(environment), cwd=folder, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        return bool(done.stdout.strip())
    return False
