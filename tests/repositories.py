"""Git repositories for tests: made by the real git, served by its own HTTP backend."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.registries import Certificates
from tests.services import missing, require_tool

PLAIN = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "a@h.example",
    "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "a@h.example",
}  # fmt: skip


@dataclass(slots=True)
class Repository:
    """A repository with a work tree."""

    folder: Path

    @classmethod
    def make(
        cls, folder: Path, files: Mapping[str, str | bytes | Path] | None = None
    ) -> Repository:
        """An empty one on the branch ``main``; with ``files`` in a first commit."""
        require_tool("git")
        folder.mkdir(parents=True)
        made = cls(folder)
        made.git("init", "-q", "-b", "main", ".")
        if files is not None:
            made.commit(files)
        return made

    def git(self, *words: str) -> str:
        """Run git in it; what it said."""
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *words], cwd=self.folder,
            env={**os.environ, **PLAIN}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | bytes | Path]) -> None:
        """Write files; a Path is a link to it; a name that ends with ``*`` is a program."""
        for name, content in files.items():
            path = self.folder / name.rstrip("*")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content)
            if name.endswith("*"):
                path.chmod(0o755)

    def commit(self, files: Mapping[str, str | bytes | Path], message: str = "more") -> str:
        """Write files and commit all; the commit."""
        self.write(files)
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    @property
    def url(self) -> str:
        """Its ``file://`` address."""
        return self.folder.as_uri()


@dataclass(slots=True)
class GitServer:
    """``git http-backend`` over loopback; ``login`` asks for basic authentication."""

    folder: Path
    login: str = ""
    certificates: Certificates | None = None
    elsewhere: str = ""
    """Where every request is sent on to, when this is set."""

    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``: a repository's folder name comes behind it."""
        return f"http{'s' if self.certificates else ''}://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[GitServer]:
        """Serve for as long as it is entered."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = server.server_address[1]
        if self.certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificates.certificate, self.certificates.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def _backend() -> str:
    where = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
    path = Path(where.stdout.strip()) / "git-http-backend"
    return str(path) if path.exists() else missing("git http-backend is not installed")


def _handler(owner: GitServer) -> type[BaseHTTPRequestHandler]:
    backend = _backend()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def answer(self) -> None:
            owner.requests.append(f"{self.command} {self.path}")
            wanted = "Basic " + base64.b64encode(owner.login.encode()).decode()
            given = self.headers.get("Authorization")
            if given:
                owner.authorizations.append(given)
            if owner.elsewhere:
                self.send_response(302)
                self.send_header("Location", owner.elsewhere + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if owner.login and given != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="r"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            body = self._body()
            done = subprocess.run(
                [backend],
                input=body, capture_output=True, check=False,
                env={
                    **os.environ, **PLAIN, "GIT_PROJECT_ROOT": str(owner.folder),
                    "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                },
            )  # fmt: skip
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            lines = [line.decode().partition(": ") for line in head.split(b"\r\n") if line]
            status = next((v for k, _, v in lines if k == "Status"), "200 OK")
            self.send_response(int(status.split()[0]))
            for name, _, value in lines:
                if name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                data = b""
                while size := int(self.rfile.readline().strip(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        do_GET = do_POST = do_HEAD = answer

    return Handler
