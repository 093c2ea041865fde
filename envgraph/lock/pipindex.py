"""What package indexes say now of wheels that were locked: there, yanked, or left behind.

The pages of the simple API are read as HTML, which every index has (PEP 503, with
``data-yanked`` of PEP 592 and ``data-requires-python``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from envgraph.conda import credentials
from envgraph.conda.transport import Transport
from envgraph.errors import EnvgraphError, FetchError
from envgraph.lock.indexes import index_options
from envgraph.lock.uvtool import default_index
from envgraph.model.config import WorkspaceConfig
from envgraph.model.drift import PackageStanding
from envgraph.model.locked import LockedEnvironment, LockedPackage
from envgraph.model.spec import CondaSpec

if TYPE_CHECKING:
    from packaging.version import Version

PAGE_LIMIT: Final = 64 << 20
_GONE: Final = (404, 410)


@dataclass(frozen=True, slots=True)
class WantedWheel:
    """A locked wheel, the indexes to ask in order, and what its environment asks of it.

    ``indexes`` may carry credentials and are never printed. ``requirements`` are PEP 508
    texts on its name; ``python`` is the locked Python's version.
    """

    package: LockedPackage
    indexes: tuple[str, ...] = field(repr=False)
    requirements: frozenset[str] = frozenset()
    python: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a project's page."""

    name: str
    sha256: str
    requires_python: str
    yanked: bool


def wanted_wheels(
    lock: LockedEnvironment, conda: CondaSpec, config: WorkspaceConfig
) -> tuple[WantedWheel, ...]:
    """The wheels of a lock that came from an index; InputError for a secret that is not there.

    Those of a project, an address, or only of ``--find-links`` are no index's to judge.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    wheels = [package for package in lock.packages if package.manager == "pip"]
    if not wheels:
        return ()
    options = index_options(conda, config)
    if options.no_index:
        return ()
    texts: dict[str, set[str]] = {}
    elsewhere = set()
    for line in conda.pip:
        if line.kind in ("requirement", "constraint"):
            try:
                texts.setdefault(canonicalize_name(Requirement(line.text).name), set()).add(
                    line.text
                )
            except InvalidRequirement:
                continue
        elif line.kind == "url" and " @ " in line.text:
            elsewhere.add(canonicalize_name(line.text.partition(" @ ")[0].partition("[")[0]))
    indexes = (*options.extra, options.default or default_index())
    python = "" if lock.python is None else lock.python.version
    return tuple(
        WantedWheel(package, indexes, frozenset(texts.get(package.name, ())), python)
        for package in wheels
        if package.reproducible
        and package.name not in elsewhere
        and not package.url.startswith("git+")
    )


class PackageIndexes:
    """Asks indexes; each page is read once. Opens nothing before the first question."""

    def __init__(self, transport: Transport) -> None:
        """Bind."""
        self._transport = transport
        self._pages: dict[str, tuple[_File, ...] | EnvgraphError | None] = {}

    def ask(self, wanted: WantedWheel) -> PackageStanding:
        """The wheel's standing in the first index that has its name, as uv takes it.

        FetchError when an index before that does not answer.
        """
        for index in wanted.indexes:
            files = self._page(index, wanted.package.name)
            if files is not None:
                return _standing(wanted, files)
        return PackageStanding("gone")

    def _page(self, index: str, name: str) -> tuple[_File, ...] | None:
        url = f"{index.rstrip('/')}/{name}/"
        if url not in self._pages:
            try:
                self._pages[url] = self._read(url)
            except EnvgraphError as error:
                self._pages[url] = error
        answer = self._pages[url]
        if isinstance(answer, EnvgraphError):
            raise EnvgraphError(answer.diagnostics)
        return answer

    def _read(self, url: str) -> tuple[_File, ...] | None:
        """The files of a project's page; None when the index has no such project."""
        if url.startswith("file://"):
            path = Path(unquote(urlsplit(url).path), "index.html")
            try:
                return _files(path.read_bytes()) if path.parent.is_dir() else None
            except OSError as error:
                raise FetchError(
                    f"{path} cannot be read", detail=error.strerror or str(error)
                ) from None
        chunks: list[bytes] = []
        try:
            self._transport.get(url, chunks.append, size=None, limit=PAGE_LIMIT)
        except FetchError as error:
            if error.status in _GONE:
                return None
            raise
        return _files(b"".join(chunks))


def needs_connection(wanted: WantedWheel) -> str:
    """The first index that is no folder, without credentials; empty when all are."""
    remote = [index for index in wanted.indexes if not index.startswith("file://")]
    return credentials.clean(remote[0]) if remote else ""


def _files(page: bytes) -> tuple[_File, ...]:
    reader = _Page()
    reader.feed(page.decode("utf-8", "replace"))
    return tuple(reader.files)


class _Page(HTMLParser):
    """Collects the anchors of a project's page."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[_File] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One anchor is one file."""
        found = dict(attrs)
        href = found.get("href")
        if tag != "a" or not href:
            return
        address, _, fragment = href.partition("#")
        self.files.append(
            _File(
                unquote(address.partition("?")[0].rstrip("/").rpartition("/")[2]),
                fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else "",
                found.get("data-requires-python") or "",
                "data-yanked" in found,
            )
        )


def _standing(wanted: WantedWheel, files: Sequence[_File]) -> PackageStanding:
    from packaging.version import InvalidVersion, Version

    package = wanted.package
    try:
        versions, held = _newer(wanted, Version(package.version), files)
    except InvalidVersion:
        versions, held = (), 0
    same = next((file for file in files if file.name == package.file_name), None)
    if same is None or same.yanked:
        return PackageStanding("gone", versions, 0, held)
    if same.sha256 and same.sha256 != package.sha256.hex:
        return PackageStanding("changed", versions, 0, held, same.sha256)
    return PackageStanding("same", versions, 0, held, same.sha256)


def _newer(
    wanted: WantedWheel, locked: Version, files: Iterable[_File]
) -> tuple[tuple[str, ...], int]:
    """Newer versions that the environment could have, and the number of those it could not."""
    found: dict[Version, bool] = {}
    for file in files:
        version = _version(file.name)
        if version is None or version <= locked or file.yanked:
            continue
        if version.is_prerelease and not locked.is_prerelease:
            continue
        found[version] = found.get(version, False) or _fits(wanted, version, file)
    fitting = sorted(version for version, fits in found.items() if fits)
    return tuple(str(version) for version in fitting), len(found) - len(fitting)


def _fits(wanted: WantedWheel, version: Version, file: _File) -> bool:
    from packaging.requirements import Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        if wanted.python and wanted.python not in SpecifierSet(file.requires_python):
            return False
    except InvalidSpecifier:
        return False
    return all(
        Requirement(text).specifier.contains(version, prereleases=True)
        for text in wanted.requirements
    )


def _version(file_name: str) -> Version | None:
    """The version in the name of a wheel or an sdist; None for any other file."""
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    try:
        if file_name.endswith(".whl"):
            return parse_wheel_filename(file_name)[1]
        return parse_sdist_filename(file_name)[1]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
