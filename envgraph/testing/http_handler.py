"""Answer one HTTP/1.1 connection of a channel server, rightly or by a scripted fault."""

from __future__ import annotations

import base64
import email.utils
import mimetypes
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal, Protocol

from envgraph.testing.http_faults import Fault, Request

_PIECE = 64 * 1024


class Owner(Protocol):
    """What a handler asks of its server."""

    folder: Path
    username: str | None
    password: str
    token: str | None
    validators: bool
    ranges: bool
    closing: threading.Event

    def take_fault(self, path: str) -> Fault | None:
        """The fault that the next answer for a path shows."""

    def note(self, request: Request) -> None:
        """Keep a request."""

    def next_connection(self) -> int:
        """The number of a new connection."""


class Handler(BaseHTTPRequestHandler):
    """Serves ``owner.folder``; everything that it knows, it asks its owner."""

    protocol_version = "HTTP/1.1"
    server: Any
    owner: Owner
    disable_nagle_algorithm = True
    wbufsize = 0

    def setup(self) -> None:
        """Number the connection."""
        super().setup()
        self.owner = self.server.owner
        self.number = self.owner.next_connection()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: requests are kept instead."""

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer with the same head and no body."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.request_seen = Request(self.command, path, headers, self.number)
        self.owner.note(self.request_seen)
        try:
            if not self._admit():
                return
            path = self.request_seen.path
            fault = self.owner.take_fault(path)
            if fault is None:
                self._serve(path, body)
            else:
                self._fail(fault, path, body)
        except OSError:
            self.close_connection = True

    def _admit(self) -> bool:
        """Check token and password; take the token out of the path that is noted."""
        owner, seen = self.owner, self.request_seen
        if owner.token is not None:
            before = f"/t/{owner.token}/"
            if not seen.path.startswith(before):
                self._head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
                return False
            seen.path = "/" + seen.path.removeprefix(before)
        if owner.username is not None:
            pair = base64.b64encode(f"{owner.username}:{owner.password}".encode()).decode()
            if self.headers.get("Authorization") != f"Basic {pair}":
                challenge = {"WWW-Authenticate": 'Basic realm="channel"', "Content-Length": "0"}
                self._head(HTTPStatus.UNAUTHORIZED, challenge)
                return False
        return True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.request_seen.status = int(status)
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _file(self, path: str) -> Path | None:
        root = self.owner.folder.resolve()
        found = (root / path.lstrip("/")).resolve()
        if found.is_dir() and path.endswith("/"):
            found /= "index.html"
        return found if found.is_relative_to(root) and found.is_file() else None

    def _serve(self, path: str, body: bool) -> None:
        file = self._file(path)
        if file is None:
            self._head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        status = file.stat()
        headers = {"Content-Type": mimetypes.guess_type(file.name)[0] or "application/octet-stream"}
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        if self.owner.validators:
            headers["ETag"] = etag
            headers["Last-Modified"] = email.utils.formatdate(int(status.st_mtime), usegmt=True)
            if self._is_unchanged(etag, int(status.st_mtime)):
                self._head(HTTPStatus.NOT_MODIFIED, headers)
                return
        first, last = 0, status.st_size - 1
        if self.owner.ranges:
            headers["Accept-Ranges"] = "bytes"
            wanted = self._range(status.st_size, etag)
            if wanted == "none":
                headers |= {"Content-Range": f"bytes */{status.st_size}", "Content-Length": "0"}
                self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
                return
            if isinstance(wanted, tuple):
                first, last = wanted
                headers["Content-Range"] = f"bytes {first}-{last}/{status.st_size}"
        headers["Content-Length"] = str(last - first + 1)
        self._head(206 if "Content-Range" in headers else 200, headers)
        if body:
            self._send(_pieces(file, first, last))

    def _is_unchanged(self, etag: str, modified: int) -> bool:
        """RFC 9110 13.2.2: If-None-Match wins over If-Modified-Since."""
        given = self.headers.get("If-None-Match")
        if given is not None:
            return given.strip() == "*" or etag in (p.strip() for p in given.split(","))
        since = email.utils.parsedate_tz(self.headers.get("If-Modified-Since", ""))
        return since is not None and modified <= email.utils.mktime_tz(since)

    def _range(self, size: int, etag: str) -> tuple[int, int] | Literal["all", "none"]:
        """One range of bytes; several ranges are answered with everything."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if (
            found is None
            or found.groups() == ("", "")
            or self.headers.get("If-Range", etag) != etag
        ):
            return "all"
        low, high = found.groups()
        if not low:
            length = min(int(high), size)
            return (size - length, size - 1) if length else "none"
        if int(low) >= size:
            return "none"
        return int(low), min(int(high), size - 1) if high else size - 1

    def _send(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            self.request_seen.sent += len(piece)
            self.connection.sendall(piece)

    def _fail(self, fault: Fault, path: str, body: bool) -> None:
        headers = dict(fault.headers)
        file = self._file(path)
        good = file.read_bytes() if file is not None else b""
        if fault.content is not None:
            good = fault.content
        if fault.body == "hang":
            self.close_connection = True
            self.owner.closing.wait()
            return
        if fault.body == "reset":
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        if fault.body == "endless":
            self.close_connection = True
            self._head(fault.status, headers)
            if body:
                zeros = b"\0" * _PIECE
                self._send(zeros for _ in range(fault.limit // _PIECE))
            return
        answer = {
            "empty": b"",
            "garbage": b"\x00\xff<html>not what you asked for\r\n" * 20,
            "wrong": bytes(byte ^ 0xFF for byte in good),
        }.get(fault.body, good)
        headers.setdefault("Content-Length", str(len(answer)))
        self.close_connection = fault.body == "half"
        self._head(fault.status, headers)
        if not body:
            return
        if fault.body == "slow":
            self._send(answer[place : place + 1] for place in range(len(answer)))
        elif fault.body == "half":
            self._send(iter((answer[: len(answer) // 2],)))
        else:
            self._send(iter((answer,)))


def _pieces(file: Path, first: int, last: int) -> Iterator[bytes]:
    with file.open("rb") as source:
        source.seek(first)
        left = last - first + 1
        while left > 0:
            piece = source.read(min(_PIECE, left))
            if not piece:
                return
            left -= len(piece)
            yield piece
