"""Install a lock into a folder of this machine: for ``run``, ``shell`` and bytecode.

The work is done by :mod:`envgraph.conda.linkworker` in a process of its own,
because rattler may crash an interpreter at its end, and because umask and panics
must not reach the caller. It has a session of its own, so a Ctrl-C reaches it only
through the caller, and it ends when its stdin does: nobody can outlive the caller's
death by a signal that cannot be caught. The worker builds in a hidden folder beside the target
that is renamed when it is whole; a killed install leaves only such a folder, and
the next install beside it sweeps it.

No file of the prefix shares an inode with the store or with another prefix:
packages are unpacked once into a folder that belongs to this install alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from envgraph.errors import BuildError, Diagnostic, InputError, IntegrityError
from envgraph.model.documents import package_document
from envgraph.model.locked import LockedEnvironment, LockedPackage

LONGEST_PREFIX: Final = 255
"""Packages reserve this many characters for the prefix; a longer one cannot be written."""

_MARK: Final = ".installing-"
_STDERR_TAIL: Final = 4000
Archives = Callable[[LockedPackage], Path]


@dataclass(frozen=True, slots=True)
class InstallReport:
    """A whole prefix.

    ``post_link``: packages whose link script was not run. ``clobbers``: paths that
    more than one package owns, with the packages' names.
    """

    prefix: Path
    post_link: tuple[str, ...] = ()
    clobbers: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """What a user should know: scripts that did not run, paths with two owners."""
        said = [
            Diagnostic(
                "post-link",
                f"{name} has a link script, which was not run",
                hint="a package that needs its script may not work: see its documentation",
                severity="warning",
            )
            for name in self.post_link
        ]
        said += [
            Diagnostic(
                "clobber",
                f"{path} belongs to {' and '.join(owners)}",
                detail="the file of one of them was kept, the others lie in __clobbers__/",
                severity="warning",
            )
            for path, owners in self.clobbers
        ]
        return tuple(said)


def install_prefix(
    lock: LockedEnvironment,
    archives: Archives,
    target: Path,
    *,
    prefix_in_files: str | None = None,
    run_link_scripts: bool = False,
    verify_files: bool = True,
) -> InstallReport:
    """Install every package of ``lock`` into ``target``, which must not hold anything yet.

    ``archives`` gives the file of each package's archive; its sha256 is checked here.
    ``prefix_in_files`` is the prefix that the files name (``target`` if None).
    ``verify_files`` compares every file with its package's list. Raises InputError,
    IntegrityError and BuildError; then ``target`` is as it was.
    """
    target = target.absolute()
    named = prefix_in_files or str(target)
    if len(os.fsencode(named)) > LONGEST_PREFIX:
        raise InputError(
            f"the prefix is {len(os.fsencode(named))} bytes long, packages have room for "
            f"{LONGEST_PREFIX}",
            code="prefix-too-long",
            detail=named,
            hint="choose a shorter folder",
        )
    with _own_folder(target) as folder:
        request = {
            "folder": str(folder),
            "prefix": named,
            "platform": lock.platform,
            "site_packages": lock.site_packages,
            "python": "" if lock.python is None else lock.python.version,
            "run_link_scripts": run_link_scripts,
            "verify_files": verify_files,
            "packages": [
                package_document(package) | {"archive": str(archives(package))}
                for package in lock.packages
            ],
        }
        result = _work(folder, request)
        try:
            (folder / "prefix").rename(target)
        except OSError as error:
            raise BuildError(
                f"{target} appeared while it was being made",
                code="prefix-exists",
                detail=error.strerror or str(error),
            ) from None
    return InstallReport(
        target,
        tuple(result["post_link"]),
        tuple((path, tuple(owners)) for path, owners in result["clobbers"]),
    )


def install_python(lock: LockedEnvironment, archives: Archives, target: Path) -> Path:
    """Install only Python and what it needs; return its executable.

    Raises InputError when the lock has no Python, else as :func:`install_prefix`.
    """
    if lock.python is None:
        raise InputError("the lock holds no Python", code="no-python")
    small = replace(lock, packages=python_closure(lock.packages))
    install_prefix(small, archives, target, verify_files=False)
    return target.absolute() / "bin" / "python"


def python_closure(packages: Sequence[LockedPackage]) -> tuple[LockedPackage, ...]:
    """The conda package ``python`` and everything it depends on, in the lock's order."""
    by_name = {p.name: p for p in packages if p.manager == "conda"}
    todo, wanted = ["python"], set[str]()
    while todo:
        name = todo.pop()
        if name in by_name and name not in wanted:
            wanted.add(name)
            todo += [depend.split(" ")[0].lower() for depend in by_name[name].depends]
    return tuple(p for p in packages if p.manager == "conda" and p.name in wanted)


@contextlib.contextmanager
def _own_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside ``target``, locked while in use, gone afterwards."""
    try:
        if target.is_symlink() or (target.exists() and any(target.iterdir())):
            raise InputError(f"{target} is there already", code="prefix-exists")
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:60]}{_MARK}", dir=target.parent))
    except OSError as error:
        raise InputError(
            f"{target} cannot be made", code="prefix-write", detail=error.strerror or str(error)
        ) from None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        remove_tree(folder)
        os.close(handle)


def sweep(parent: Path) -> int:
    """Remove folders that killed installs left in ``parent``; return how many."""
    removed = 0
    for entry in sorted(parent.glob(f".*{_MARK}*")):
        try:
            handle = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            remove_tree(entry)
            removed += 1
        finally:
            os.close(handle)
    return removed


def remove_tree(folder: Path) -> None:
    """Remove a tree, read-only folders in it included."""

    def again(function: Callable[[str], Any], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            if Path(path).is_dir() and not Path(path).is_symlink():
                Path(path).chmod(0o700)
            function(path)

    shutil.rmtree(folder, onerror=again)
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def _work(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Run the worker; only a result file *and* exit code 0 count as success."""
    (folder / "request.json").write_text(json.dumps(request), "utf-8")
    code, said = _run(
        [sys.executable, "-P", "-m", "envgraph.conda.linkworker", str(folder)],
        _quiet_environment(os.environ.items()),
    )
    tail = said.decode("utf-8", "replace")[-_STDERR_TAIL:].strip()
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))
    except (OSError, ValueError):
        result = {}
    if code == 0 and result.get("ok") is True:
        return result
    if result.get("ok") is False:
        kind = {"integrity": IntegrityError, "input": InputError}.get(result["kind"], BuildError)
        raise kind(result["summary"], code=result["code"], detail=result["detail"])
    how = f"signal {-code}" if code < 0 else f"exit {code}"
    raise BuildError(
        f"installing the packages crashed ({how})",
        code="install-crashed",
        detail=tail,
        hint="nothing was left behind; please report this if it happens again",
    )


def _run(command: Sequence[str], environment: dict[str, str]) -> tuple[int, bytes]:
    """Run to the end: exit code and stderr. Whatever is raised here ends the whole group.

    The pipe to stdin stays open and carries nothing: its end is the sign of our death.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        try:
            said = process.stderr.read()
            return process.wait(), said
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _quiet_environment(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The environment without what would change how Python or rattler behave."""
    return {
        key: value
        for key, value in items
        if not key.startswith(("CONDA_", "PIP_", "UV_", "RUST_"))
        and key not in ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONWARNINGS")
    }
