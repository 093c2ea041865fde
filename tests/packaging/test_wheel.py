"""The one distribution: what its archives hold, and that the wheel works away from here."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(kind: str, source: Path, target: Path) -> Path:
    """Build ``wheel`` or ``sdist`` with the hatchling that the tests pin."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", target]
    done = subprocess.run([*command, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def top_level(wheel: Path) -> set[str]:
    first = {name.split("/")[0] for name in names(wheel)}
    return {name for name in first if not name.endswith(".dist-info")}


def expected_packages() -> set[str]:
    """envgraph, the store, and each plugin folder that holds a package."""
    plugins = {p.parent.name for p in (ROOT / "plugins").glob("envgraph_*/__init__.py")}
    return {"envgraph", "envgraph_store"} | plugins


def test_wheel_has_exactly_our_packages(wheel: Path) -> None:
    assert top_level(wheel) == expected_packages()


def test_every_package_says_that_it_is_typed(wheel: Path) -> None:
    assert {f"{package}/py.typed" for package in expected_packages()} <= names(wheel)


def test_wheel_publishes_the_schemas(wheel: Path) -> None:
    folder = ROOT / "envgraph/spec/schemas"
    schemas = {f"envgraph/spec/schemas/{path.name}" for path in folder.glob("*.json")}
    assert len(schemas) == 3
    assert schemas <= names(wheel)


def test_wheel_is_pure_and_holds_no_tests(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in names(wheel) if "/tests/" in name or name.endswith(".pyc")]


def test_wheel_holds_every_module_that_git_knows(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "envgraph/**.py", "store/**.py", "plugins/**.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    tracked = {name for name in listed.stdout.split() if (ROOT / name).exists()}
    present = {name.removeprefix("store/").removeprefix("plugins/") for name in tracked}
    assert present <= names(wheel)


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    # Debian's Python 3.11.2 has no extraction filters yet; tar has good manners of its own.
    (tmp_path / "source").mkdir()
    subprocess.run(["tar", "-xf", sdist, "-C", tmp_path / "source"], check=True)
    (folder,) = (tmp_path / "source").iterdir()
    for name in ("LICENSE", "Makefile", "README.md", "tests/packaging/test_wheel.py"):
        assert (folder / name).is_file(), name
    assert names(build("wheel", folder, tmp_path / "again")) == names(wheel)


def test_wheel_works_in_a_fresh_venv_with_an_empty_home(wheel: Path, tmp_path: Path) -> None:
    """No dependency is installed: --help and --version need the standard library alone."""
    home, elsewhere, venv = tmp_path / "home", tmp_path / "elsewhere", tmp_path / "venv"
    home.mkdir()
    elsewhere.mkdir()
    env = {"HOME": str(home), "PATH": os.defpath, "LC_ALL": "C"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(sys.executable, "-m", "venv", "--without-pip", venv)
    target = run(venv / "bin/python", "-c", "import site; print(site.getsitepackages()[0])").strip()
    install = (
        "import sys; from installer import install; from installer.sources import WheelFile;"
        "from installer.destinations import SchemeDictionaryDestination as D\n"
        "site, scripts, python, wheel = sys.argv[1:]\n"
        "with WheelFile.open(wheel) as source:\n"
        "    install(source, D({'purelib': site, 'platlib': site, 'scripts': scripts}, python,"
        " 'posix'), {})\n"
    )
    run(sys.executable, "-c", install, target, venv / "bin", venv / "bin/python", wheel)
    assert "plan" in run(venv / "bin/envgraph", "--help")
    assert run(venv / "bin/envgraph", "--version").startswith("envgraph ")
    assert list(home.iterdir()) == []
