"""Logins as docker keeps them: ``config.json``, credential helpers, ``auths``.

Sources: docker/cli ``cli/config`` (``credHelpers`` before ``credsStore`` before ``auths``,
keys with or without scheme and path), docker-credential-helpers (the protocol of
``get`` and ``store``). What a helper or the file says is never part of a message.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from envgraph.api import Credentials, RegistryError
from envgraph_oci.auth import IDENTITY
from envgraph_oci.options import DOCKER_HUB, OciOptions, place_of, wrong

HUB_KEY: Final = "https://index.docker.io/v1/"
_HELPER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,100}", re.ASCII)
_LIMIT: Final = 4 << 20
_SECONDS: Final = 60.0


def server_key(host: str) -> str:
    """The name under which docker keeps a host's login."""
    title = place_of(OciOptions(_hostname(host))).title
    return HUB_KEY if title == DOCKER_HUB else title


def _hostname(key: str) -> str:
    """``host[:port]`` of a key such as ``https://host/v1/`` (docker's ConvertToHostname)."""
    return re.sub(r"\A[a-z]+://", "", key).partition("/")[0].lower()


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """The user's ``config.json`` below ``$DOCKER_CONFIG`` or ``~/.docker``; read at each call."""

    path: Path
    environ: Mapping[str, str]

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> DockerConfig:
        """The file that docker itself would read."""
        folder = environ.get("DOCKER_CONFIG") or ""
        home = environ.get("HOME") or ""
        if not folder and not home:
            with contextlib.suppress(RuntimeError):
                home = str(Path.home())
        return cls(Path(folder or Path(home, ".docker"), "config.json"), environ)

    def login(self, host: str) -> Credentials | None:
        """The login for a ``host[:port]``; RegistryError when file or helper are broken."""
        document = self._read()
        key = server_key(host)
        helper = _helper(document, key)
        found = self._from_helper(helper, key) if helper else None
        return found or self._from_auths(document, key)

    def keep(self, host: str, login: Credentials) -> str:
        """Keep a login as ``docker login`` would; where, in words."""
        document = self._read()
        key = server_key(host)
        helper = _helper(document, key)
        if helper:
            secret = {"ServerURL": key, "Username": login.username, "Secret": login.password}
            if self._run(helper, "store", json.dumps(secret)) is None:
                raise _failed(helper, "store")
            return f"docker's credential helper {helper}"
        auths = document.setdefault("auths", {})
        if not isinstance(auths, dict):
            raise self._broken("auths is no object")
        auths[key] = _entry(login)
        self._write(document)
        return str(self.path)

    def _read(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                data = file.read(_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise self._broken(error.strerror or "it cannot be read") from None
        try:
            document = json.loads(data) if len(data) <= _LIMIT else None
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise self._broken("it is no JSON object")
        return document

    def _broken(self, why: str) -> RegistryError:
        return wrong(f"docker's {self.path} cannot be used: {why}", "repair it, or move it away")

    def _from_auths(self, document: Mapping[str, Any], key: str) -> Credentials | None:
        auths = document.get("auths")
        if not isinstance(auths, dict):
            return None
        entry = auths.get(key)
        if entry is None:
            host = _hostname(key)
            entry = next((v for k, v in auths.items() if _hostname(k) == host), None)
        return self._read_entry(entry) if isinstance(entry, dict) else None

    def _read_entry(self, entry: Mapping[str, Any]) -> Credentials | None:
        texts = {k: v for k, v in entry.items() if isinstance(v, str) and v}
        if "registrytoken" in texts:
            return Credentials(token=texts["registrytoken"])
        if "identitytoken" in texts:
            return Credentials(IDENTITY, texts["identitytoken"])
        name, password = texts.get("username", ""), texts.get("password", "")
        if "auth" in texts:
            try:
                pair = base64.b64decode(texts["auth"], validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise self._broken("an `auth` in it is no base64 of NAME:PASSWORD") from None
            name, _, password = pair.partition(":")
            password = password.rstrip("\0")  # docker does so, for old Windows clients
        return Credentials(name, password) if name or password else None

    def _from_helper(self, helper: str, key: str) -> Credentials | None:
        answer = self._run(helper, "get", key)
        if answer is None:
            return None
        try:
            document = json.loads(answer)
            name, secret = document["Username"], document["Secret"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _failed(helper, "get") from None
        if not isinstance(name, str) or not isinstance(secret, str):
            raise _failed(helper, "get")
        return Credentials(name, secret) if secret else None

    def _run(self, helper: str, verb: str, text: str) -> str | None:
        """A helper's answer; None when it has no login for that."""
        if not _HELPER.fullmatch(helper):
            raise wrong(f"{helper[:100]!r} is no name of a docker credential helper")
        name = f"docker-credential-{helper}"
        program = shutil.which(name, path=self.environ.get("PATH", os.defpath))
        if program is None:
            raise wrong(
                f"docker's {self.path} names the credential helper {name}, which is not installed",
                "install it, or take it out of the file",
            )
        try:
            done = subprocess.run(
                [program, verb],
                input=text.encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(self.environ),
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise _failed(helper, verb) from None
        answer = done.stdout[:_LIMIT].decode(errors="replace")
        if done.returncode == 0:
            return answer
        if verb == "get" and "credentials not found" in answer:
            return None
        raise _failed(helper, verb)

    def _write(self, document: Mapping[str, Any]) -> None:
        """Replace the file at once, for its owner alone; a link to it stays one."""
        target = Path(os.path.realpath(self.path))
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(prefix=".config.json.", dir=target.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(document, file, indent="\t", ensure_ascii=False)
                    file.write("\n")
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(target)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise wrong(f"{self.path} cannot be written: {error.strerror}") from None


def _helper(document: Mapping[str, Any], key: str) -> str:
    """The helper that docker would ask for a key; empty without one."""
    helpers = document.get("credHelpers")
    for name in (key, _hostname(key)):
        found = helpers.get(name) if isinstance(helpers, dict) else None
        if isinstance(found, str) and found:
            return found
    store = document.get("credsStore")
    return store if isinstance(store, str) else ""


def _entry(login: Credentials) -> dict[str, str]:
    if login.username == IDENTITY:
        return {"auth": base64.b64encode(b":").decode(), "identitytoken": login.password}
    pair = f"{login.username}:{login.password}"
    return {"auth": base64.b64encode(pair.encode()).decode()}


def _failed(helper: str, verb: str) -> RegistryError:
    return RegistryError(
        f"the credential helper docker-credential-{helper} failed to {verb} a login",
        code="registry-options",
        hint=f"try `docker-credential-{helper} list`",
    )
