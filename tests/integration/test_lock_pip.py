"""pip sections: within what conda chose, from the indexes that were named, with hashes."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from envgraph.conda.link import install_prefix
from envgraph.errors import (
    BuildError,
    EnvgraphError,
    InputError,
    IntegrityError,
    OfflineError,
    ResolveError,
)
from envgraph.model.spec import PipLine
from envgraph.testing.channel import ChannelMaker, make_package
from envgraph.testing.http import ChannelServer
from envgraph_store.digest import Digest
from tests.integration.locking import (
    Locker,
    make_project,
    make_sdist,
    make_wheel,
    simple_index,
    versions,
)
from tests.services import Channel


def wants(*texts: str) -> list[PipLine]:
    return [PipLine("requirement", text) for text in texts]


def options(*texts: str) -> list[PipLine]:
    return [PipLine("option", text) for text in texts]


@pytest.fixture
def channel(tmp_path: Path) -> str:
    """conda's side: a Python that is not run here, and a Python package."""
    maker = ChannelMaker(tmp_path / "channel").add(
        make_package("python", "3.11.7", "h1_0_cpython", files={"bin/python": "x"}),
        make_package("numpy", "1.26.4", "py311_0", depends=["python >=3.11"]),
        make_package("pytorch", "2.1.0", "py311_0", depends=["python >=3.11"]),
        make_package("clib", "9.9", files={"lib/clib": "x"}),
    )
    return maker.index().url


@pytest.fixture
def links(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "links"
    make_wheel(folder, "alpha", "1.0", ["beta>=1"])
    for version in ("1.0", "2.0"):
        make_wheel(folder, "beta", version)
    make_wheel(folder, "uses-numpy", "1.0", ["numpy>=1.20", "torch"])
    make_wheel(folder, "new-numpy", "1.0", ["numpy>=2"])
    return folder


@pytest.fixture
def locker(tmp_path: Path) -> Locker:
    return Locker(tmp_path / "work")


LOCAL = options("--no-index", "--find-links links")


def test_wheels_with_hash_size_and_address(channel: str, links: Path, locker: Locker) -> None:
    lock = locker.lock(["python"], (channel,), pip=[*wants("alpha"), *LOCAL], offline=True)
    assert versions(lock) == {"python": "3.11.7", "alpha": "1.0", "beta": "2.0"}
    assert [p.manager for p in lock.packages] == ["conda", "pip", "pip"]
    for package in lock.packages[1:]:
        wheel = links / package.file_name
        assert package.sha256 == Digest.of(wheel.read_bytes())
        assert package.size == wheel.stat().st_size
        assert package.url == wheel.as_uri()
        assert (package.build, package.channel, package.subdir) == ("", "", "")
        assert package.reproducible
        assert package.direct is (package.name == "alpha")
    assert set(lock.solver) == {"conda", "pip"}


def test_conda_packages_bind_pip(channel: str, links: Path, locker: Locker) -> None:
    conda = ["python", "numpy", "pytorch"]
    lock = locker.lock(conda, (channel,), pip=[*wants("uses-numpy"), *LOCAL])
    assert [p.name for p in lock.packages if p.manager == "pip"] == ["uses-numpy"]
    with pytest.raises(ResolveError) as caught:
        locker.lock(conda, (channel,), pip=[*wants("new-numpy"), *LOCAL])
    problem = caught.value.diagnostics[0]
    assert problem.code == "pip-unsatisfiable"
    assert "numpy 1.26.4 was chosen by conda" in problem.hint
    outcome = locker.outcome(conda, (channel,), pip=[*wants("numpy", "alpha"), *LOCAL])
    assert [d.code for d in outcome.diagnostics] == ["pip-from-conda"]
    assert [p.name for p in outcome.lock.packages if p.manager == "pip"] == ["alpha", "beta"]


def test_indexes_of_file_and_workspace(
    channel: str, links: Path, locker: Locker, tmp_path: Path
) -> None:
    private = simple_index(tmp_path / "private", links / "beta-1.0-py3-none-any.whl")
    public = simple_index(
        tmp_path / "public",
        links / "beta-2.0-py3-none-any.whl",
        links / "alpha-1.0-py3-none-any.whl",
    )
    by_file = [*wants("alpha"), *options(f"--index-url={public}")]
    assert versions(locker.lock(["python"], (channel,), pip=by_file, offline=True))["beta"] == "2.0"
    # RELIABILITY 68: the private index has the name, so the public one is not asked.
    both = [*by_file, *options(f"--extra-index-url {private}")]
    assert versions(locker.lock(["python"], (channel,), pip=both, offline=True))["beta"] == "1.0"
    named = Locker(tmp_path / "named", pip_indexes=(public, private))
    lock = named.lock(["python"], (channel,), pip=wants("alpha"), offline=True)
    assert versions(lock)["beta"] == "1.0"


def test_variables_and_files_of_the_user_are_not_read(
    channel: str, links: Path, locker: Locker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "hidden"
    make_wheel(hidden, "alpha", "9.0")
    for name, value in {
        "PIP_FIND_LINKS": str(hidden),
        "UV_FIND_LINKS": str(hidden),
        "UV_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "UV_RESOLUTION": "lowest",
        "UV_PRERELEASE": "allow",
        "UV_CONSTRAINT": str(tmp_path / "absent.txt"),
        "UV_CONFIG_FILE": str(tmp_path / "absent.toml"),
    }.items():
        monkeypatch.setenv(name, value)
    (locker.folder / "uv.toml").write_text(f'find-links = ["{hidden.as_uri()}"]\n')
    lock = locker.lock(["python"], (channel,), pip=[*wants("alpha"), *LOCAL])
    assert versions(lock)["alpha"] == "1.0"
    assert versions(lock)["beta"] == "2.0"


def test_wheels_follow_the_locked_glibc(channel: str, tmp_path: Path) -> None:
    for glibc, expected in (("2.28", "2_28"), ("2.40", "2_35"), ("2.17", "2_17")):
        locker = Locker(
            tmp_path / f"work-{glibc}",
            virtual_packages={"linux-64": {"__glibc": glibc, "__linux": "0", "__unix": "0"}},
        )
        links = locker.folder / "links"
        for minor in ("2_17", "2_28", "2_35"):
            make_wheel(links, "native", "1.0", tag=f"cp311-cp311-manylinux_{minor}_x86_64")
        make_wheel(links, "native", "1.0", tag="cp311-cp311-manylinux_2_17_aarch64")
        make_wheel(links, "native", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64")
        make_wheel(links, "native", "1.0", tag="cp311-cp311-win_amd64")
        lock = locker.lock(["python"], (channel,), pip=[*wants("native"), *LOCAL])
        assert (
            lock.packages[-1].file_name == f"native-1.0-cp311-cp311-manylinux_{expected}_x86_64.whl"
        )


def test_another_platform_gets_its_own_wheels(tmp_path: Path) -> None:
    maker = ChannelMaker(tmp_path / "arm").add(
        make_package("python", "3.11.7", subdir="linux-aarch64"),
        make_package("python", "3.11.7", subdir="osx-arm64"),
    )
    url = maker.index().url
    locker = Locker(tmp_path / "work")
    links = locker.folder / "links"
    for tag in ("manylinux_2_17_aarch64", "manylinux_2_17_x86_64", "macosx_11_0_arm64"):
        make_wheel(links, "native", "1.0", tag=f"cp311-cp311-{tag}")
    for platform, tag in (
        ("linux-aarch64", "manylinux_2_17_aarch64"),
        ("osx-arm64", "macosx_11_0_arm64"),
    ):
        lock = locker.lock(["python"], (url,), pip=[*wants("native"), *LOCAL], platform=platform)
        assert lock.packages[-1].file_name == f"native-1.0-cp311-cp311-{tag}.whl"


def test_update_keeps_other_wheels(channel: str, links: Path, locker: Locker) -> None:
    asked = [*wants("alpha", "beta"), *LOCAL]
    (links / "beta-2.0-py3-none-any.whl").rename(links.parent / "beta-2.0-py3-none-any.whl")
    before = locker.lock(["python"], (channel,), pip=asked)
    assert versions(before)["beta"] == "1.0"
    (links.parent / "beta-2.0-py3-none-any.whl").rename(links / "beta-2.0-py3-none-any.whl")
    make_wheel(links, "alpha", "1.1", ["beta"])
    after = locker.lock(
        ["python"], (channel,), pip=asked, previous=before, update=frozenset({"alpha"})
    )
    assert versions(after) == {"python": "3.11.7", "alpha": "1.1", "beta": "1.0"}
    assert {p.name: p for p in after.packages}["beta"] == {p.name: p for p in before.packages}[
        "beta"
    ]


def test_a_changed_line_moves_what_it_names(channel: str, links: Path, locker: Locker) -> None:
    make_wheel(links, "delta", "1.0")
    held = [*wants("alpha==1.0", "delta", "beta<2"), *LOCAL]
    before = locker.lock(["python"], (channel,), pip=held)
    assert versions(before)["beta"] == "1.0"
    make_wheel(links, "alpha", "1.1", ["beta"])
    make_wheel(links, "delta", "2.0")
    changed = [*wants("alpha==1.1"), *LOCAL]
    after = locker.lock(["python"], (channel,), pip=changed, previous=before, update=frozenset())
    assert versions(after) == {"python": "3.11.7", "alpha": "1.1", "beta": "1.0"}


def test_wheels_follow_a_python_that_moves(tmp_path: Path, locker: Locker) -> None:
    maker = ChannelMaker(tmp_path / "moving").add(make_package("python", "3.11.7"))
    links = locker.folder / "links"
    for minor in (11, 12):
        make_wheel(links, "native", tag=f"cp3{minor}-cp3{minor}-manylinux_2_17_x86_64")
    asked = [*wants("native"), *LOCAL]
    before = locker.lock(["python"], (maker.index().url,), pip=asked)
    maker.add(make_package("python", "3.12.1")).index()
    after = locker.lock(
        ["python"], (maker.url,), pip=asked, previous=before, update=frozenset({"python"})
    )
    assert [p.file_name[:16] for p in (before.packages[1], after.packages[1])] == [
        "native-1.0-cp311",
        "native-1.0-cp312",
    ]


def test_errors_say_what_to_do(channel: str, links: Path, locker: Locker) -> None:
    cases: list[tuple[list[str], list[PipLine], type[EnvgraphError], str]] = [
        (["python"], [*wants("unheard-of"), *LOCAL], ResolveError, "pip-unsatisfiable"),
        (["clib"], [*wants("alpha"), *LOCAL], InputError, "pip-without-python"),
        (["python"], wants("alpha"), OfflineError, "offline"),
        (
            ["python"],
            [PipLine("project", "./absent", path="/nonexistent/absent"), *LOCAL],
            InputError,
            "pip-project",
        ),
        (
            ["python"],
            [PipLine("url", "ftp://host.invalid/x.whl"), *LOCAL],
            InputError,
            "pip-address",
        ),
        (["python"], [PipLine("url", "git+ext::sh -c x"), *LOCAL], InputError, "pip-git"),
        *(
            (["python"], [PipLine("url", f"git+{address}"), *LOCAL], InputError, "pip-git")
            for address in (
                "https://h.invalid/x@--upload-pack=touch%20y",
                "https://h.invalid/x@-b",
                "https://h.invalid/x@%2Db",
                "ssh://-oProxyCommand=x/y",
                "ssh://u@-oProxyCommand=x/y",
                "ssh://-oProxyCommand=x@h.invalid/y",
                "ssh://%2DoProxyCommand=x/y",
                "https::h.invalid/y",
                "ext::sh/x",
                "--upload-pack=x://h.invalid/y",
                "fd::17/x",
                "-c://x",
            )
        ),
        (["python"], [PipLine("url", "hg+https://h.invalid/x"), *LOCAL], InputError, "pip-address"),
    ]
    for conda, pip, kind, code in cases:
        with pytest.raises(kind) as caught:
            locker.lock(conda, (channel,), pip=pip, offline=True)
        assert caught.value.diagnostics[0].code == code


def test_a_wheel_by_address_is_measured_and_checked(
    channel: str, links: Path, locker: Locker
) -> None:
    wheel = links / "beta-1.0-py3-none-any.whl"
    digest = Digest.of(wheel.read_bytes())
    address = f"{wheel.as_uri()}#sha256={digest.hex}"
    lock = locker.lock(["python"], (channel,), pip=[PipLine("url", address), *LOCAL])
    assert (lock.packages[-1].sha256, lock.packages[-1].reproducible) == (digest, True)
    wrong = f"{wheel.as_uri()}#sha256={'0' * 64}"
    with pytest.raises(IntegrityError):
        locker.lock(["python"], (channel,), pip=[PipLine("url", wrong), *LOCAL])


def test_an_index_over_http_that_lies(channel: str, tmp_path: Path, locker: Locker) -> None:
    wheel = make_wheel(tmp_path / "made", "gamma", "1.0")
    simple_index(tmp_path / "site" / "simple", wheel)
    page = tmp_path / "site" / "simple" / "gamma" / "index.html"
    good = page.read_text()
    with ChannelServer(tmp_path / "site") as server:
        links = f"--find-links {server.origin}/simple/gamma/index.html"
        asked = [*wants("gamma"), *options("--no-index", links)]
        lock = locker.lock(["python"], (channel,), pip=asked)
        assert lock.packages[-1].url.startswith(server.origin)
        assert lock.packages[-1].size == wheel.stat().st_size
        other = Locker(tmp_path / "other")
        page.write_text(good.replace(good.partition("#sha256=")[2][:64], "0" * 64))
        with pytest.raises(EnvgraphError) as caught:
            other.lock(["python"], (channel,), pip=asked)
    assert "gamma" in str(caught.value.diagnostics[0])


@pytest.fixture
def real(real_channel: Channel) -> str:
    return real_channel.url


def test_what_is_no_wheel_is_built_once(real: str, locker: Locker, tmp_path: Path) -> None:
    """An sdist, a local project and a git address, by the locked Python."""
    links = locker.folder / "links"
    make_sdist(links, "fromsdist")
    project = make_project(locker.folder / "local", "local")
    repository = make_project(tmp_path / "repository", "fromgit")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "commit", "-q", "-m", "x"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", *command], cwd=repository, check=True)
    pip = [
        *wants("fromsdist"),
        PipLine("project", "./local", editable=True, path=str(project)),
        PipLine("url", f"git+{repository.as_uri()}@v1#egg=fromgit"),
        *LOCAL,
    ]
    outcome = locker.outcome(["python"], (real,), pip=pip, offline=True)
    built = {p.name: p for p in outcome.lock.packages if p.manager == "pip"}
    assert set(built) == {"fromsdist", "local", "fromgit"}
    for package in built.values():
        assert not package.reproducible
        assert package.direct
        assert package.file_name.endswith("-py3-none-any.whl")
        assert locker.packages.has(package.sha256)
        assert locker.packages.path(package.sha256).stat().st_size == package.size
    assert built["fromgit"].url.startswith(f"git+{repository.as_uri()}@")
    assert built["fromsdist"].url == (links / "fromsdist-0.1.tar.gz").as_uri()
    assert [d.code for d in outcome.diagnostics] == ["pip-editable"]
    # The same lines, updated elsewhere: nothing is built again, though it could not be.
    shutil.rmtree(project)
    shutil.rmtree(repository)
    count = locker.packages.count
    again = locker.lock(
        ["python"], (real,), pip=pip, offline=True,
        previous=outcome.lock, update=frozenset({"python"}),
    )  # fmt: skip
    assert again.packages == outcome.lock.packages
    assert locker.packages.count == count
    target = tmp_path / "prefix"
    install_prefix(outcome.lock, locker.archive, target)
    script = "import fromsdist, local, fromgit; print(local.VALUE)"
    done = subprocess.run(
        [target / "bin" / "python", "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
    assert not list((locker.cache).glob("pip-*"))


def test_a_build_that_fails(real: str, locker: Locker) -> None:
    project = make_project(locker.folder / "broken", "broken")
    (locker.folder / "links").mkdir()
    (project / "backend.py").write_text("raise SystemExit('no compiler here')\n")
    with pytest.raises(BuildError) as caught:
        locker.lock(
            ["python"],
            (real,),
            pip=[PipLine("project", "./broken", path=str(project)), *LOCAL],
            offline=True,
        )
    problem = caught.value.diagnostics[0]
    assert problem.code == "pip-build"
    assert "no compiler here" in problem.detail


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('record += "%s,sha256=%s,%d\\n" % (path, digest.decode().rstrip("="), len(text))',
         'record += path + ",,\\n"', "hash / size of broken.py is not included"),
        ('hashlib.sha256(text.encode())', 'hashlib.sha256(b"")', "didn't match RECORD"),
        ('sha256(text.encode()).digest())', 'md5(text.encode()).digest())', "match RECORD"),
        ('record += "%s,sha256=%s', 'record += "%s,md5=%s', "match RECORD"),
    ],
)  # fmt: skip
def test_a_built_wheel_that_nobody_could_install(
    real: str, locker: Locker, old: str, new: str, says: str
) -> None:
    """It is found where it is built, and not only when its layer is made."""
    project = make_project(locker.folder / "broken", "broken")
    (locker.folder / "links").mkdir()
    backend = project / "backend.py"
    assert old in backend.read_text()
    backend.write_text(backend.read_text().replace(old, new))
    with pytest.raises(IntegrityError) as caught:
        locker.lock(
            ["python"],
            (real,),
            pip=[PipLine("project", "./broken", path=str(project)), *LOCAL],
            offline=True,
        )
    [problem] = caught.value.diagnostics
    assert problem.code == "wheel-invalid"
    assert says in problem.detail
    assert "/" not in problem.detail.replace("hash / size", "").replace("dist-info/", "")
    assert "backend" in problem.hint


def test_a_wheel_with_weak_hashes(channel: str, links: Path, locker: Locker) -> None:
    wheel = links / "weak-1.0-py3-none-any.whl"
    info = "weak-1.0.dist-info"
    files = {
        "weak.py": b"",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: weak\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD,,\n"
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.md5(data, usedforsecurity=False).digest())
        record += f"{path},md5={digest.decode().rstrip('=')},{len(data)}\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in [*files.items(), (f"{info}/RECORD", record.encode())]:
            archive.writestr(path, data)
    line = PipLine("project", str(wheel), path=str(wheel))
    with pytest.raises(IntegrityError) as caught:
        locker.lock(["python"], (channel,), pip=[line, *LOCAL], offline=True)
    assert "md5" in caught.value.diagnostics[0].detail
