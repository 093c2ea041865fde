"""A foreign package → a locked one: what the other tool left out comes from the archive.

Nothing is pinned on an md5 or on nothing: such an archive is fetched, everything that
the lock does say of it is checked, and its sha256 is recorded (RELIABILITY 69). What
was fetched stays in the store's packages, so that apply needs no second download.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from envgraph.conda import credentials
from envgraph.conda.fetch import Measured, measure, places
from envgraph.conda.transport import Transport
from envgraph.errors import (
    Diagnostic,
    EnvgraphError,
    FetchError,
    InputError,
    IntegrityError,
    OfflineError,
)
from envgraph.image.archive_errors import ArchiveError
from envgraph.image.conda_archive import open_conda_archive
from envgraph.interchange.imports.foreign import ForeignPackage, is_wheel
from envgraph.lock.packages import PackageStore
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest

_NOT_KNOWN: Final = Digest.of(b"")
"""Stands for a digest until the archive has been read; it never leaves this module."""

_CANNOT_BE_HAD: Final = (OfflineError.default_code, FetchError.default_code)
_TOLD_APART: Final = 3


@dataclass(frozen=True, slots=True)
class Completed:
    """A locked package, and how many bytes had to be fetched for it."""

    package: LockedPackage
    fetched: int = 0


class Completer:
    """Completes the packages of one import. Threads may share it."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: PackageStore,
        transport: Transport,
        *,
        offline: bool,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Bind the parts; opens nothing."""
        self._config = config
        self._store = store
        self._transport = transport
        self._offline = offline
        self._environ = os.environ if environ is None else environ

    def complete(self, package: ForeignPackage) -> Completed:
        """The package with all that a lock must say.

        IntegrityError: the archive is not what the lock says. FetchError, OfflineError:
        it cannot be had, and the lock alone does not say enough. InputError: it is no
        archive at all.
        """
        problem = package.problem
        if not problem and package.manager == "pip" and not is_wheel(package.url):
            problem = "it is no wheel: envgraph builds such a package only when it locks itself"
        if problem:
            raise InputError(
                f"{package.title} cannot be imported", code="import-source", detail=problem,
                hint="name it in the environment file instead, and let `envgraph lock` solve it",
            )  # fmt: skip
        if package.manager == "conda" and package.noarch is not None and _whole(package):
            return Completed(_conda(package, _said(package), {}))
        if package.manager == "pip" and package.sha256 and package.size:
            return Completed(_wheel(package, _said(package)))
        measured, fetched = self._measured(package)
        if package.manager == "pip":
            return Completed(_wheel(package, measured), fetched)
        index = self._index(package, Digest.from_hex(measured.sha256))
        return Completed(_conda(package, measured, index), fetched)

    def _measured(self, package: ForeignPackage) -> tuple[Measured, int]:
        """What the archive's bytes are, once they are in the store, and what was fetched."""
        if package.sha256 and self._store.has(Digest.from_hex(package.sha256)):
            place = self._store.path(Digest.from_hex(package.sha256)).absolute().as_uri()
            found = measure(place, lambda data: None, offline=True)
            _check(package, found)
            return found, 0
        failures: list[EnvgraphError] = []
        for place in self._places(package):
            writer = self._store.writer()
            try:
                found = measure(
                    place, writer.write, offline=self._offline, transport=self._transport
                )
                _check(package, found)
            except (FetchError, OfflineError) as error:
                writer.abort()
                failures.append(error)
                continue
            except BaseException:
                writer.abort()
                raise
            if writer.finish().hex != found.sha256:
                raise IntegrityError("the store kept other bytes than were read", code="wrong-hash")
            return found, found.size
        raise _nowhere(package, failures)

    def _places(self, package: ForeignPackage) -> list[str]:
        draft = replace(_conda(package, Measured("", "", 0), {}), manager=package.manager)
        return places(draft, self._config, known=None, conda=None, environ=self._environ)

    def _index(self, package: ForeignPackage, digest: Digest) -> Mapping[str, Any]:
        """The archive's ``info/index.json``, which must be about this package."""
        try:
            with self._store.path(digest).open("rb") as file:
                index = open_conda_archive(file).document("index.json")
        except ArchiveError as error:
            raise IntegrityError(
                f"{package.title}: its archive is no conda package", code="bad-archive",
                detail=str(error),
            ) from error  # fmt: skip
        said = (package.name, package.version, package.build)
        if not isinstance(index, dict) or said != tuple(
            str(index.get(key, "")).lower() if key == "name" else str(index.get(key, ""))
            for key in ("name", "version", "build")
        ):
            raise IntegrityError(
                f"{package.title}: its archive holds another package", code="wrong-package",
                detail=credentials.mask(package.url),
            )  # fmt: skip
        return index


def told_once(problems: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Archives that cannot be had, as one problem where they are many: often it is all."""
    told: list[Diagnostic] = []
    by_code: dict[str, list[Diagnostic]] = {}
    for problem in problems:
        by_code.setdefault(problem.code, []).append(problem)
    for code, found in by_code.items():
        if code not in _CANNOT_BE_HAD or len(found) <= _TOLD_APART:
            told += found
            continue
        names = [d.summary.partition(":")[0] for d in found[1:_TOLD_APART]]
        names.append(f"and {len(found) - _TOLD_APART} more")
        told.append(
            replace(
                found[0],
                summary=f"{len(found)} packages: the lock does not say all of them, and their "
                "archives cannot be had",
                detail="\n".join([found[0].summary, found[0].detail, *names]),
            )
        )
    return told


def _whole(package: ForeignPackage) -> bool:
    return bool(
        package.sha256 and package.md5 and package.size and package.depends is not None
        and package.build_number is not None
    )  # fmt: skip


def _said(package: ForeignPackage) -> Measured:
    return Measured(package.sha256, package.md5, package.size)


def _check(package: ForeignPackage, found: Measured) -> None:
    for what, said, real in (
        ("sha256", package.sha256, found.sha256),
        ("md5", package.md5, found.md5),
        ("size", package.size, found.size),
    ):
        if said and said != real:
            raise IntegrityError(
                f"{package.title}: the archive is not what the lock says",
                code="wrong-hash",
                detail=f"{package.place}: {what} is {real}, the lock says {said}".lstrip(": "),
                hint="was the lock edited, or the archive replaced? nothing was imported",
            )


def _nowhere(package: ForeignPackage, failures: list[EnvgraphError]) -> EnvgraphError:
    needs = "all of it" if package.size else "its size" if package.sha256 else "its sha256"
    details = [d for failure in failures for d in failure.diagnostics]
    kind = OfflineError if any(isinstance(f, OfflineError) for f in failures) else FetchError
    error = kind(
        f"{package.title}: the lock does not say {needs}, and the archive cannot be had",
        detail="\n".join(
            dict.fromkeys(": ".join(filter(None, (d.summary, d.detail))) for d in details)
        ),
        hint=next((d.hint for d in details if d.hint), ""),
    )
    if isinstance(error, FetchError):
        error.retryable = any(isinstance(f, FetchError) and f.retryable for f in failures)
    return error


def _conda(package: ForeignPackage, measured: Measured, index: Mapping[str, Any]) -> LockedPackage:
    """What the lock says wins over the archive: channels mend dependencies afterwards."""
    noarch = package.noarch if package.noarch is not None else _noarch(index)
    stamp = index.get("timestamp")
    number = package.build_number
    return LockedPackage(
        manager="conda",
        name=package.name,
        version=package.version,
        build=package.build,
        subdir=package.subdir,
        sha256=Digest.from_hex(measured.sha256) if measured.sha256 else _NOT_KNOWN,
        channel=package.channel,
        file_name=package.file_name,
        url=package.url,
        size=measured.size,
        md5=measured.md5,
        build_number=number if number is not None else _whole_number(index.get("build_number")),
        noarch="python" if noarch == "python" else "generic" if noarch else "",
        depends=package.depends if package.depends is not None else _texts(index.get("depends")),
        constrains=package.constrains or _texts(index.get("constrains")),
        timestamp_ms=package.timestamp_ms or _whole_number(stamp),
        license=package.license or str(index.get("license") or ""),
        python_site_packages_path=package.python_site_packages_path
        or str(index.get("python_site_packages_path") or ""),
    )


def _noarch(index: Mapping[str, Any]) -> str:
    value = index.get("noarch")
    return "python" if value in ("python", True) else str(value or "")


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _wheel(package: ForeignPackage, measured: Measured) -> LockedPackage:
    return LockedPackage(
        manager="pip",
        name=package.name,
        version=package.version,
        build="",
        subdir="",
        sha256=Digest.from_hex(measured.sha256),
        channel="",
        file_name=package.file_name,
        url=package.url,
        size=measured.size,
    )
