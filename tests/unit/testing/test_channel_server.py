from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.testing.http import ChannelServer, Fault, redirect, unavailable

BODY = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "noarch").mkdir()
    (tmp_path / "noarch" / "a.bin").write_bytes(BODY)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ChannelServer]:
    with ChannelServer(folder) as server:
        yield server


def ask(
    server: ChannelServer, path: str = "/noarch/a.bin", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_serves_files_with_validators_and_repeats_them_on_304(server: ChannelServer) -> None:
    status, headers, body = ask(server)
    assert (status, body) == (200, BODY)
    status, again, body = ask(server, If_None_Match=headers["etag"])
    assert (status, body) == (304, b"")
    assert (again["etag"], again["last-modified"]) == (headers["etag"], headers["last-modified"])
    assert ask(server, If_Modified_Since=headers["last-modified"])[0] == 304
    assert ask(server, If_None_Match='"other"')[0] == 200


def test_head_says_the_length_and_sends_nothing(server: ChannelServer) -> None:
    status, headers, body = ask(server, method="HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(BODY)), b"")
    assert server.bytes_sent == 0


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-9", 206, BODY[:10]),
        ("bytes=10-", 206, BODY[10:]),
        ("bytes=-5", 206, BODY[-5:]),
        ("bytes=99999-", 416, b""),
        ("bytes=1-2,5-6", 200, BODY),
    ],
)
def test_ranges(server: ChannelServer, asked: str, status: int, expected: bytes) -> None:
    answer = ask(server, Range=asked)
    assert (answer[0], answer[2]) == (status, expected)


def test_a_range_of_an_older_file_gets_all_of_the_new_one(server: ChannelServer) -> None:
    assert ask(server, Range="bytes=0-9", If_Range='"old"')[0] == 200


def test_one_connection_serves_many_requests(server: ChannelServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(5):
        connection.request("GET", "/noarch/a.bin")
        assert connection.getresponse().read() == BODY
    connection.close()
    assert {request.connection for request in server.requests} == {1}
    assert server.count("/noarch/a.bin") == 5
    assert server.bytes_sent == 5 * len(BODY)


def test_nothing_outside_the_folder_is_served(server: ChannelServer, folder: Path) -> None:
    (folder.parent / "secret").write_text("x")
    assert ask(server, "/../secret")[0] == 404
    assert ask(server, "/%2e%2e/secret")[0] == 404
    assert ask(server, "/noarch")[0] == 404


def test_password(folder: Path) -> None:
    with ChannelServer(folder, username="ann", password="p w") as server:
        status, headers, _ = ask(server)
        assert (status, headers["www-authenticate"]) == (401, 'Basic realm="channel"')
        assert ask(server, Authorization="Basic YW5uOnAgdw==")[2] == BODY
        assert server.authorizations == ("Basic YW5uOnAgdw==",)
        assert server.url_with_password.startswith("http://ann:p%20w@127.0.0.1:")


def test_token(folder: Path) -> None:
    with ChannelServer(folder, token="tk-1") as server:
        assert ask(server)[0] == 404
        assert ask(server, "/t/tk-1/noarch/a.bin")[2] == BODY
        assert server.requests[-1].path == "/noarch/a.bin"
        with urllib.request.urlopen(f"{server.url}/noarch/a.bin", timeout=10) as answer:
            assert answer.read() == BODY


def test_faults_follow_their_script(server: ChannelServer) -> None:
    path = "/noarch/a.bin"
    server.fault(path, Fault(status=500, times=2), unavailable(retry_after="1"))
    answers = [ask(server) for _ in range(4)]
    assert [answer[0] for answer in answers] == [500, 500, 503, 200]
    assert answers[2][1]["retry-after"] == "1"
    server.fault(path, Fault(status=404, skip=1, times=1))
    assert [ask(server)[0] for _ in range(3)] == [200, 404, 200]
    server.fault("*", Fault(status=403))
    assert ask(server, "/anything")[0] == 403
    server.heal()
    assert ask(server)[0] == 200


def test_wrong_bytes_keep_the_length(server: ChannelServer) -> None:
    server.fault("/noarch/a.bin", Fault(200, "wrong"))
    status, _, body = ask(server)
    assert (status, len(body)) == (200, len(BODY))
    assert body != BODY


def test_slow_bytes_are_right(server: ChannelServer) -> None:
    server.fault("/noarch/a.bin", Fault(200, "slow"))
    assert ask(server)[2] == BODY


def test_half_a_body_ends_the_connection(server: ChannelServer) -> None:
    server.fault("/noarch/a.bin", Fault(200, "half"))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(server)
    assert caught.value.partial == BODY[: len(BODY) // 2]


def test_garbage_and_endless(server: ChannelServer) -> None:
    server.fault("/noarch/a.bin", Fault(200, "garbage", times=1), Fault(200, "endless"))
    assert b"not what you asked for" in ask(server)[2]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/noarch/a.bin")
    answer = connection.getresponse()
    assert answer.getheader("content-length") is None
    assert len(answer.read(1 << 20)) == 1 << 20
    connection.close()


def test_a_reset_and_a_hanging_connection_do_not_outlive_the_server(folder: Path) -> None:
    with ChannelServer(folder) as server:
        server.fault("/noarch/a.bin", Fault(body="reset", times=1), Fault(body="hang"))
        with pytest.raises(ConnectionResetError):
            ask(server)
        hanging = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        hanging.request("GET", "/noarch/a.bin")
    hanging.close()


def test_redirect_to_another_host(server: ChannelServer, folder: Path) -> None:
    with ChannelServer(folder) as other:
        server.fault("/noarch/a.bin", redirect(f"{other.origin}/noarch/a.bin", status=307))
        with urllib.request.urlopen(f"{server.url}/noarch/a.bin", timeout=10) as answer:
            assert answer.read() == BODY
        assert other.count("/noarch/a.bin") == 1


def test_a_server_without_validators(folder: Path) -> None:
    with ChannelServer(folder, validators=False) as server:
        headers = ask(server)[1]
    assert "etag" not in headers
    assert "last-modified" not in headers


def test_other_content_with_other_headers(server: ChannelServer) -> None:
    bomb = Fault(200, "good", content=b"packed", headers={"Content-Encoding": "gzip"})
    server.fault("/noarch/a.bin", bomb)
    status, headers, body = ask(server)
    assert (status, headers["content-encoding"], body) == (200, "gzip", b"packed")


def test_many_connections_at_once_are_all_answered(server: ChannelServer) -> None:
    waiting = []
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/noarch/a.bin")
        waiting.append(connection)
    for connection in waiting:
        assert connection.getresponse().read() == BODY
        connection.close()
    assert server.count("/noarch/a.bin") == 200
