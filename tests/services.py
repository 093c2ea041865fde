"""Real parts that tests stand on: tools of this machine, and conda channels.

A missing tool or service skips a test, unless ENVGRAPH_REQUIRE_SERVICES=1 (as in
CI): then it fails, so that nothing is skipped unseen. ENVGRAPH_TEST_CACHE names the
folder where the real channel is kept between runs; else pytest's cache does.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

import envgraph.testing.channel
from envgraph.testing.channel import PLACEHOLDER, ChannelMaker, File, Link, make_package
from envgraph.testing.channel.cpython import find_python
from envgraph.testing.channel.libraries import machine_state

REQUIRE_SERVICES = "ENVGRAPH_REQUIRE_SERVICES"
TEST_CACHE = "ENVGRAPH_TEST_CACHE"

NEWEST = ("numpy", "click", "tqdm", "rich", "jinja2", "pyyaml", "pip", "setuptools")
OLDER = ("tqdm==4.66.5", "click==8.1.7")


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel on disk: its folder, its ``file://`` address, its Python's version."""

    folder: Path
    url: str
    python: str


def missing(what: str) -> NoReturn:
    """Skip the test because of ``what``, or fail it where services are required."""
    if os.environ.get(REQUIRE_SERVICES) == "1":
        pytest.fail(f"{what}, and {REQUIRE_SERVICES}=1")
    pytest.skip(what)


def require_tool(name: str) -> str:
    """The path of a program, or :func:`missing`."""
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        missing(f"{name} is not installed")
    return path


def require_root() -> None:
    """For tests that mount or change owners."""
    if os.geteuid() != 0:
        missing("this test needs root")


def make_demo_channel(folder: Path) -> Channel:
    """A small channel without a byte from outside: every kind of thing that packages do.

    ``python 3.12.1`` is a shell script; ``alpha`` has three versions; ``beta`` needs
    alpha; ``gamma`` is a ``.tar.bz2`` with a binary prefix and a link; ``tool`` is a
    noarch Python package with an entry point; ``settings`` activates.
    """
    binary = b"\x7fBIN\0" + PLACEHOLDER.encode() + b"/share/gamma\0\1\2\3"
    text = f"#!{PLACEHOLDER}/bin/sh\necho $0\n"
    maker = ChannelMaker(folder)
    for version in ("1.0", "1.1", "2.0"):
        maker.add(make_package("alpha", version, files={"share/alpha/version": version}))
    maker.add(
        make_package(
            "python",
            "3.12.1",
            "h0_0_cpython",
            files={"bin/python3.12": File(text, executable=True), "bin/python": Link("python3.12")},
            python_site_packages_path="lib/python3.12/site-packages",
        ),
        make_package(
            "beta",
            depends=["alpha >=1.0,<2.0"],
            files={
                "bin/beta": File(text, executable=True),
                "lib/beta/link": Link("../../bin/beta"),
            },
        ),
        make_package(
            "tool",
            "0.3",
            depends=["python >=3.11"],
            noarch="python",
            files={
                "site-packages/tool/__init__.py": "def main():\n    print('tool')\n",
                "python-scripts/tool-script": File(text, executable=True),
            },
            entry_points=["tool = tool:main"],
        ),
        make_package(
            "settings",
            noarch="generic",
            files={"etc/settings.conf": f"prefix={PLACEHOLDER}\n"},
            env_vars={"SETTINGS_MODE": "fast"},
            activate="export SETTINGS_ACTIVE=1\n",
            deactivate="unset SETTINGS_ACTIVE\n",
        ),
        make_package("linker", post_link="#!/bin/sh\nexit 0\n", files={"share/linker": "x"}),
    )
    gamma = {"lib/libgamma.so.1": binary, "lib/libgamma.so": Link("libgamma.so.1")}
    maker.add(make_package("gamma", files=gamma), archive_format="tar.bz2")
    maker.index()
    return Channel(folder, maker.url, "3.12.1")


def make_real_channel(cache: Path) -> Channel:
    """This machine's CPython and wheels, made once per cache folder, Python and recipe.

    It is made anew when the system's libraries were upgraded. Wheels come from the user's
    pip index: without one the test is :func:`missing`.
    """
    python = find_python()
    recipe = hashlib.sha256(repr((NEWEST, OLDER, python, machine_state())).encode())
    sources = Path(envgraph.testing.channel.__file__).parent
    for source in sorted(sources.glob("*.py")):
        recipe.update(source.read_bytes())
    folder = cache / f"channel-{python.version}-{recipe.hexdigest()[:16]}"
    with _alone(cache / "channel.lock"):
        if not folder.is_dir():
            made = Path(tempfile.mkdtemp(prefix="making-", dir=cache))
            try:
                maker = ChannelMaker(made).add_python().add_wheels(NEWEST)
                maker.add_wheels(OLDER, dependencies=False).index()
                made.chmod(0o755)
                made.rename(folder)
            except RuntimeError as error:
                missing(f"no real channel: {error}")
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return Channel(folder, folder.as_uri(), python.version)


def cache_folder(config: pytest.Config) -> Path:
    """Where things live that are made once per machine."""
    named = os.environ.get(TEST_CACHE)
    if named:
        folder = Path(named).resolve()
    elif hasattr(config, "cache") and config.cache is not None:
        folder = config.cache.mkdir("envgraph")
    else:
        folder = Path(tempfile.gettempdir()) / f"envgraph-tests-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process of this machine at a time: several test workers make it once."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
