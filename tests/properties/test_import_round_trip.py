"""What is exported and imported again is the same packages with the same hashes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envgraph.interchange.condalock import conda_lock
from envgraph.interchange.explicit import explicit
from envgraph.interchange.imports.complete import Completer
from envgraph.interchange.imports.environment_text import environment_text
from envgraph.interchange.imports.foreign import ForeignLock
from envgraph.interchange.imports.read import read_foreign
from envgraph.interchange.imports.roots import requirement_lines, roots_of
from envgraph.interchange.pylock import pylock
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.spec import load_environment
from envgraph_store.digest import Digest

HERE = Digest.of(b"definition")
NAMES = st.from_regex(r"[a-z_][a-z0-9_.]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True).filter(
    lambda name: not name.startswith("__") and not name.endswith(".")
)
VERSIONS = st.from_regex(r"([1-9]!)?[0-9]{1,3}(\.[0-9]{1,3}){0,2}(rc1|\.post2|a3)?", fullmatch=True)
BUILDS = st.from_regex(r"[a-z0-9]{1,6}(_[0-9a-z]{1,6})?", fullmatch=True)


@st.composite
def locks(draw: st.DrawFn) -> LockedEnvironment:
    """Locks whose packages need each other in any way, circles too."""
    names = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    packages = []
    for name in sorted(names):
        version, build = draw(VERSIONS), draw(BUILDS)
        subdir = draw(st.sampled_from(["noarch", "linux-64"]))
        ending = draw(st.sampled_from([".conda", ".tar.bz2"]))
        file_name = f"{name}-{version}-{build}{ending}"
        needs = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
        packages.append(
            LockedPackage(
                "conda", name, version, build, subdir,
                Digest.of(file_name.encode()), "conda-forge", file_name=file_name,
                url=f"https://conda.anaconda.org/conda-forge/{subdir}/{file_name}",
                size=7, md5=draw(st.from_regex(r"[0-9a-f]{32}", fullmatch=True)),
                depends=tuple(f"{need} >=0" for need in needs if need != name),
                noarch="generic" if subdir == "noarch" else "",
            )
        )  # fmt: skip
    return LockedEnvironment(HERE, HERE, "linux-64", LockedBase("scratch"), tuple(packages))


def seen(lock: LockedEnvironment | ForeignLock) -> set[tuple[str, ...]]:
    if isinstance(lock, LockedEnvironment):
        return {(p.name, p.version, p.build, p.subdir, p.url, p.sha256.hex, p.channel)
                for p in lock.packages}  # fmt: skip
    [packages] = lock.platforms.values()
    return {(p.name, p.version, p.build, p.subdir, p.url, p.sha256, p.channel) for p in packages}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round")


@settings(deadline=None, max_examples=30)
@given(locks())
def test_conda_lock_and_explicit(folder: Path, lock: LockedEnvironment) -> None:
    own = folder / "own.conda-lock.yml"
    own.write_text(conda_lock([lock]).text)
    assert read_foreign(own).ready["linux-64"].packages == lock.packages
    foreign = folder / "conda-lock.yml"
    text = own.read_text()
    head, _, _ = text.partition("  custom_metadata:")
    foreign.write_text(head.rstrip() + text[text.index("\npackage:") :])
    assert seen(read_foreign(foreign)) == seen(lock)
    listed = folder / "explicit.txt"
    listed.write_text(explicit(lock, "x").text)
    assert seen(read_foreign(listed)) == seen(lock)


@settings(deadline=None, max_examples=60)
@given(locks())
def test_the_environment_file_is_read_and_names_what_brings_all(
    folder: Path, lock: LockedEnvironment
) -> None:
    roots = roots_of(lock.packages)
    known = {p.name: p for p in lock.packages}
    reached: set[str] = set()
    stack = [name for _, name in roots]
    while stack:
        name = stack.pop()
        if name not in reached:
            reached.add(name)
            stack += [text.split()[0] for text in known[name].depends]
    assert reached == set(known)
    conda, pip = requirement_lines({"linux-64": lock.packages}, {"linux-64": roots})
    file = folder / "environment.yml"
    file.write_text(
        environment_text(
            name="some name # 'x'", origin="x\n- y", channels=["conda-forge"], conda=conda,
            pip=pip, platforms=["linux-64"], variables={"A": "1\n2"}, image=None,
        )
    )  # fmt: skip
    result = load_environment(file)
    assert result.spec is not None, result.diagnostics
    assert result.spec.conda is not None
    assert result.spec.name == "some name # 'x'"
    assert [r.text for r in result.spec.conda.dependencies] == [text for _, text in conda]
    assert result.spec.conda.variables == {"A": "1\n2"}


WHEELS = st.lists(
    st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), min_size=0, max_size=5, unique=True
)


@settings(deadline=None, max_examples=30)
@given(WHEELS)
def test_pylock(folder: Path, names: list[str]) -> None:
    from envgraph.interchange.imports.pylock import wheels_for

    python = LockedPackage("conda", "python", "3.12.4", "h0_0_cpython", "linux-64",
                           Digest.of(b"p"), "c")  # fmt: skip
    wheels = tuple(
        LockedPackage(
            "pip", name, "1.5", "", "", Digest.of(name.encode()), "", size=9,
            file_name=f"{name}-1.5-py3-none-any.whl",
            url=f"https://example.com/{name}-1.5-py3-none-any.whl",
        )
        for name in sorted(names)
    )  # fmt: skip
    file = folder / "pylock.toml"
    lock = LockedEnvironment(HERE, HERE, "linux-64", LockedBase("scratch"), (python, *wheels))
    file.write_text(pylock(lock, "x").text)
    foreign = read_foreign(file)
    assert foreign.pylock is not None
    found = wheels_for(foreign.pylock, python, "linux-64", {"__glibc": "2.28"})
    completer = Completer.__new__(Completer)  # all is known: nothing is fetched
    assert tuple(completer.complete(p).package for p in found) == wheels
