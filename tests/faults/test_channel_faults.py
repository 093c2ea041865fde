"""Channels that answer wrongly: one clear error, nothing kept, the next try works."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.conda.fetch import fetch_package
from envgraph.conda.logins import Logins
from envgraph.conda.transport import Download, Transport
from envgraph.errors import EnvgraphError, FetchError, IntegrityError, OfflineError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedPackage
from envgraph.testing.channel import ChannelMaker, make_package
from envgraph.testing.http import ChannelServer, Fault, redirect, unavailable
from envgraph_store.digest import Digest
from tests.integration.locking import Locker, versions

CONFIG = WorkspaceConfig("test", "1", "")
ARCHIVE = "/noarch/foo-1.0-0.conda"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "channel"
    ballast = "".join(hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(4000))
    maker = ChannelMaker(folder).add(
        make_package("foo", "1.0", noarch="generic", files={"share/foo": ballast})
    )
    maker.index()
    return folder


def archive_of(folder: Path) -> bytes:
    return (folder / ARCHIVE[1:]).read_bytes()


def package_at(server: ChannelServer, folder: Path) -> LockedPackage:
    data = archive_of(folder)
    return LockedPackage(
        "conda", "foo", "1.0", "0", "noarch", Digest.of(data), server.url,
        file_name="foo-1.0-0.conda", url=f"{server.url}{ARCHIVE}", size=len(data),
    )  # fmt: skip


class Client:
    """A transport that notes its waits and never sleeps."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        self.waits: list[float] = []
        env = environ or {}
        self.transport = Transport(env, Logins(env), sleep=self.waits.append, jitter=lambda: 0.5)

    def fetch(self, package: LockedPackage, config: WorkspaceConfig = CONFIG) -> bytes:
        data = bytearray()
        with self.transport:
            fetch_package(
                package, config, data.extend, offline=False, transport=self.transport, environ={}
            )
        return bytes(data)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(404), "404"),
        (Fault(500), "500"),
        (Fault(403), "403"),
        (Fault(200, "garbage"), ""),
        (Fault(200, "half"), ""),
        (Fault(200, "empty"), ""),
        (Fault(200, "wrong"), ""),
        (Fault(200, "endless", limit=1 << 20), ""),
        (Fault(body="reset"), "reset"),
    ],
    ids=lambda value: f"{value.status}-{value.body}" if isinstance(value, Fault) else "",
)
@pytest.mark.parametrize("shards", [True, False], ids=["shards", "repodata"])
def test_an_index_that_is_wrong(fault: Fault, says: str, shards: bool, tmp_path: Path) -> None:
    maker = ChannelMaker(tmp_path / "channel").add(make_package("foo", "1.0"))
    maker.index(shards=shards)
    locker = Locker(tmp_path / "work")
    with ChannelServer(tmp_path / "channel") as server:
        server.fault("*", fault)
        with pytest.raises(FetchError) as caught:
            locker.lock(["foo"], (server.url,))
        problem = caught.value.diagnostics[0]
        assert problem.code == "channel"
        assert server.url in problem.summary
        assert says in problem.detail
        assert problem.hint
        assert len(server.requests) < 40
        server.heal()
        assert versions(locker.lock(["foo"], (server.url,))) == {"foo": "1.0"}


def test_the_wrong_one_of_two_channels_is_named(folder: Path, tmp_path: Path) -> None:
    locker = Locker(tmp_path)
    with ChannelServer(folder) as good, ChannelServer(folder) as bad:
        bad.fault("*", Fault(500))
        with pytest.raises(FetchError) as caught:
            locker.lock(["foo"], (good.url, bad.url))
    summary = caught.value.diagnostics[0].summary
    assert bad.url in summary
    assert good.url not in summary


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    locker = Locker(tmp_path)
    for url in ("http://127.0.0.1:9/gone", (tmp_path / "absent").as_uri()):
        with pytest.raises(FetchError) as caught:
            locker.lock(["foo"], (url,))
        assert url in caught.value.diagnostics[0].summary


def test_a_channel_without_validators(folder: Path, tmp_path: Path) -> None:
    """Sharp edge 7: no ETag, no Last-Modified, and asked twice."""
    locker = Locker(tmp_path)
    with ChannelServer(folder, validators=False) as server:
        for _ in range(2):
            assert versions(locker.lock(["foo"], (server.url,))) == {"foo": "1.0"}


def test_an_index_asked_twice_is_not_sent_twice(folder: Path, tmp_path: Path) -> None:
    locker = Locker(tmp_path)
    with ChannelServer(folder) as server:
        locker.lock(["foo"], (server.url,))
        sent = server.bytes_sent
        assert sent
        server.forget()
        locker.lock(["foo"], (server.url,))
        assert server.bytes_sent == 0


def test_an_archive_that_is_not_what_the_index_says(tmp_path: Path) -> None:
    def lies(_: str, record: dict[str, object]) -> dict[str, object]:
        record = {k: v for k, v in record.items() if k != "md5"}
        return record | {"sha256": "0" * 64}

    maker = ChannelMaker(tmp_path / "channel").add(make_package("foo", "1.0"))
    locker = Locker(tmp_path / "work")
    with pytest.raises(IntegrityError) as caught:
        locker.lock(["foo"], (maker.index(patch=lies).url,))
    assert caught.value.diagnostics[0].code == "wrong-hash"


def test_file_archives_are_hashed(folder: Path, tmp_path: Path) -> None:
    """Sharp edge 2."""
    with ChannelServer(folder) as server:
        package = package_at(server, folder)
    local = replace(package, channel="", url=(folder / ARCHIVE[1:]).as_uri())
    assert Client().fetch(local) == archive_of(folder)
    data = bytearray(archive_of(folder))
    data[100] ^= 1
    (tmp_path / "changed").write_bytes(data)
    for content, code in ((bytes(data), "wrong-hash"), (bytes(data[:-1]), "wrong-size"),
                          (bytes(data) + b"x", "too-long")):  # fmt: skip
        (tmp_path / "changed").write_bytes(content)
        wrong = replace(local, url=(tmp_path / "changed").as_uri())
        with pytest.raises(IntegrityError) as caught:
            Client().fetch(wrong)
        assert caught.value.diagnostics[0].code == code
    with pytest.raises(FetchError):
        Client().fetch(replace(local, url=(tmp_path / "absent").as_uri()))


@pytest.mark.parametrize(
    "fault",
    [
        unavailable(times=2),
        Fault(429, headers={"Retry-After": "7"}, times=2),
        Fault(500, times=3),
        Fault(502, times=1),
        Fault(body="reset", times=2),
        Fault(200, "half", times=1),
        Fault(200, "half", times=3),
    ],
    ids=lambda f: f"{f.status}-{f.body}-{f.times}",
)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
def test_a_fault_that_passes_is_waited_out(fault: Fault, ranges: bool, folder: Path) -> None:
    """RELIABILITY 63: the right digest, whatever the server does with Range."""
    client = Client()
    with ChannelServer(folder, ranges=ranges) as server:
        server.fault(ARCHIVE, fault)
        assert client.fetch(package_at(server, folder)) == archive_of(folder)
        assert len(client.waits) == fault.times
        if fault.body == "half" and ranges:
            assert any("range" in request.headers for request in server.requests)
    if fault.headers.get("Retry-After") == "7":
        assert client.waits == [7.0, 7.0]


def test_waits_grow_and_end(folder: Path) -> None:
    client = Client()
    with ChannelServer(folder) as server:
        server.fault(ARCHIVE, Fault(503))
        with pytest.raises(FetchError) as caught:
            client.fetch(package_at(server, folder))
        assert server.count(ARCHIVE) == 5
    assert client.waits == [0.5, 1.0, 2.0, 4.0]
    assert caught.value.retryable
    assert "503" in caught.value.diagnostics[0].detail
    client = Client()
    with ChannelServer(folder) as server:
        server.fault(ARCHIVE, Fault(503, headers={"Retry-After": "86400"}))
        with pytest.raises(FetchError):
            client.fetch(package_at(server, folder))
    assert max(client.waits) == 60.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_refusal_is_not_asked_again(status: int, folder: Path) -> None:
    client = Client()
    with ChannelServer(folder) as server:
        server.fault(ARCHIVE, Fault(status))
        with pytest.raises(FetchError) as caught:
            client.fetch(package_at(server, folder))
        assert server.count(ARCHIVE) == 1
    assert not caught.value.retryable
    assert client.waits == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(200, "wrong"), "wrong-hash"),
        (Fault(200, "garbage"), "wrong-size"),
        (Fault(200, "endless", limit=1 << 24), "too-long"),
    ],
    ids=lambda value: value.body if isinstance(value, Fault) else value,
)
def test_wrong_bytes_are_never_accepted(fault: Fault, code: str, folder: Path) -> None:
    """RELIABILITY 58: refused by size or digest, bounded in what is read."""
    with ChannelServer(folder) as server:
        server.fault(ARCHIVE, fault)
        with pytest.raises(IntegrityError) as caught:
            Client().fetch(package_at(server, folder))
        assert caught.value.diagnostics[0].code == code
        assert server.count(ARCHIVE) == 1


def test_slow_but_right(folder: Path, tmp_path: Path) -> None:
    maker = ChannelMaker(tmp_path / "small").add(make_package("foo", "1.0", noarch="generic"))
    maker.index()
    with ChannelServer(tmp_path / "small") as server:
        server.fault(ARCHIVE, Fault(200, "slow"))
        package = package_at(server, tmp_path / "small")
        assert Client().fetch(package) == archive_of(tmp_path / "small")


class Trickle:
    """A response that gives one byte at a time and never ends."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.read = 0

    def read1(self, _: int) -> bytes:
        self.read += 1
        return b"x"


def test_a_trickle_is_given_up() -> None:
    """One byte a second: the clock decides, and the clock is an argument."""
    ticks = itertools.count(0.0, 1.0)
    transport = Transport({}, clock=lambda: next(ticks))
    response = Trickle()
    download = Download(lambda _: None, 1 << 20, 1 << 20)
    with pytest.raises(Exception, match="almost nothing"):
        transport._read(response, download, "http://host/x")  # type: ignore[arg-type]
    assert response.read < 200


def test_a_range_that_lies(folder: Path) -> None:
    with ChannelServer(folder) as server:
        server.fault(
            ARCHIVE,
            Fault(200, "half", times=1),
            Fault(206, "good", headers={"Content-Range": "bytes 0-9/10"}),
        )
        with pytest.raises(EnvgraphError):
            Client().fetch(package_at(server, folder))


def test_mirrors_and_what_comes_after_them(folder: Path) -> None:
    with ChannelServer(folder) as origin, ChannelServer(folder) as mirror:
        package = replace(package_at(origin, folder), channel="conda-forge")
        config = WorkspaceConfig("test", "1", "", channels={"conda-forge": mirror.url})
        assert Client().fetch(package, config) == archive_of(folder)
        assert (mirror.count(), origin.count()) == (1, 0)
        mirror.fault(ARCHIVE, Fault(404))
        assert Client().fetch(package, config) == archive_of(folder)
        assert origin.count() == 1
        mirror.fault(ARCHIVE, Fault(200, "wrong"))
        with pytest.raises(IntegrityError):
            Client().fetch(package, config)


def test_redirects(folder: Path) -> None:
    """RELIABILITY 59."""
    guarded = ChannelServer(folder, username="me", password="pa55word")
    with ChannelServer(folder) as other, guarded as server:
        package = package_at(server, folder)
        data = bytearray()
        server.fault(ARCHIVE, redirect(f"{other.url}{ARCHIVE}"))
        netrc = {"NETRC": str(folder.parent / "netrc")}
        (folder.parent / "netrc").write_text("machine 127.0.0.1 login me password pa55word\n")
        transport = Transport(netrc, Logins(netrc), sleep=lambda _: None)
        fetch_package(
            package, CONFIG, data.extend, offline=False, transport=transport, environ=netrc
        )
        transport.close()
        assert bytes(data) == archive_of(folder)
        assert server.authorizations
        assert other.authorizations == ()
        for target in (
            "file:///etc/passwd",
            "ftp://127.0.0.1/x",
            "http://169.254.169.254/latest/meta-data",
            ARCHIVE,
        ):
            server.fault(ARCHIVE, redirect(target))
            with pytest.raises(FetchError):
                Client(netrc).fetch(package)
        assert server.count(ARCHIVE) < 40


def test_offline_opens_nothing(folder: Path) -> None:
    with ChannelServer(folder) as server:
        package = package_at(server, folder)
        with pytest.raises(OfflineError) as caught:
            fetch_package(package, CONFIG, lambda _: None, offline=True)
        assert server.url in caught.value.diagnostics[0].detail
        assert server.requests == ()
        known = folder / ARCHIVE[1:]
        data = bytearray()
        fetch_package(package, CONFIG, data.extend, offline=True, known=known)
        assert bytes(data) == archive_of(folder)


def test_a_proxy_that_is_named_is_used(folder: Path) -> None:
    with ChannelServer(folder) as proxy:
        environ = {"http_proxy": proxy.origin, "no_proxy": "inside.invalid"}
        data = bytearray()
        package = replace(
            package_at(proxy, folder), channel="", url=f"http://outside.invalid{ARCHIVE}"
        )
        with Transport(environ) as transport:
            fetch_package(
                package, CONFIG, data.extend, offline=False, transport=transport, environ=environ
            )
        assert bytes(data) == archive_of(folder)
        assert [r.headers["host"] for r in proxy.requests] == ["outside.invalid"]
