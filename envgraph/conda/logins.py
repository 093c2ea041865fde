"""Logins of the user's setup: netrc, rattler's and anaconda-client's token files.

Read when asked, from the files that those tools document; nothing is cached
across runs and nothing is written.
"""

from __future__ import annotations

import base64
import json
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from envgraph.folders import home_folder


def _home(environ: Mapping[str, str]) -> Path:
    """The user's home; below the null device, where nothing lies, for a user without one."""
    try:
        return Path(home_folder(environ))
    except FileNotFoundError:
        return Path(os.devnull)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass
class Logins:
    """Who we are for which host."""

    environ: Mapping[str, str]
    _hosts: dict[str, str] | None = field(default=None, repr=False)

    def header(self, url: str) -> str:
        """The Authorization header for ``url``'s host, or empty."""
        host = urlsplit(url).hostname or ""
        if self._hosts is None:
            self._hosts = self._load()
        if host in self._hosts:
            return self._hosts[host]
        parts = host.split(".")
        for start in range(1, len(parts) - 1):
            found = self._hosts.get("*." + ".".join(parts[start:]))
            if found:
                return found
        return ""

    def _load(self) -> dict[str, str]:
        hosts: dict[str, str] = {}
        hosts |= self._anaconda_tokens()
        hosts |= self._rattler()
        hosts |= self._netrc()
        return hosts

    def _netrc(self) -> dict[str, str]:
        named = self.environ.get("NETRC")
        path = Path(named) if named else _home(self.environ) / ".netrc"
        try:
            entries = netrc.netrc(str(path)).hosts
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            return {}
        return {
            host: _basic(user or account or "", password or "")
            for host, (user, account, password) in entries.items()
            if host != "default"
        }

    def _rattler(self) -> dict[str, str]:
        named = self.environ.get("RATTLER_AUTH_FILE")
        path = Path(named) if named else _home(self.environ) / ".rattler" / "credentials.json"
        try:
            entries = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        hosts: dict[str, str] = {}
        for host, entry in entries.items() if isinstance(entries, dict) else ():
            if not isinstance(entry, dict):
                continue
            if "BearerToken" in entry:
                hosts[host] = f"Bearer {entry['BearerToken']}"
            elif "CondaToken" in entry:
                hosts[host] = f"token {entry['CondaToken']}"
            elif isinstance(entry.get("BasicHTTP"), dict):
                login = entry["BasicHTTP"]
                hosts[host] = _basic(str(login.get("username", "")), str(login.get("password", "")))
        return hosts

    def _anaconda_tokens(self) -> dict[str, str]:
        hosts: dict[str, str] = {}
        for folder in (
            _home(self.environ) / ".continuum" / "anaconda-client" / "tokens",
            _home(self.environ) / ".config" / "binstar",
        ):
            try:
                files = sorted(folder.glob("*.token"))
                for file in files:
                    site = urlsplit(unquote(file.name.removesuffix(".token"))).hostname or ""
                    token = file.read_text("utf-8").strip()
                    if token and site:
                        # api.anaconda.org's token opens conda.anaconda.org's channels.
                        hosts[site] = f"token {token}"
                        hosts[site.replace("api.", "conda.", 1)] = f"token {token}"
            except OSError:
                continue
        return hosts
