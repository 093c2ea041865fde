"""uv, run with nothing of the user's configuration that changes answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envgraph.conda import credentials
from envgraph.errors import BuildError, OfflineError, PlatformError
from envgraph.lock.indexes import IndexOptions

_TIMEOUT: Final = 1800
_NO_WHEELS: Final = re.compile(r"Wheels are required for|has no usable wheels|has no wheels")
_KEPT_VARIABLES: Final = re.compile(
    r"PATH|HOME|LANG|LC_.*|TMPDIR|NETRC|SSL_CERT_(FILE|DIR)|SSL_CLIENT_CERT|XDG_.*|USER|LOGNAME"
    r"|(https?|all|no|ftp)_proxy|(HTTPS?|ALL|NO|FTP)_PROXY|GIT_SSH.*|SSH_AUTH_SOCK"
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """uv's answer: ``text`` is a pylock, or ``error`` says why there is none."""

    text: str
    error: str
    missing_wheels: bool


class Uv:
    """The uv that is installed with envgraph."""

    def __init__(self, cache: Path, options: IndexOptions, *, offline: bool) -> None:
        """Bind; nothing is run."""
        self._cache = cache
        self._options = options
        self._offline = offline

    @staticmethod
    def executable() -> str:
        """Where uv's binary is; PlatformError when it is missing."""
        import uv

        try:
            return str(uv.find_uv_bin())
        except FileNotFoundError as error:
            raise PlatformError(
                "uv's program is missing", detail=str(error), hint="pip install uv"
            ) from None

    def version(self) -> str:
        """``uv 0.13.9``."""
        from importlib.metadata import version

        return "uv " + version("uv")

    def environment(self) -> dict[str, str]:
        """What uv may see.

        Addresses go here and not onto the command line, which everybody can read.
        """
        options = self._options
        clean = {k: v for k, v in os.environ.items() if _KEPT_VARIABLES.fullmatch(k)}
        if options.default:
            clean["UV_DEFAULT_INDEX"] = options.default
        if options.extra:
            clean["UV_INDEX"] = " ".join(options.extra)
        if options.find_links:
            clean["UV_FIND_LINKS"] = ",".join(options.find_links)
        if options.insecure_hosts:
            clean["UV_INSECURE_HOST"] = " ".join(options.insecure_hosts)
        clean["SOURCE_DATE_EPOCH"] = "315532800"
        clean["UV_PYTHON_DOWNLOADS"] = "never"
        clean["GIT_TERMINAL_PROMPT"] = "0"
        return clean

    def common(self) -> list[str]:
        """Arguments of every call."""
        found = [
            "--no-config",
            "--no-progress",
            "--color",
            "never",
            "--cache-dir",
            str(self._cache),
        ]
        if self._options.no_index:
            found.append("--no-index")
        if self._offline:
            found.append("--offline")
        return found

    def run(
        self, arguments: Sequence[str], folder: Path, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run uv in ``folder``; its output is text, not masked yet."""
        try:
            return subprocess.run(
                [self.executable(), *arguments],
                cwd=folder,
                env=self.environment() | dict(more or {}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BuildError(
                f"uv {arguments[0]} took more than {_TIMEOUT} seconds", code="uv-timeout"
            ) from None

    def compile(
        self,
        wanted: Sequence[str],
        limits: Sequence[str],
        folder: Path,
        arguments: Sequence[str],
    ) -> Compiled:
        """Resolve ``wanted`` under ``limits``; requirements are lines of text."""
        if self._offline and self._options.needs_connection():
            raise OfflineError(
                "resolving the pip section needs a connection to "
                + ", ".join(map(credentials.clean, self._options.all_addresses()))
                if self._options.all_addresses()
                else "resolving the pip section needs a connection to the default index",
                hint="run it without --offline, or name file:// indexes in pip_indexes",
            )
        _private(folder / "in.txt", wanted)
        _private(folder / "limits.txt", limits)
        more = ["--prerelease", "allow"] if self._options.prereleases else []
        done = self.run(
            ["pip", "compile", "in.txt", "-c", "limits.txt", "--format", "pylock.toml",
             "--no-header", "--quiet", *self.common(), *more, *arguments],
            folder,
        )  # fmt: skip
        for name in ("in.txt", "limits.txt"):
            (folder / name).unlink()
        if done.returncode == 0:
            return Compiled(done.stdout, "", False)
        return Compiled("", self.tidy(done.stderr), bool(_NO_WHEELS.search(done.stderr)))

    def with_login(self, url: str) -> str:
        """``url`` with the login of the index of the same origin."""
        return self._options.with_login(url)

    def tidy(self, text: str) -> str:
        """Uv's words without secrets, colours and its hints about its own options."""
        text = credentials.mask(text, self._options.known_secrets())
        text = re.sub(r"^(error|  cause|warning): ?", "", text, flags=re.MULTILINE)
        said, *hints = text.split("\nhint:")
        kept = [hint.strip() for hint in hints if "--" not in hint and "no-build" not in hint]
        return "\n".join([said.strip(), *kept])


def _private(path: Path, lines: Sequence[str]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.writelines(line + "\n" for line in lines)


def default_index() -> str:
    """The index that uv asks where nobody names one, in its own words; opens no connection."""
    done = subprocess.run(
        [Uv.executable(), "pip", "compile", "--no-config", "--offline", "--quiet",
         "--no-header", "--emit-index-url", "--python", sys.executable, "-"],
        input="", env={"PATH": os.environ.get("PATH", os.defpath)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"^--index-url (\S+)$", done.stdout, re.M)
    if found is None:
        raise PlatformError(
            "uv does not say which index it asks",
            code="uv-index",
            detail=done.stderr.strip()[-500:],
            hint="name it in envgraph.yaml: `pip_indexes:`",
        )
    return found[1]
