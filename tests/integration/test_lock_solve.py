"""Solving: what a lock may depend on, and what conda would have answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from envgraph.conda import problems
from envgraph.conda.channels import channel_sources
from envgraph.conda.gateway import run_async
from envgraph.conda.request import SolveRequest
from envgraph.conda.solve import solve
from envgraph.conda.specs import parse_requirements
from envgraph.errors import InputError, OfflineError, ResolveError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import lock_identity
from envgraph.model.spec import CondaSpec, Requirement
from envgraph.testing.channel import ChannelMaker, make_package
from envgraph.testing.http import ChannelServer
from tests.integration.locking import Locker, versions


@pytest.fixture
def high(tmp_path: Path) -> ChannelMaker:
    maker = ChannelMaker(tmp_path / "high").add(
        make_package("foo", "1.0", noarch="generic"),
        make_package("needs-two", "1.0", depends=["foo >=2"]),
        make_package("app", "1.0", depends=["foo"]),
        make_package("app", "2.0", depends=["foo"]),
    )
    return maker.index()


@pytest.fixture
def low(tmp_path: Path) -> ChannelMaker:
    maker = ChannelMaker(tmp_path / "low").add(
        make_package("foo", "2.0", noarch="generic"), make_package("only-low", "1.0")
    )
    return maker.index()


@pytest.fixture
def locker(tmp_path: Path) -> Locker:
    return Locker(tmp_path / "work")


def test_lower_channel_never_wins_a_name_that_a_higher_one_has(
    high: ChannelMaker, low: ChannelMaker, locker: Locker
) -> None:
    """Sharp edge 5, for what was asked and for what came along."""
    for asked in ("foo >=2", "foo>=2", "foo=2", "needs-two"):
        with pytest.raises(ResolveError) as caught:
            locker.lock([asked], (high.url, low.url))
        problem = caught.value.diagnostics[0]
        assert problem.code == "unsatisfiable"
        assert "foo 2.0" in problem.detail
        assert "CHANNEL::NAME" in problem.hint
    assert versions(locker.lock(["foo"], (high.url, low.url))) == {"foo": "1.0"}
    assert versions(locker.lock(["foo"], (low.url, high.url))) == {"foo": "2.0"}


def test_channel_in_front_of_a_package(
    high: ChannelMaker, low: ChannelMaker, locker: Locker
) -> None:
    locker.config = Locker(locker.folder, channels={"mine": str(low.folder)}).config
    for asked in (f"{low.url}::foo", "mine::foo", "foo[channel=mine]", "mine/noarch::foo >=1"):
        lock = locker.lock([asked, "app"], (high.url,))
        assert versions(lock) == {"app": "2.0", "foo": "2.0"}, asked
    lock = locker.lock(["mine::foo", "only-low"], (high.url,))
    channels = {p.name: p.channel for p in lock.packages}
    assert channels == {"foo": "mine", "only-low": "mine"}


def test_what_the_machine_has_is_not_asked(
    tmp_path: Path, locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = ChannelMaker(tmp_path / "gpu").add(
        make_package("net", "1.0", "cuda_0", depends=["__cuda"], build_number=1),
        make_package("net", "1.0", "cpu_0"),
        make_package("tuned", "1.0", "fast", depends=["__archspec 1 x86_64_v3"], build_number=1),
        make_package("tuned", "1.0", "plain"),
        make_package("newer-libc", "2.0", depends=["__glibc >=2.35"]),
        make_package("newer-libc", "1.0", depends=["__glibc >=2.17"]),
    )
    url = maker.index().url
    for name, value in (("CUDA", "12.4"), ("GLIBC", "2.40"), ("ARCHSPEC", "x86_64_v4")):
        monkeypatch.setenv(f"CONDA_OVERRIDE_{name}", value)
    outcome = locker.outcome(["net", "tuned", "newer-libc"], (url,))
    builds = {p.name: (p.version, p.build) for p in outcome.lock.packages}
    assert builds == {
        "net": ("1.0", "cpu_0"),
        "tuned": ("1.0", "plain"),
        "newer-libc": ("1.0", "0"),
    }
    hints = [d for d in outcome.diagnostics if d.code == "cpu-build"]
    assert [d.severity for d in hints] == ["info"]
    assert "net" in hints[0].summary
    assert "__cuda" in hints[0].hint

    given = {"linux-64": {"__unix": "0", "__linux": "0", "__glibc": "2.36", "__cuda": "12.4"}}
    locker = Locker(tmp_path / "with-gpu", virtual_packages=given)
    outcome = locker.outcome(["net", "newer-libc"], (url,))
    assert {p.name: p.build for p in outcome.lock.packages}["net"] == "cuda_0"
    assert versions(outcome.lock)["newer-libc"] == "2.0"
    assert outcome.diagnostics == ()


def test_text_of_real_files_is_read(tmp_path: Path, locker: Locker) -> None:
    """Strict parsing refuses half of these; conda takes them all."""
    maker = ChannelMaker(tmp_path / "many").add(
        *(make_package("numpy", v, "h5_0") for v in ("1.26.0", "1.26.4", "2.1.0")),
    )
    url = maker.index().url
    for asked, answer in {
        "numpy=1.26.*": "1.26.4",
        "numpy=1.26": "1.26.4",
        "numpy 1.26.0": "1.26.0",
        "numpy=1.26.0=h5_0": "1.26.0",
        "numpy >=1.26,<2": "1.26.4",
        "numpy==2.1.0": "2.1.0",
        "numpy~=1.26.0": "1.26.4",
        "numpy[build=h5_0]": "2.1.0",
        "numpy 1.26.*|2.0.*": "1.26.4",
        "NumPy": "2.1.0",
    }.items():
        assert versions(locker.lock([asked], (url,))) == {"numpy": answer}, asked


def test_every_wrong_requirement_is_named_at_once(high: ChannelMaker, locker: Locker) -> None:
    with pytest.raises(InputError) as caught:
        locker.lock(
            ["foo", "foo ==", "foo >=1,<", "https://h/x-1-0.conda", "sel(linux): foo"], (high.url,)
        )
    assert [d.code for d in caught.value.diagnostics] == ["match-spec"] * 4


def test_reasons_and_hints(high: ChannelMaker, low: ChannelMaker, locker: Locker) -> None:
    cases = {
        "nothing-like-it": "no package nothing-like-it for linux-64",
        "something-else": "is a channel missing?",
        "needs_two": "did you mean needs-two?",
        "foo >=7": "high has foo in 1.0",
    }
    for asked, hint in cases.items():
        with pytest.raises(ResolveError) as caught:
            locker.lock([asked], (high.url,))
        problem = caught.value.diagnostics[0]
        assert problem.code == "unsatisfiable"
        assert asked.split(" ")[0] in problem.detail
        assert hint in problem.hint
    maker = ChannelMaker(locker.folder / "libc").add(
        make_package("modern", depends=["__glibc >=2.39"]),
        make_package("gpu-only", depends=["__cuda >=12"]),
    )
    url = maker.index().url
    with pytest.raises(ResolveError) as caught:
        locker.lock(["modern"], (url,))
    assert "glibc 2.39 is wanted" in caught.value.diagnostics[0].hint
    with pytest.raises(ResolveError) as caught:
        locker.lock(["gpu-only"], (url,))
    assert "__cuda" in caught.value.diagnostics[0].hint


def test_cutoff_is_an_instant_and_not_a_wall_clock(tmp_path: Path) -> None:
    """Sharp edge 3: rattler drops the time zone; noon in UTC+9 is 03:00 in UTC."""
    stamps = {"1.0": 1, "2.0": 5}
    maker = ChannelMaker(tmp_path / "dated").add(
        *(
            make_package(
                "foo",
                version,
                timestamp_ms=int(datetime(2026, 1, 1, hour, tzinfo=UTC).timestamp() * 1000),
            )
            for version, hour in stamps.items()
        )
    )
    maker.index()
    conda = CondaSpec(channels=(maker.url,), dependencies=(Requirement("foo"),))
    config = Locker(tmp_path / "work").config
    sources = channel_sources(conda, config)
    specs = parse_requirements(conda, sources, config)
    tokyo = timezone(timedelta(hours=9))
    for zone, hour, answer in ((UTC, 6, "2.0"), (UTC, 3, "1.0"), (tokyo, 12, "1.0")):
        cutoff = datetime(2026, 1, 1, hour, tzinfo=zone)
        request = SolveRequest(specs, sources, "linux-64", {}, exclude_newer=cutoff)
        found = solve(request, cache=tmp_path / "cache")
        assert [c.version for c in found.candidates] == [answer]


def test_index_time_wins_over_build_time(tmp_path: Path) -> None:
    """The other half of sharp edge 3: said here, so that a change is noticed."""
    maker = ChannelMaker(tmp_path / "indexed").add(make_package("foo", "1.0", timestamp_ms=1000))
    maker.index_with_rattler()
    conda = CondaSpec(channels=(maker.url,), dependencies=(Requirement("foo"),))
    config = Locker(tmp_path / "work").config
    sources = channel_sources(conda, config)
    specs = parse_requirements(conda, sources, config)
    cutoff = datetime(2020, 1, 1, tzinfo=UTC)
    request = SolveRequest(specs, sources, "linux-64", {}, exclude_newer=cutoff)
    with pytest.raises(ResolveError):
        solve(request, cache=tmp_path / "cache")


def test_panic_is_an_error(
    high: ChannelMaker, locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sharp edge 8: a panic of rattler is no Exception."""

    class PanicException(BaseException):
        pass

    async def panics(*_: object) -> None:
        raise PanicException("index out of bounds: token=hunter2x")

    monkeypatch.setattr("envgraph.conda.solve._solve", panics)
    with pytest.raises(ResolveError) as caught:
        locker.lock(["foo"], (high.url,))
    assert caught.value.diagnostics[0].code == "solver-crash"


def test_a_bug_is_not_called_a_channel_failure(
    high: ChannelMaker, locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("envgraph.conda.solve._solve", wrong)
    with pytest.raises(TypeError):
        locker.lock(["foo"], (high.url,))


def test_virtual_packages_that_are_none(high: ChannelMaker, tmp_path: Path) -> None:
    for given in ({"__glibc": "2 28"}, {"__glibc": ""}, {"no name": "1"}):
        locker = Locker(tmp_path / "work", virtual_packages={"linux-64": given})
        with pytest.raises(InputError) as caught:
            locker.lock(["foo"], (high.url,))
        assert caught.value.diagnostics[0].code == "virtual-package"


def test_interrupt_is_not_swallowed(
    high: ChannelMaker, locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("envgraph.conda.solve._solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        locker.lock(["foo"], (high.url,))


def test_solving_inside_a_running_loop(high: ChannelMaker, locker: Locker) -> None:
    async def notebook() -> dict[str, str]:
        return versions(locker.lock(["foo"], (high.url,)))

    assert run_async(notebook()) == {"foo": "1.0"}


def test_several_platforms(tmp_path: Path, locker: Locker) -> None:
    maker = ChannelMaker(tmp_path / "two").add(
        make_package("tool", "1.0", subdir="linux-64"),
        make_package("tool", "1.1", subdir="linux-aarch64"),
        make_package("tool", "1.2", subdir="osx-arm64", depends=["__osx >=11.0"]),
        make_package("shared", "1.0", noarch="generic"),
    )
    url = maker.index().url
    for platform, version in (("linux-64", "1.0"), ("linux-aarch64", "1.1"), ("osx-arm64", "1.2")):
        lock = locker.lock(["tool", "shared"], (url,), platform=platform)
        assert versions(lock) == {"shared": "1.0", "tool": version}
        assert {p.name: p.subdir for p in lock.packages} == {"shared": "noarch", "tool": platform}
    keys = {locker.lock(["tool"], (url,), platform=p).pin_key for p in ("linux-64", "osx-arm64")}
    assert len(keys) == 2


def test_update_moves_one_package_only(tmp_path: Path, locker: Locker) -> None:
    maker = ChannelMaker(tmp_path / "moving").add(
        make_package("foo", "1.0"), make_package("bar", "1.0"), make_package("baz", "1.0")
    )
    url = maker.index().url
    before = locker.lock(["foo", "bar", "baz"], (url,))
    maker.add(make_package("foo", "2.0"), make_package("bar", "2.0"))
    maker.add(make_package("baz", "2.0", depends=["bar >=2"])).index()
    after = locker.outcome(
        ["foo", "bar", "baz"], (url,), previous=before, update=frozenset({"foo"})
    )
    assert versions(after.lock) == {"foo": "2.0", "bar": "1.0", "baz": "1.0"}
    assert after.diagnostics == ()
    held = locker.outcome(
        ["foo", "bar", "baz >=2"], (url,), previous=before, update=frozenset({"baz"})
    )
    assert versions(held.lock) == {"foo": "1.0", "bar": "2.0", "baz": "2.0"}
    assert [(d.code, d.severity) for d in held.diagnostics] == [("update-moved", "warning")]
    with pytest.raises(InputError) as caught:
        locker.lock(["foo"], (url,), previous=before, update=frozenset({"typo"}))
    assert caught.value.diagnostics[0].code == "update-unknown"


def test_kept_packages_survive_their_channel(tmp_path: Path, locker: Locker) -> None:
    maker = ChannelMaker(tmp_path / "shrinking").add(
        make_package("foo", "1.0"), make_package("bar", "1.0")
    )
    url = maker.index().url
    before = locker.lock(["foo", "bar"], (url,))
    (tmp_path / "shrinking" / "linux-64" / "foo-1.0-0.conda").unlink()
    maker.add(make_package("foo", "2.0"), make_package("bar", "2.0")).index()
    after = locker.lock(["foo", "bar"], (url,), previous=before, update=frozenset({"bar"}))
    assert versions(after) == {"foo": "1.0", "bar": "2.0"}
    kept = {p.name: p for p in before.packages}["foo"]
    assert {p.name: p for p in after.packages}["foo"] == kept


def test_kept_packages_obey_channels_and_their_order(
    high: ChannelMaker, low: ChannelMaker, locker: Locker
) -> None:
    before = locker.lock(["foo"], (low.url, high.url))
    assert versions(before) == {"foo": "2.0"}
    nothing = frozenset[str]()
    turned = locker.lock(["foo"], (high.url, low.url), previous=before, update=nothing)
    assert versions(turned) == {"foo": "1.0"}
    gone = locker.lock(["foo"], (high.url,), previous=before, update=nothing)
    assert versions(gone) == {"foo": "1.0"}
    asked = locker.lock([f"{low.url}::foo"], (high.url, low.url), previous=before, update=nothing)
    assert versions(asked) == {"foo": "2.0"}


def test_channel_that_went_back_is_told(tmp_path: Path, locker: Locker) -> None:
    """RELIABILITY 67."""
    maker = ChannelMaker(tmp_path / "rolled").add(
        make_package("foo", "1.0", timestamp_ms=1_000_000_000_000),
        make_package("foo", "2.0", timestamp_ms=1_500_000_000_000),
    )
    url = maker.index().url
    before = locker.lock(["foo"], (url,))
    (tmp_path / "rolled" / "linux-64" / "foo-2.0-0.conda").unlink()
    maker.index()
    after = locker.outcome(["foo"], (url,), previous=before)
    assert versions(after.lock) == {"foo": "1.0"}
    assert [d.code for d in after.diagnostics] == ["channel-went-back"]


def test_channels_of_every_spelling(
    tmp_path: Path, high: ChannelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    locker = Locker(
        tmp_path / "work",
        channels={"conda-forge": high.url, "team": "../high"},
        default_channels=("team",),
    )
    (tmp_path / "work").mkdir(exist_ok=True)
    monkeypatch.setenv("CHANNEL_HOME", str(tmp_path))
    for channels, name in (
        (("conda-forge", "nodefaults"), "conda-forge"),
        (("https://conda.anaconda.org/conda-forge/",), "conda-forge"),
        (None, "team"),
        (("nodefaults",), "team"),
        ((high.url + "/",), high.url),
        ((str(high.folder),), high.url),
        (("./high",), "./high"),
    ):
        lock = locker.lock(["foo"], channels, offline=True, paths={"./high": str(high.folder)})
        assert [p.channel for p in lock.packages] == [name], channels
        assert lock.packages[0].url == f"{high.url}/noarch/foo-1.0-0.conda"


def test_no_channel_at_all(tmp_path: Path) -> None:
    locker = Locker(tmp_path, default_channels=())
    with pytest.raises(InputError) as caught:
        locker.lock(["foo"], ("nodefaults",))
    assert caught.value.diagnostics[0].code == "no-channels"


def test_offline_opens_no_connection(
    high: ChannelMaker, locker: Locker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OfflineError) as caught:
        locker.lock(["foo"], (high.url, "https://example.invalid/ch"), offline=True)
    assert "https://example.invalid/ch" in caught.value.diagnostics[0].summary
    assert versions(locker.lock(["foo"], (high.url,), offline=True)) == {"foo": "1.0"}


def test_a_silent_index_means_measuring(tmp_path: Path, locker: Locker) -> None:
    """No sha256, md5 or size in repodata: the archive is fetched, kept and measured."""

    def silent(_: str, record: dict[str, object]) -> dict[str, object]:
        return {k: v for k, v in record.items() if k not in ("sha256", "md5", "size")}

    maker = ChannelMaker(tmp_path / "silent").add(make_package("foo", "1.0"))
    full = locker.lock(["foo"], (maker.index().url,))
    quiet = locker.lock(["foo"], (maker.index(patch=silent).url,))
    assert quiet.packages == full.packages
    assert locker.packages.has(full.packages[0].sha256)
    assert quiet.packages[0].md5
    assert quiet.packages[0].size


def test_known_secrets_of_channels_are_masked() -> None:
    conda = CondaSpec(channels=("https://me:pa55word@host.invalid/t/tok3n-abc/ch",))
    sources = channel_sources(conda, WorkspaceConfig("t", "1", ""))
    assert "pa55word" not in repr(sources)
    assert "tok3n" not in repr(sources)
    assert set(problems.known_secrets(sources)) == {"pa55word", "tok3n-abc"}


def test_a_mirror_gives_the_same_environment(high: ChannelMaker, tmp_path: Path) -> None:
    """Folder, http with and without shards, http with a password: one identity, one pin."""
    import shutil

    plain = tmp_path / "plain"
    shutil.copytree(high.folder, plain)
    for path in plain.rglob("*shards*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in plain.rglob("*.zst"):
        path.unlink()
    locks = []
    with (
        ChannelServer(high.folder) as shards,
        ChannelServer(plain) as bare,
        ChannelServer(plain, username="me", password="pa55word") as guarded,
    ):
        for number, place in enumerate(
            (high.url, str(high.folder), shards.url, bare.url, guarded.url_with_password)
        ):
            locker = Locker(tmp_path / str(number), channels={"conda-forge": place})
            locks.append(locker.lock(["app"], ("conda-forge",)))
    assert len({lock_identity(lock) for lock in locks}) == 1
    assert len({lock.pin_key for lock in locks}) == 1
    assert len({lock.packages[0].url for lock in locks}) == 4
