"""``python -m envgraph.conda.linkworker FOLDER``: the process that installs.

Reads ``FOLDER/request.json``, makes ``FOLDER/prefix``, writes ``FOLDER/result.json``
last, and leaves by ``os._exit``: rattler's background threads can crash an
interpreter that ends the usual way, when all work is done. When stdin ends, whoever
started it is dead: it removes FOLDER and ends with everything that it started.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from envgraph.conda.link import remove_tree
from envgraph.conda.wheels import install_wheel
from envgraph.errors import BuildError, EnvgraphError, InputError, IntegrityError
from envgraph.model.documents import package_from_document
from envgraph.model.locked import LockedPackage

_CHUNK: Final = 1 << 20


class _Reporter:
    """Link scripts by package: rattler says nothing else of one that failed (trap 4)."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.failed: list[str] = []

    def on_post_link_start(self, package_name: str, script_path: str) -> int:
        self.running.append(package_name)
        return len(self.running) - 1

    def on_post_link_complete(self, index: int, success: bool) -> None:
        if not success:
            self.failed.append(self.running[index])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *_, **__: 0
        raise AttributeError(name)


def _check_archive(path: Path, package: LockedPackage) -> None:
    """Rattler does not check ``file://`` archives (trap 2), so this does."""
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while data := stream.read(_CHUNK):
                hasher.update(data)
    except OSError as error:
        raise IntegrityError(
            f"{package.title}: its archive cannot be read",
            code="archive-missing",
            detail=error.strerror or str(error),
        ) from None
    if hasher.hexdigest() != package.sha256.hex:
        raise IntegrityError(
            f"{package.title}: its archive is not the one that was locked",
            code="wrong-hash",
            detail=f"sha256 is {hasher.hexdigest()}, the lock says {package.sha256.hex}",
        )


def _records(packages: list[tuple[LockedPackage, Path]], folder: Path) -> list[Any]:
    """Rattler's records, whose addresses are links with the archives' real names."""
    from rattler import PackageRecord, RepoDataRecord
    from rattler.package import BuildString

    records = []
    for number, (package, archive) in enumerate(packages):
        place = folder / str(number)
        place.mkdir(parents=True)
        (place / package.file_name).symlink_to(archive)
        record = PackageRecord(
            name=package.name,
            version=package.version,
            build=BuildString(package.build),
            build_number=package.build_number,
            subdir=package.subdir,
            noarch=package.noarch or None,
            depends=list(package.depends),
            constrains=list(package.constrains),
            sha256=bytes.fromhex(package.sha256.hex),
            md5=bytes.fromhex(package.md5) if package.md5 else None,
            size=package.size or None,
            license=package.license or None,
            python_site_packages_path=package.python_site_packages_path or None,
        )
        url = (place / package.file_name).as_uri()
        records.append(RepoDataRecord(record, package.file_name, url, place.as_uri()))
    return records


async def _install_conda(
    request: Mapping[str, Any], packages: list[tuple[LockedPackage, Path]], folder: Path
) -> list[str]:
    import rattler

    reporter = _Reporter()
    await rattler.install(
        _records(packages, folder / "archives"),
        target_prefix=folder / "prefix",
        alternative_target_prefix=request["prefix"],
        cache_dir=folder / "cache",
        installed_packages=[],
        platform=rattler.Subdir(request["platform"]),
        execute_link_scripts=bool(request["run_link_scripts"]),
        show_progress=False,
        reporter=reporter,
    )
    return reporter.failed


def _tidy_records(prefix: Path, packages: list[LockedPackage]) -> None:
    """conda-meta says where a package really came from, and no temporary folder."""
    by_name = {package.name: package for package in packages}
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        package = by_name[record["name"]]
        record["url"] = package.url
        record["channel"] = package.channel
        record["requested_specs"] = [package.name] if package.direct else []
        record.pop("extracted_package_dir", None)
        record.pop("package_tarball_full_path", None)
        if isinstance(record.get("link"), dict):
            record["link"]["source"] = ""
        path.write_text(json.dumps(record, indent=2, sort_keys=True), "utf-8")
        path.chmod(0o644)  # rattler makes them 0600, and nobody else could read the prefix


def _clobbers(prefix: Path) -> list[tuple[str, list[str]]]:
    """Paths that more than one package lists."""
    owners: dict[str, list[str]] = {}
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        for file in record.get("files", ()):
            owners.setdefault(file, []).append(record["name"])
    lost = prefix / "__clobbers__"
    for package in sorted(lost.iterdir()) if lost.is_dir() else ():
        for file in sorted(package.rglob("*")):
            if not file.is_dir():
                owners.setdefault(str(file.relative_to(package)), []).append(package.name)
    return [(file, sorted(set(names))) for file, names in sorted(owners.items())
            if len(set(names)) > 1]  # fmt: skip


def _verify(prefix: Path, shared: set[str]) -> None:
    """Every unpatched file is what its package's own list says."""
    wrong = []
    for path in sorted((prefix / "conda-meta").glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        for entry in record.get("paths_data", {}).get("paths", ()):
            patched = entry.get("prefix_placeholder") or entry["_path"] in shared
            if entry.get("path_type") != "hardlink" or patched:
                continue
            said = entry.get("sha256")
            file = prefix / entry["_path"]
            if said and (not file.is_file() or _sha256(file) != said):
                wrong.append(f"{record['name']}: {entry['_path']}")
    if wrong:
        raise IntegrityError(
            f"{len(wrong)} file(s) are not what their package's list says",
            code="package-lies",
            detail="\n".join(wrong[:20]),
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def work(folder: Path) -> dict[str, Any]:
    """Make ``folder/prefix`` as ``folder/request.json`` says; return the result."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    packages = [(package_from_document(d), Path(d["archive"])) for d in request["packages"]]
    prefix = folder / "prefix"
    prefix.mkdir(mode=0o755)
    for package, archive in packages:
        _check_archive(archive, package)
    conda = [(p, a) for p, a in packages if p.manager == "conda"]
    failed: list[str] = []
    if conda:
        failed = asyncio.run(_install_conda(request, conda, folder))
        _tidy_records(prefix, [p for p, _ in conda])
    if failed:
        raise BuildError(
            f"the link script of {', '.join(sorted(failed))} failed", code="post-link-failed"
        )
    clobbers = _clobbers(prefix)
    if request["verify_files"]:
        _verify(prefix, {file for file, _ in clobbers})
    for package, archive in packages:
        if package.manager == "pip":
            install_wheel(archive, package, prefix, request["prefix"], request["site_packages"],
                          request["python"])  # fmt: skip
    scripts = (
        () if request["run_link_scripts"] else sorted((prefix / "bin").glob(".*-post-link.sh"))
    )
    return {
        "ok": True,
        "post_link": [s.name.removeprefix(".").removesuffix("-post-link.sh") for s in scripts],
        "clobbers": clobbers,
    }


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, EnvgraphError):
        first = error.diagnostics[0]
        kind = {IntegrityError: "integrity", InputError: "input"}.get(type(error), "build")
        return {"ok": False, "kind": kind, "code": first.code, "summary": first.summary,
                "detail": first.detail}  # fmt: skip
    return {
        "ok": False,
        "kind": "build",
        "code": "install-failed",
        "summary": "the packages could not be installed",
        "detail": f"{type(error).__name__}: {error}",
    }


def _end_with_the_caller(folder: Path) -> None:
    """Watch the pipe at stdin, and give what is started here an empty one instead."""
    watched = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        os.read(watched, 1)
        remove_tree(folder)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Do the work and leave without the interpreter's own end."""
    folder = Path(sys.argv[1])
    os.umask(0o022)
    _end_with_the_caller(folder)
    try:
        result = work(folder)
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException as error:  # a panic of rattler is one too (trap 8)
        result = _failure(error)
    temporary = folder / "result.json.tmp"
    temporary.write_text(json.dumps(result), "utf-8")
    temporary.replace(folder / "result.json")
    sys.stderr.flush()
    os._exit(0 if result["ok"] else 1)


if __name__ == "__main__":
    main()
