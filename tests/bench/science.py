"""A scientific environment of about 200 packages: its channel, workspaces, store and tree."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envgraph.conda.link import install_prefix
from envgraph.lock.lockfile import read_lockfile
from envgraph.model.locked import LockedEnvironment
from envgraph.testing.base import make_base
from envgraph.testing.channel import ChannelMaker
from envgraph_store import Store
from tests.bench.bench import Bench, envgraph

FULL = (
    "boto3", "bokeh", "distributed", "duckdb", "fastapi", "h5py", "ipywidgets", "jupyterlab",
    "lightgbm", "matplotlib", "numba", "numpy", "optuna",
    "pandas", "plotly", "pyarrow", "scikit-image", "scikit-learn", "scipy", "seaborn",
    "shap", "statsmodels", "tables", "tensorboard", "tqdm", "xarray",
)  # fmt: skip
QUICK = ("click", "jinja2", "numpy", "pyyaml", "rich", "tqdm")
OLDER = "tqdm==4.67.1"
LEFT_OUT = ("boto3", "seaborn", "jinja2")
"""What the new combination does without; the rest was all seen before."""


@dataclass(frozen=True, slots=True)
class Science:
    """Everything that the image and store groups need, made once per run.

    ``workspace`` is the whole environment, ``changed`` has another version of one
    package, ``combined`` leaves a few out. ``full`` is a store that holds the first and
    every archive; ``tree`` is the environment installed for ``/opt/env``, no bytecode.
    """

    workspace: Path
    changed: Path
    combined: Path
    full: Path
    tree: Path
    packages: int
    archive_bytes: int
    tree_bytes: int
    tree_files: int

    @property
    def about(self) -> str:
        return (
            f"{self.packages} packages, {self.archive_bytes / 1e6:.0f} MB of archives that lie in "
            f"the store, {self.tree_bytes / 1e9:.2f} GB in {self.tree_files:,} files installed."
        )


def science_of(bench: Bench) -> Science:
    """Made by the first group that asks for it."""
    found = bench.made.setdefault("science", None) or _make_science(bench)
    assert isinstance(found, Science)
    bench.made["science"] = found
    return found


def _make_science(bench: Bench) -> Science:
    """Make (or find in the cache) the channel; then workspaces, the full store, the tree."""
    names = QUICK if bench.quick else FULL
    channel = _channel(bench.cache, names)
    folder = bench.folder("science")
    base = make_base(folder / "base").reference
    rest = [name for name in names if name not in LEFT_OUT]
    workspace = _workspace(folder / "workspace", base, channel, names)
    changed = _workspace(folder / "changed", base, channel, [*rest[:-1], *_others(names), OLDER])
    combined = _workspace(folder / "combined", base, channel, rest)
    full, other = folder / "full" / "store", folder / "other" / "store"
    for place, store in ((workspace, full), (changed, other), (combined, other)):
        envgraph("lock", store=store, cwd=place)
        envgraph("apply", "--auto-approve", store=store, cwd=place)
    for archive in (other / "packages").iterdir():
        if not (full / "packages" / archive.name).exists():
            os.link(archive, full / "packages" / archive.name)
    lock = locked(workspace)
    tree = folder / "tree"
    with Store.open(full) as opened:
        install_prefix(
            lock, lambda p: opened.packages.path(p.sha256), tree, prefix_in_files="/opt/env"
        )
    sizes = [p.lstat().st_size for p in tree.rglob("*") if p.is_file() and not p.is_symlink()]
    return Science(
        workspace, changed, combined, full, tree, len(lock.packages),
        sum(p.size for p in lock.packages), sum(sizes), len(sizes),
    )  # fmt: skip


def locked(workspace: Path) -> LockedEnvironment:
    """The lock that the workspace's lockfile holds."""
    (path,) = (workspace / "locks").iterdir()
    (lock,) = read_lockfile(path).locks.values()
    return lock


def clone_store(source: Path, target: Path, *, archives_only: bool = False) -> Path:
    """Another store with the same objects as hard links; the rest copied, or left out."""
    target.mkdir(parents=True)
    if archives_only:
        Store.open(target).close()
        shutil.rmtree(target / "packages")
        shutil.copytree(source / "packages", target / "packages", copy_function=os.link)
        return target
    for entry in source.iterdir():
        link = entry.name in ("blobs", "packages")
        if entry.is_dir():
            copy = os.link if link else shutil.copy2
            shutil.copytree(entry, target / entry.name, copy_function=copy, symlinks=True)
        else:
            shutil.copy2(entry, target / entry.name)
    return target


def _others(names: Sequence[str]) -> list[str]:
    return [name for name in names if name in LEFT_OUT]


def _channel(cache: Path, names: Sequence[str]) -> str:
    """Wheels from the user's index and this machine's CPython, kept between runs."""
    key = hashlib.sha256(repr((names, OLDER)).encode()).hexdigest()[:12]
    folder = cache / f"channel-{key}"
    if not folder.is_dir():
        made = cache / f"making-{key}"
        shutil.rmtree(made, ignore_errors=True)
        maker = ChannelMaker(made).add_python().add_wheels(names)
        maker.add_wheels([OLDER], dependencies=False).index()
        made.rename(folder)
    return folder.as_uri()


def _workspace(folder: Path, base: str, channel: str, specs: Sequence[str]) -> Path:
    (folder / "environments").mkdir(parents=True)
    (folder / "envgraph.yaml").write_text(f"workspace: {folder.name}\nid: be9c0002\n")
    lines = "".join(f"    - {spec.replace('==', '=')}\n" for spec in ["python", *specs])
    (folder / "environments" / "science.yml").write_text(
        f"name: science\nimage: {base}\nconda_file:\n  channels: [{channel!r}]\n"
        f"  dependencies:\n{lines}"
    )
    return folder


def set_bytecode(workspace: Path, value: str) -> None:
    """``image.bytecode`` of a workspace: ``auto`` or ``none``."""
    text = (workspace / "envgraph.yaml").read_text().split("image:")[0]
    (workspace / "envgraph.yaml").write_text(f"{text}image: {{bytecode: {value}}}\n")
