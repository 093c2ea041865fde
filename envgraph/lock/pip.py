"""The pip section, resolved after conda and within what conda chose.

conda's Python packages are given to uv as empty wheels that constraints point
to, so they satisfy requirements, conflict where they must, and are never
downloaded. Everything becomes a wheel with its sha256 and size; what has no wheel
is built once (:mod:`envgraph.lock.build`) and marked as not reproducible.
``PIP_*`` and ``UV_*`` variables and configuration files are not read.
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from envgraph.conda import credentials
from envgraph.conda.transport import Transport
from envgraph.errors import Diagnostic, EnvgraphError, FetchError, InputError, ResolveError
from envgraph.lock.build import Builder
from envgraph.lock.indexes import IndexOptions, index_options
from envgraph.lock.packages import PackageStore, keep
from envgraph.lock.uvtool import Uv
from envgraph.lock.wheeltags import (
    best_wheel,
    python_packages,
    still_fits,
    uv_platform,
    write_stub,
)
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedEnvironment, LockedPackage
from envgraph.model.spec import CondaSpec, PipLine
from envgraph_store.digest import Digest

_UNREACHABLE: Final = re.compile(
    r"Failed to fetch|error sending request|Could not connect|Request failed|HTTP status"
    r"|Missing credentials|authentication credentials|Unauthorized|Failed to read `--find-links`"
)
_CONFLICT: Final = re.compile(r"you require ([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class PipRequest:
    """What to resolve: the section, the platform, and what conda chose for it."""

    conda: CondaSpec
    platform: str
    chosen: tuple[LockedPackage, ...]
    virtual_packages: Mapping[str, str]
    previous: LockedEnvironment | None = None
    update: frozenset[str] | None = None
    same_definition: bool = False
    """``previous`` answers the very same lines: what they were built into stays."""

    @property
    def python(self) -> LockedPackage:
        """Conda's Python; InputError when the conda part brings none."""
        for package in self.chosen:
            if package.name == "python":
                return package
        place = self.conda.pip[0].source if self.conda.pip else None
        raise InputError(
            "a pip section needs Python",
            code="pip-without-python",
            source=place,
            hint="add `python` (and `pip`) to dependencies",
        )


@dataclass(frozen=True, slots=True)
class PipAnswer:
    """Locked wheels by name, and what there is to say."""

    packages: tuple[LockedPackage, ...]
    solver: str
    diagnostics: tuple[Diagnostic, ...] = ()


def resolve_pip(
    request: PipRequest,
    config: WorkspaceConfig,
    store: PackageStore,
    *,
    cache: Path,
    offline: bool,
    transport: Transport | None = None,
) -> PipAnswer:
    """Resolve and lock the pip section. Raises InputError, ResolveError, FetchError."""
    python = request.python
    options = index_options(request.conda, config)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pip-", dir=cache) as name:
        folder = Path(name)
        uv = Uv(cache / "uv", options, offline=offline)
        builder = Builder(request.chosen, request.platform, config, store, uv, folder,
                          offline=offline, transport=transport,
                          before=_before(request))  # fmt: skip
        made = [builder.line(line) for line in request.conda.pip if line.kind in _MADE]
        work = _Work(request, options, uv, builder, store, folder, python, made, offline, transport)
        packages, diagnostics = work.resolve()
    _check_hashes(request.conda.pip, packages)
    editable = [line for line in request.conda.pip if line.editable]
    return PipAnswer(
        tuple(sorted(packages, key=lambda p: p.name)),
        uv.version(),
        (*diagnostics, *options.diagnostics, *(_not_editable(line) for line in editable)),
    )


def _check_hashes(lines: Sequence[PipLine], packages: Sequence[LockedPackage]) -> None:
    """``--hash`` is a promise: the wheel that was locked is one of those named."""
    by_name = {package.name: package for package in packages}
    for line in lines:
        named = [text.removeprefix("sha256:") for text in line.hashes if text.startswith("sha256:")]
        package = by_name.get(_name_of(line.text)) if named else None
        if package is not None and package.reproducible and package.sha256.hex not in named:
            raise ResolveError(
                f"{package.name} {package.version}: the wheel has none of the named hashes",
                code="wrong-hash",
                detail=f"sha256 is {package.sha256.hex}",
                source=line.source,
                hint="add the wheel's hash, or take the --hash options out",
            )


def _before(request: PipRequest) -> tuple[LockedPackage, ...]:
    if request.previous is None or request.update is None or not request.same_definition:
        return ()
    return tuple(p for p in request.previous.packages if _stays(p, request))


def _stays(package: LockedPackage, request: PipRequest) -> bool:
    return (
        package.manager == "pip"
        and package.name not in (request.update or ())
        and still_fits(package, request.python, request.platform, request.virtual_packages)
    )


_MADE: Final = ("project", "url")


def _not_editable(line: PipLine) -> Diagnostic:
    return Diagnostic(
        "pip-editable",
        f"{credentials.mask(line.text)} is installed as a copy, not editable",
        detail="an image cannot point to a folder of this machine",
        source=line.source,
        severity="warning",
    )


@dataclass(slots=True)
class _Work:
    request: PipRequest
    options: IndexOptions
    uv: Uv
    builder: Builder
    store: PackageStore
    folder: Path
    python: LockedPackage
    made: list[tuple[LockedPackage, str, Path]]
    offline: bool
    transport: Transport | None

    def resolve(self) -> tuple[list[LockedPackage], list[Diagnostic]]:
        conda = python_packages(self.request.chosen)
        stubs = {
            name: write_stub(self.folder / "conda", name, package.version)
            for name, package in conda.items()
        }
        direct = {_name_of(line.text) for line in self.request.conda.pip
                  if line.kind == "requirement"}  # fmt: skip
        kept, locked = self._compile_keeping(stubs, self._kept(), direct)
        diagnostics: list[Diagnostic] = []
        packages: list[LockedPackage] = []
        made = {package.name: package for package, _, _ in self.made}
        for entry in locked:
            name = entry["name"]
            if name in stubs:
                if name in direct:
                    diagnostics.append(_from_conda(name, conda[name]))
            elif name in made:
                packages.append(replace(made[name], direct=True))
            else:
                package = self._package(entry, kept)
                packages.append(replace(package, direct=name in direct))
        return packages, diagnostics + _moved(self._kept() if self.request.update else {}, packages)

    def _compile_keeping(
        self, stubs: Mapping[str, Path], kept: dict[str, LockedPackage], direct: set[str]
    ) -> tuple[dict[str, LockedPackage], list[dict[str, Any]]]:
        """Resolve with as much of the earlier lock as can stay: all, the nested, nothing."""
        nested = {name: package for name, package in kept.items() if name not in direct}
        for attempt in (kept, nested):
            if attempt:
                try:
                    return attempt, self._compile(stubs, attempt)
                except ResolveError:
                    continue
        return {}, self._compile(stubs, {})

    def _kept(self) -> dict[str, LockedPackage]:
        previous, update = self.request.previous, self.request.update
        if previous is None or update is None:
            return {}
        mine = {package.name for package, _, _ in self.made}
        return {
            p.name: p
            for p in previous.packages
            if _stays(p, self.request)
            and p.name not in mine
            and (p.reproducible or self.store.has(p.sha256))
        }

    def _compile(
        self, stubs: Mapping[str, Path], kept: Mapping[str, LockedPackage]
    ) -> list[dict[str, Any]]:
        wanted = [line.text for line in self.request.conda.pip if line.kind == "requirement"]
        wanted += [f"{p.name}{extras} @ {path.as_uri()}" for p, extras, path in self.made]
        limits = [line.text for line in self.request.conda.pip if line.kind == "constraint"]
        limits += [f"{name} @ {path.as_uri()}" for name, path in stubs.items()]
        limits += [f"{p.name}=={p.version}" for p in kept.values()]
        target = uv_platform(self.request.platform, self.request.virtual_packages)
        texts = [credentials.expand(t, self.options.environ, self.options.secrets) for t in wanted]
        arguments = ["--python-version", self.python.version, "--python-platform", target]
        outcome = self.uv.compile(
            texts, limits, self.folder, [*arguments, "--only-binary", ":all:"]
        )
        if outcome.missing_wheels:
            python = str(self.builder.python())
            outcome = self.uv.compile(texts, limits, self.folder, [*arguments, "--python", python])
        if outcome.error:
            raise self._failure(outcome.error, stubs)
        return list(tomllib.loads(outcome.text).get("packages", []))

    def _failure(self, text: str, stubs: Mapping[str, Path]) -> EnvgraphError:
        if _UNREACHABLE.search(text):
            error = FetchError(
                "an index of the pip section cannot be read",
                code="pip-index",
                detail=text,
                hint="is the address right? credentials go in as ${VARIABLE}, or into netrc",
            )
            error.retryable = True
            return error
        named = sorted({name for name in stubs if re.search(rf"\b{re.escape(name)}\b", text)})
        chosen = python_packages(self.request.chosen)
        place = next(
            (
                line.source
                for line in self.request.conda.pip
                if line.kind == "requirement" and _name_of(line.text) in _CONFLICT.findall(text)
            ),
            self.request.conda.pip[0].source,
        )
        hint = "; ".join(f"{n} {chosen[n].version} was chosen by conda" for n in named)
        return ResolveError(
            f"the pip section has no solution on {self.request.platform}",
            code="pip-unsatisfiable",
            detail=text,
            source=place,
            hint=hint,
        )

    def _package(
        self, entry: Mapping[str, Any], kept: Mapping[str, LockedPackage]
    ) -> LockedPackage:
        name, version = entry["name"], entry.get("version", "")
        old = kept.get(name)
        if old is not None and old.version == version:
            return old
        wheel = best_wheel(
            [w for w in entry.get("wheels", ()) if "url" in w or "path" in w],
            self.python,
            self.request.platform,
            self.request.virtual_packages,
        )
        if wheel is None:
            return self.builder.sdist(name, version, entry)
        place = wheel.get("url") or Path(wheel["path"]).absolute().as_uri()
        sha256, size = wheel.get("hashes", {}).get("sha256", ""), wheel.get("size", 0)
        if not sha256 or not size:
            measured = keep(
                self.store,
                self.options.with_login(place),
                offline=self.offline,
                transport=self.transport,
            )
            if sha256 and measured.sha256 != sha256:
                raise ResolveError(
                    f"{name} {version}: the wheel is not what its index says",
                    code="wrong-hash",
                    detail=f"sha256 is {measured.sha256}, the index says {sha256}",
                )
            sha256, size = measured.sha256, measured.size
        return LockedPackage(
            manager="pip",
            name=name,
            version=version,
            build="",
            subdir="",
            sha256=Digest.from_hex(sha256),
            channel="",
            file_name=unquote(urlsplit(place).path.rsplit("/", 1)[-1]),
            url=credentials.recorded(place),
            size=size,
        )


def _name_of(text: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        return str(canonicalize_name(Requirement(text).name))
    except InvalidRequirement:
        return ""


def _from_conda(name: str, package: LockedPackage) -> Diagnostic:
    return Diagnostic(
        "pip-from-conda",
        f"{name} {package.version} comes from conda, so pip does not install it",
        severity="info",
    )


def _moved(
    kept: Mapping[str, LockedPackage], packages: Sequence[LockedPackage]
) -> list[Diagnostic]:
    return [
        Diagnostic(
            "update-moved",
            f"{p.name} moves from {kept[p.name].version} to {p.version}: the update needs it",
            severity="warning",
        )
        for p in packages
        if p.name in kept and p.version != kept[p.name].version
    ]
