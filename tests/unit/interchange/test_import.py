"""Locks of other tools: read whole, checked against the archives, found again by the next plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.apply.importing import Imported, ImportQuestion
from envgraph.errors import EnvgraphError, FetchError, InputError, IntegrityError
from envgraph.interchange.condalock import conda_lock
from envgraph.interchange.explicit import explicit
from envgraph.interchange.pylock import pylock
from envgraph.lock.find import lockfile_path
from envgraph.lock.lockfile import read_lockfile
from envgraph.model.locked import LockedEnvironment
from envgraph.testing.http import ChannelServer
from envgraph_store.digest import Digest
from tests.exchange import PACKAGES, Machine, good
from tests.integration.locking import make_wheel
from tests.services import Channel


@pytest.fixture
def giver(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", name="giver")
    machine.environment("train", *PACKAGES)
    good(machine.apply())
    return machine


@pytest.fixture
def taker(tmp_path: Path, demo_channel: Channel) -> Machine:
    return Machine(tmp_path / "taker", demo_channel.url, id="bbbb0002", name="taker")


def locked(machine: Machine, name: str = "train") -> LockedEnvironment:
    with machine.open(offline=True) as workspace:
        return workspace.lock_of(workspace.find(name))


def take(machine: Machine, file: Path, name: str | None = None) -> Imported:
    with machine.open() as workspace:
        return workspace.importer.run(ImportQuestion(file, name))


def files(machine: Machine) -> list[str]:
    return sorted(
        str(path.relative_to(machine.folder))
        for path in machine.folder.rglob("*")
        if path.is_file() and path.name != "envgraph.yaml"
    )


def same_packages(one: LockedEnvironment, other: LockedEnvironment) -> bool:
    def bytes_of(lock: LockedEnvironment) -> list[tuple[str, ...]]:
        return [(p.manager, p.name, p.version, p.build, p.sha256.hex) for p in lock.packages]

    return bytes_of(one) == bytes_of(other)


def settled(machine: Machine) -> None:
    """The plan needs no solve: the channel may be gone."""
    machine.settings(channels={"demo": "file:///nowhere"})
    plan = machine.plan(offline=True)
    assert plan.applyable, plan.diagnostics
    assert plan.summary["resolve"] == 0


def test_our_own_lockfile_keeps_every_package(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    lock = locked(giver)
    file = tmp_path / "train.conda-lock.yml"
    file.write_text(conda_lock([lock]).text)
    done = take(taker, file)
    assert done.name == "train"
    assert done.fetched == 0
    settled(taker)
    taker.settings()
    good(taker.apply())
    mine = locked(taker)
    assert mine.packages == lock.packages


def foreign(text: str) -> str:
    """The lockfile as conda-lock would have written it: without what envgraph adds."""
    head, _, _ = text.partition("  custom_metadata:")
    tail = text[text.index("\npackage:") :]
    return head.rstrip() + tail


def test_a_foreign_conda_lock_is_completed_from_the_archives(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    lock = locked(giver)
    file = tmp_path / "conda-lock.yml"
    file.write_text(foreign(conda_lock([lock]).text))
    assert "envgraph" not in file.read_text().partition("package:")[2]
    done = take(taker, file, "again")
    assert done.fetched == len(lock.packages)
    assert done.bytes == sum(p.size for p in lock.packages)
    settled(taker)
    good(taker.apply(offline=True))  # every archive is here already
    mine = locked(taker, "again")
    assert same_packages(mine, lock)
    for ours, theirs in zip(mine.packages, lock.packages, strict=True):
        assert (ours.noarch, ours.size, ours.md5) == (theirs.noarch, theirs.size, theirs.md5)
        assert set(ours.depends) == set(theirs.depends)
    with giver.open() as one, taker.open() as other:
        assert one.find("train").image == other.find("again").image


@pytest.mark.parametrize("hashed", ["sha256", "md5", "none"])
def test_an_explicit_list(giver: Machine, taker: Machine, tmp_path: Path, hashed: str) -> None:
    lock = locked(giver)
    text = explicit(lock, "train:1").text
    for package in lock.packages:
        mark = f"#sha256:{package.sha256.hex}"
        assert mark in text
        if hashed != "sha256":
            text = text.replace(mark, f"#{package.md5}" if hashed == "md5" else "")
    file = tmp_path / "train.txt"
    file.write_text(text)
    done = take(taker, file)
    assert done.packages == {"linux-64": len(lock.packages)}
    settled(taker)
    good(taker.apply(offline=True))
    assert same_packages(locked(taker), lock)


def test_a_wrong_md5_imports_nothing(giver: Machine, taker: Machine, tmp_path: Path) -> None:
    lock = locked(giver)
    lines = ["# platform: linux-64", "@EXPLICIT"]
    lines += [f"{p.url}#{'0' * 32}" for p in lock.packages[:2]]
    lines += [f"{p.url}#{p.md5}" for p in lock.packages[2:]]
    file = tmp_path / "train.txt"
    file.write_text("\n".join(lines))
    with pytest.raises(IntegrityError) as caught:
        take(taker, file)
    assert [d.code for d in caught.value.diagnostics] == ["wrong-hash"] * 2
    assert files(taker) == []


def test_an_archive_that_is_gone_is_named(giver: Machine, taker: Machine, tmp_path: Path) -> None:
    [first, *_] = locked(giver).packages
    file = tmp_path / "train.txt"
    file.write_text(f"@EXPLICIT\n{first.url.replace(first.name, 'absent')}\n")
    with pytest.raises(FetchError, match="absent"):
        take(taker, file)
    assert files(taker) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("version: 1000\nmetadata: {}\npackage: []\n", "lock-version"),
        ("version: true\nmetadata: {}\npackage: []\n", "lock-version"),
        ("version: 1\nmetadata: []\npackage: []\n", "lock-format"),
        ("@EXPLICIT\nnumpy\n", "explicit-line"),
        ("@EXPLICIT\nhttps://x.org/c/noarch/a-1-0.conda#12\n", "explicit-line"),
        (
            "@EXPLICIT\nhttps://x.org/c/osx-64/a-1-0.conda\nhttps://x.org/c/win-64/b-1-0.conda\n",
            "explicit-platform",
        ),
        ("@EXPLICIT\nhttps://x.org/c/osx-64/a-1-0.conda\n", "import-platform"),
        ("hello\n", "import-kind"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name(
    taker: Machine, tmp_path: Path, text: str, code: str
) -> None:
    file = tmp_path / "some.txt"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        take(taker, file)
    assert caught.value.diagnostics[0].code == code
    assert files(taker) == []


def test_nothing_is_overwritten(giver: Machine, taker: Machine, tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_text(explicit(locked(giver), "train").text)
    taker.environment("train", "alpha")
    before = files(taker)
    with pytest.raises(InputError) as caught:
        take(taker, file)
    assert caught.value.diagnostics[0].code == "exists"
    assert files(taker) == before


def pixi_lock(lock: LockedEnvironment, version: int = 6, extra: str = "") -> str:
    """What pixi writes, from the lock."""
    channel = lock.packages[0].url.rsplit("/", 2)[0]
    head = [f"version: {version}", "environments:", "  default:", "    channels:"]
    head += [f"    - url: {channel}/", "    packages:", "      linux-64:"]
    head += [f"      - conda: {p.url}" for p in lock.packages]
    tail = ["packages:"]
    for p in lock.packages:
        tail += [f"- conda: {p.url}", f"  subdir: {p.subdir}"]
        tail += [f"  sha256: {p.sha256.hex}", f"  md5: {p.md5}"]
        tail += ["  depends:", *(f"  - {text}" for text in p.depends)] if p.depends else []
        tail += [f"  size: {p.size}"]
        tail += [f"  timestamp: {p.timestamp_ms}"] if p.timestamp_ms else []
    return "\n".join(head) + "\n" + extra + "\n".join(tail) + "\n"


def test_a_pixi_lock_leaves_open_which_noarch_is_meant(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    lock = locked(giver)
    file = tmp_path / "pixi.lock"
    file.write_text(pixi_lock(lock))
    done = take(taker, file, "again")
    assert (done.kind, done.fetched) == ("pixi", sum(1 for p in lock.packages if p.noarch))
    settled(taker)
    taker.settings()
    good(taker.apply())
    mine = locked(taker, "again")
    assert same_packages(mine, lock)
    for ours, theirs in zip(mine.packages, lock.packages, strict=True):
        assert (ours.noarch, ours.size, ours.md5) == (theirs.noarch, theirs.size, theirs.md5)


@pytest.mark.parametrize("version", ["3", "8", "1000", "six", "''"])
def test_other_versions_of_pixi_are_refused_by_name(
    taker: Machine, tmp_path: Path, version: str
) -> None:
    file = tmp_path / "pixi.lock"
    file.write_text(f"version: {version}\nenvironments: {{}}\npackages: []\n")
    with pytest.raises(InputError, match="4 to 7 can be imported") as caught:
        take(taker, file)
    assert caught.value.diagnostics[0].code == "lock-version"
    assert caught.value.diagnostics[0].source is not None


def test_what_pixi_builds_from_sources_cannot_be_pinned(
    giver: Machine, taker: Machine, tmp_path: Path
) -> None:
    text = pixi_lock(locked(giver)).replace("packages:\n- conda", "packages:\n- pypi: ./mine\n"
        "  name: mine\n  version: 1.0.0\n  sha256: " + "0" * 64 + "\n- conda")  # fmt: skip
    text = text.replace("      linux-64:\n", "      linux-64:\n      - pypi: ./mine\n")
    file = tmp_path / "pixi.lock"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        take(taker, file)
    assert [d.code for d in caught.value.diagnostics] == ["import-source"]
    assert "mine" in caught.value.diagnostics[0].summary
    assert files(taker) == []


@pytest.fixture
def pip_taker(taker: Machine) -> Machine:
    taker.settings(default_channels=["demo"])
    return taker


def pip_settled(machine: Machine) -> None:
    machine.settings(default_channels=["demo"], channels={"demo": "file:///nowhere"})
    plan = machine.plan(offline=True)
    assert plan.applyable, plan.diagnostics
    assert plan.summary["resolve"] == 0


def test_requirements_with_hashes(pip_taker: Machine, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "links", "gamma-x", "1.5")
    digest = Digest.of(wheel.read_bytes())
    file = tmp_path / "requirements.txt"
    file.write_text(
        f"--no-index\n--find-links {(tmp_path / 'links').as_uri()}\n"
        f"gamma-x==1.5 \\\n    --hash=sha256:{digest.hex}\n"
    )
    done = take(pip_taker, file, "pips")
    assert done.packages == {"linux-64": 2}
    pip_settled(pip_taker)
    pip_taker.settings(default_channels=["demo"])
    good(pip_taker.apply())
    python, gamma = locked(pip_taker, "pips").packages
    assert (python.name, gamma.name, gamma.sha256) == ("python", "gamma-x", digest)


def test_a_wrong_hash_in_requirements_imports_nothing(pip_taker: Machine, tmp_path: Path) -> None:
    make_wheel(tmp_path / "links", "gamma-x", "1.5")
    file = tmp_path / "requirements.txt"
    links = (tmp_path / "links").as_uri()
    file.write_text(f"--no-index\n--find-links {links}\ngamma-x==1.5 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(EnvgraphError):
        take(pip_taker, file, "pips")
    assert files(pip_taker) == []


def test_pylock_takes_the_wheels_that_it_names(pip_taker: Machine, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "links", "gamma-x", "1.5")
    other = make_wheel(tmp_path / "links", "gamma-x", "1.5", tag="cp311-cp311-win_amd64")
    digest = Digest.of(wheel.read_bytes())
    file = tmp_path / "pylock.toml"
    wheels = ", ".join(
        f'{{ name = "{w.name}", url = "{w.as_uri()}", '
        f'hashes = {{ sha256 = "{Digest.of(w.read_bytes()).hex}" }} }}'
        for w in (other, wheel)
    )
    file.write_text(
        'lock-version = "1.0"\ncreated-by = "test"\nrequires-python = ">=3.12"\n'
        f'[[packages]]\nname = "gamma-x"\nversion = "1.5"\nwheels = [{wheels}]\n'
        '[[packages]]\nname = "only-windows"\nversion = "1.5"\n'
        f"marker = \"sys_platform == 'win32'\"\n"
        f"wheels = [{wheels.replace('gamma_x', 'only_windows')}]\n"
    )
    done = take(pip_taker, file, "pips")
    assert done.fetched == 1  # the lock did not say its size
    pip_settled(pip_taker)
    pip_taker.settings(default_channels=["demo"])
    good(pip_taker.apply())
    python, gamma = locked(pip_taker, "pips").packages
    assert (python.name, gamma.name, gamma.sha256) == ("python", "gamma-x", digest)
    back = tmp_path / "pylock.again.toml"
    back.write_text(pylock(locked(pip_taker, "pips"), "pips:1").text)
    take(pip_taker, back, "back")
    assert locked_file(pip_taker, "back").packages == locked(pip_taker, "pips").packages


def locked_file(machine: Machine, name: str) -> LockedEnvironment:
    return read_lockfile(lockfile_path(machine.folder, name)).locks["linux-64"]


@pytest.mark.parametrize("flavor", ["conda", "virtualenv"])
def test_an_mlflow_model(pip_taker: Machine, tmp_path: Path, flavor: str) -> None:
    links = (tmp_path / "links").as_uri()
    make_wheel(tmp_path / "links", "gamma-x", "1.5")
    model = tmp_path / "model"
    model.mkdir()
    (model / "requirements.txt").write_text(f"--no-index\n--find-links {links}\ngamma-x==1.5\n")
    (model / "conda.yaml").write_text(
        "channels: [demo]\nname: mlflow-env\ndependencies:\n"
        "- python=3.12\n- pip:\n  - -r requirements.txt\n"
    )
    (model / "python_env.yaml").write_text("python: 3.12\ndependencies:\n- -r requirements.txt\n")
    named = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}[flavor]
    (model / "MLmodel").write_text(
        f"flavors:\n  python_function:\n    env:\n      {flavor}: {named}\n"
    )
    done = take(pip_taker, model)
    assert (done.kind, done.name, done.packages) == ("mlflow", "model", {"linux-64": 2})
    pip_settled(pip_taker)


def test_a_model_that_names_what_is_not_there(pip_taker: Machine, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {env: ../conda.yaml}}\n")
    for text, code in (
        ("flavors: {python_function: {env: ../conda.yaml}}\n", "mlflow-environment"),
        ("flavors: {python_function: {env: conda.yaml}}\n", "missing-file"),
        ("flavors: {python_function: {}}\n", "mlflow-environment"),
        ("flavors: {}\n", "mlflow-environment"),
    ):
        (tmp_path / "MLmodel").write_text(text)
        with pytest.raises(InputError) as caught:
            take(pip_taker, tmp_path / "MLmodel", "m")
        assert caught.value.diagnostics[0].code == code


def test_over_http_with_a_token_that_is_kept_nowhere(
    giver: Machine, taker: Machine, tmp_path: Path, demo_channel: Channel
) -> None:
    lock = locked(giver)
    token = "tk-0123456789abcdef"
    with ChannelServer(demo_channel.folder, token=token) as server:
        secret = server.url
        assert token in secret
        lines = ["# platform: linux-64", "@EXPLICIT"]
        lines += [f"{secret}/{p.subdir}/{p.file_name}#{p.md5}" for p in lock.packages]
        file = tmp_path / "train.txt"
        file.write_text("\n".join(lines))
        with pytest.raises(FetchError) as caught:  # what is written into a lock is no login
            take(taker, file)
        assert token not in str(caught.value.diagnostics)
        taker.settings(channels={"demo": secret})
        done = take(taker, file)
    assert done.fetched == len(lock.packages)
    assert same_packages(locked_file(taker, "train"), lock)
    for path in [done.file, done.lockfile, *taker.store.rglob("*")]:
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
