"""Which wheel fits a lock; index options; the solve contract."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from envgraph.conda.credentials import with_login
from envgraph.errors import InputError
from envgraph.lock.contract import solve_contract, virtual_packages
from envgraph.lock.indexes import index_options
from envgraph.lock.wheeltags import best_wheel, python_packages, uv_platform, write_stub
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedPackage
from envgraph.model.spec import CondaSpec, EnvironmentSpec, PipLine
from envgraph_store.digest import Digest


def conda(name: str, version: str, build: str = "0", **more: object) -> LockedPackage:
    return LockedPackage("conda", name, version, build, "linux-64", Digest.of(b""), "c", **more)  # type: ignore[arg-type]


PYTHON = conda("python", "3.11.7", "h0_0_cpython")
GLIBC = {"__glibc": "2.28"}


def choose(*names: str, python: LockedPackage = PYTHON, platform: str = "linux-64") -> str | None:
    wheels = [{"url": f"https://h/{name.replace('+', '%2B')}"} for name in names]
    found = best_wheel(wheels, python, platform, GLIBC)
    return None if found is None else str(found["url"]).removeprefix("https://h/")


def test_best_wheel() -> None:
    pure, old = "x-1-py3-none-any.whl", "x-1-cp311-cp311-manylinux2014_x86_64.whl"
    new, newer = (f"x-1-cp311-cp311-manylinux_2_{m}_x86_64.whl" for m in (28, 35))
    assert choose(pure, old, new, newer) == new
    assert choose(pure, old, newer) == old
    assert choose(newer, pure) == pure
    assert choose(newer, "x-1-cp312-cp312-manylinux_2_17_x86_64.whl") is None
    assert choose("x-1-cp37-abi3-manylinux_2_17_x86_64.whl", pure).startswith("x-1-cp37")  # type: ignore[union-attr]
    assert choose("x-1-1-py3-none-any.whl", "x-1-2-py3-none-any.whl") == "x-1-2-py3-none-any.whl"
    assert choose("not a wheel", "x.tar.gz") is None
    assert choose("x-1+cu12-py3-none-any.whl") == "x-1%2Bcu12-py3-none-any.whl"
    free = conda("python", "3.13.1", "h0_0_cp313t")
    threads = "x-1-cp313-cp313t-manylinux_2_17_x86_64.whl"
    assert choose(threads, python=free) == threads
    assert choose(threads, python=conda("python", "3.13.1", "h0_0_cp313")) is None
    mac = "x-1-cp311-cp311-macosx_11_0_arm64.whl"
    assert choose(mac, new, platform="osx-arm64") == mac
    windows = "x-1-cp311-cp311-win_amd64.whl"
    assert choose(windows, new, platform="win-64") == windows


def test_uv_platform() -> None:
    assert uv_platform("linux-64", {"__glibc": "2.28"}) == "x86_64-manylinux_2_28"
    assert uv_platform("linux-64", {"__glibc": "2.30=0"}) == "x86_64-manylinux_2_28"
    assert uv_platform("linux-aarch64", {"__glibc": "2.17"}) == "aarch64-manylinux_2_17"
    assert uv_platform("osx-arm64", {}) == "aarch64-apple-darwin"
    for platform, given in (("linux-ppc64le", {}), ("linux-64", {"__glibc": "2.12"})):
        with pytest.raises(InputError):
            uv_platform(platform, given)


def test_python_packages_of_conda() -> None:
    chosen = [
        PYTHON,
        conda("python_abi", "3.11", depends=("python 3.11.*",)),
        conda("numpy", "1.26", depends=("python >=3.11", "libblas")),
        conda("libblas", "3.9"),
        conda("ruamel.yaml", "0.18", noarch="python"),
        conda("pytorch", "2.1", depends=("python_abi 3.11.*",)),
        conda("odd", "2023-odd", noarch="python"),
    ]
    found = python_packages(chosen)
    assert {name: p.name for name, p in found.items()} == {
        "numpy": "numpy",
        "ruamel-yaml": "ruamel.yaml",
        "torch": "pytorch",
    }


def test_a_stub_is_a_wheel_with_fixed_bytes(tmp_path: Path) -> None:
    one, two = (write_stub(tmp_path / f, "ruamel-yaml", "0.18") for f in "ab")
    assert one.name == "ruamel_yaml-0.18-py3-none-any.whl"
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as wheel:
        assert "ruamel_yaml-0.18.dist-info/METADATA" in wheel.namelist()


def test_index_options(tmp_path: Path) -> None:
    lines = [
        PipLine("option", text)
        for text in (
            "--index-url=https://u:${P}@h/simple",
            "--extra-index-url https://extra/simple",
            "-f links",
            "--find-links=https://h/links?x=1",
            "--pre",
            "--trusted-host h",
            "--prefer-binary",
            "--no-binary :all:",
        )
    ]
    spec = CondaSpec(pip=tuple(lines), file=str(tmp_path / "env.yml"))
    config = WorkspaceConfig("t", "1", str(tmp_path), pip_indexes=("https://first/", "mine"))
    found = index_options(spec, config, {"P": "pw"})
    assert found.default == "https://u:pw@h/simple"
    assert found.extra == [(tmp_path / "mine").as_uri(), "https://extra/simple"]
    assert found.find_links == [(tmp_path / "links").as_uri(), "https://h/links?x=1"]
    assert (found.prereleases, found.no_index, found.insecure_hosts) == (True, False, ["h"])
    assert [d.code for d in found.diagnostics] == ["pip-option"]
    assert "pw" not in repr(found)
    assert found.known_secrets() == ["pw"]
    assert found.needs_connection()
    assert with_login("https://h/x.whl", [found.default]) == "https://u:pw@h/x.whl"
    assert with_login("https://h:444/x.whl", [found.default]) == "https://h:444/x.whl"
    assert with_login("http://h/x.whl", [found.default]) == "http://h/x.whl"


def test_the_contract_holds_what_decides_and_nothing_else() -> None:
    config = WorkspaceConfig(
        "t", "1", "/ws",
        virtual_packages={"linux-64": {"__glibc": "2.31", "__cuda": "12.4=x"}},
        channels={"conda-forge": "http://mirror/cf"},
        default_channels=("team",),
        pip_indexes=("https://u:p@h/simple",),
    )  # fmt: skip
    own = EnvironmentSpec("e", conda=CondaSpec(channels=("conda-forge",)))
    none = EnvironmentSpec("e", conda=CondaSpec(pip=(PipLine("requirement", "x"),)))
    contract = solve_contract(own, "linux-64", config)
    assert contract.virtual_packages == (("__cuda", "12.4=x"), ("__glibc", "2.31=0"))
    assert (contract.default_channels, contract.pip_indexes) == ((), ())
    contract = solve_contract(none, "linux-64", config)
    assert contract.default_channels == ("team",)
    assert contract.pip_indexes == ("https://h/simple",)
    assert virtual_packages(config, "osx-arm64") == {"__unix": "0", "__osx": "11.0"}
    assert virtual_packages(config, "linux-aarch64")["__glibc"] == "2.28"
