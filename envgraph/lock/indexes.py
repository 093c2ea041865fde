"""Where pip packages come from: the file's options and the workspace's indexes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envgraph.conda import credentials
from envgraph.errors import Diagnostic
from envgraph.model.config import WorkspaceConfig
from envgraph.model.spec import CondaSpec, PipLine

_IGNORED = ("--prefer-binary", "--only-binary", "--disable-pip-version-check", "--no-cache-dir")


@dataclass(slots=True)
class IndexOptions:
    """Indexes with credentials in place; never printed, stored or put on a command line."""

    environ: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)
    default: str = field(default="", repr=False)
    extra: list[str] = field(default_factory=list, repr=False)
    find_links: list[str] = field(default_factory=list, repr=False)
    no_index: bool = False
    prereleases: bool = False
    insecure_hosts: list[str] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def all_addresses(self) -> list[str]:
        """Every address, with its credentials."""
        return [a for a in (self.default, *self.extra, *self.find_links) if a]

    def known_secrets(self) -> list[str]:
        """Every secret in them, for masking."""
        return [s for address in self.all_addresses() for s in credentials.secrets_of(address)]

    def with_login(self, url: str) -> str:
        """``url`` with the user and password of the index of the same origin, if any."""
        return credentials.with_login(url, self.all_addresses())

    def needs_connection(self) -> bool:
        """Whether anything but files would be asked."""
        remote = [a for a in self.all_addresses() if not a.startswith("file://")]
        return bool(remote) or (not self.default and not self.no_index)


def index_options(
    conda: CondaSpec, config: WorkspaceConfig, environ: Mapping[str, str] | None = None
) -> IndexOptions:
    """The file's options, then the workspace's ``pip_indexes`` instead of the default.

    The first of ``pip_indexes`` takes the place of the default index, the others come before
    it. A package is taken from the first index that has its name, so a public one
    cannot put its own in the place of a private one.
    """
    env = os.environ if environ is None else environ
    options = IndexOptions(env, config.secrets)
    folder = Path(conda.file).parent if conda.file else Path(config.root or ".")
    for index, text in enumerate(config.pip_indexes):
        address = _address(text, Path(config.root or "."), options)
        if index == 0:
            options.default = address
        else:
            options.extra.append(address)
    for line in conda.pip:
        if line.kind == "option":
            _take(line, options, folder)
    return options


def _address(text: str, folder: Path, options: IndexOptions) -> str:
    expanded = credentials.expand(text, options.environ, options.secrets)
    if "://" in expanded:
        return expanded
    return Path(os.path.normpath(folder / Path(expanded).expanduser())).absolute().as_uri()


def _take(line: PipLine, options: IndexOptions, folder: Path) -> None:
    name, _, value = line.text.replace("=", " ", 1).partition(" ") if (
        line.text.startswith("--") and "=" in line.text.split(" ", 1)[0]
    ) else line.text.partition(" ")  # fmt: skip
    value = value.strip()
    if name in ("-i", "--index-url"):
        options.default = _address(value, folder, options)
    elif name == "--extra-index-url":
        options.extra.append(_address(value, folder, options))
    elif name in ("-f", "--find-links"):
        options.find_links.append(_address(value, folder, options))
    elif name == "--no-index":
        options.no_index = True
    elif name == "--pre":
        options.prereleases = True
    elif name == "--trusted-host":
        options.insecure_hosts.append(value)
    elif name not in _IGNORED:
        options.diagnostics.append(
            Diagnostic(
                "pip-option",
                f"the option {name} is not honoured",
                source=line.source,
                severity="warning",
            )
        )
