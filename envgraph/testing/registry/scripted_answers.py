"""What a registry answers when it does everything right: the distribution spec 1.1, small.

Not safe for threads: :class:`~envgraph.testing.registry.scripted.ScriptedRegistry` locks.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from envgraph.model.oci import OCI_IMAGE_INDEX, read_object
from envgraph_store.digest import Digest

_Answer = tuple[int, dict[str, str], bytes]
_Headers = Mapping[str, str]
_PATH = re.compile(r"/v2/(.+)/(blobs/uploads|blobs|manifests|referrers|tags)/([^/]*)")


def _error(status: int, code: str) -> _Answer:
    body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
    return status, {"Content-Type": "application/json"}, body


@dataclass(slots=True)
class Contents:
    """Repositories in memory. ``page`` is the longest page of a list of tags."""

    referrers: bool = True
    page: int = 1000
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    _begun: int = 0

    def answer(self, method: str, target: str, headers: _Headers, body: bytes) -> _Answer:
        """Status, headers and body for one request."""
        path, _, query = target.partition("?")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        if path == "/v2/":
            return 200, {}, b"{}"
        if path == "/v2/_catalog":
            names = sorted({name for name, _ in (*self.blobs, *self.manifests)})
            return 200, {"Content-Type": "application/json"}, _json({"repositories": names})
        found = _PATH.fullmatch(urllib.parse.unquote(path))
        if found is None:
            return _error(404, "NAME_UNKNOWN")
        name, kind, rest = found.groups()
        if kind == "blobs/uploads":
            return self._upload(method, name, rest, asked, headers, body)
        if kind == "blobs":
            return self._blob(name, rest, headers)
        if kind == "manifests":
            return self._manifest(method, name, rest, headers, body)
        if kind == "tags":
            return self._tags(name, asked)
        return self._referrers(name, rest, asked)

    def _blob(self, name: str, digest: str, headers: _Headers) -> _Answer:
        data = self.blobs.get((name, digest))
        if data is None:
            return _error(404, "BLOB_UNKNOWN")
        said = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if wanted is None:
            return 200, said, data
        first = int(wanted[1])
        if first >= len(data):
            return 416, {"Content-Range": f"bytes */{len(data)}"}, b""
        span = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
        return 206, said | span, data[first:]

    def _upload(
        self, method: str, name: str, rest: str, asked: _Headers, headers: _Headers, body: bytes
    ) -> _Answer:
        if method == "POST":
            return self._begin(name, asked, body)
        if rest not in self.uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        data = self.uploads[rest]
        where = {"Location": self._location(name, rest, len(data)), "Range": f"0-{len(data) - 1}"}
        if method == "GET":
            return 204, where, b""
        if method == "DELETE":
            del self.uploads[rest]
            return 204, {}, b""
        if asked.get("state") != str(len(data)):
            return _error(404, "BLOB_UPLOAD_UNKNOWN")  # an address that is not the newest
        if method == "PATCH":
            start = headers.get("content-range", "").partition("-")[0]
            if start and start != str(len(data)):
                return 416, where, b""
            data += body
            where = {"Location": self._location(name, rest, len(data))}
            return 202, where | {"Range": f"0-{len(data) - 1}"}, b""
        return self._complete(name, asked.get("digest", ""), bytes(data) + body, rest)

    def _begin(self, name: str, asked: _Headers, body: bytes) -> _Answer:
        if "mount" in asked:
            known = self.blobs.get((asked.get("from", ""), asked["mount"]))
            if known is not None:
                return self._complete(name, asked["mount"], known, "")
        elif "digest" in asked:
            return self._complete(name, asked["digest"], body, "")
        self._begun += 1
        upload = f"u{self._begun}"
        self.uploads[upload] = bytearray()
        return 202, {"Location": self._location(name, upload, 0), "Range": "0-0"}, b""

    def _location(self, name: str, upload: str, length: int) -> str:
        """Relative, with a query whose escapes must come back as they are."""
        return f"/v2/{name}/blobs/uploads/{upload}?sig=a%2fb%3D==&state={length}"

    def _complete(self, name: str, digest: str, data: bytes, upload: str) -> _Answer:
        if digest != str(Digest.of(data)):
            return _error(400, "DIGEST_INVALID")
        self.uploads.pop(upload, None)
        self.blobs[name, digest] = data
        where = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        return 201, where, b""

    def _manifest(
        self, method: str, name: str, reference: str, headers: _Headers, body: bytes
    ) -> _Answer:
        if method == "PUT":
            return self._put_manifest(name, reference, headers, body)
        digest = self.tags.get((name, reference), reference)
        if (name, digest) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        if method == "DELETE":
            if digest == reference:
                del self.manifests[name, digest]
            for tag in [key for key, at in self.tags.items() if at == digest and key[0] == name]:
                if digest == reference or tag[1] == reference:
                    del self.tags[tag]
            return 202, {}, b""
        media_type, data = self.manifests[name, digest]
        return 200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, data

    def _put_manifest(self, name: str, reference: str, headers: _Headers, body: bytes) -> _Answer:
        digest, document = str(Digest.of(body)), read_object(body, "manifest")
        if reference.startswith("sha256:") and reference != digest:
            return _error(400, "DIGEST_INVALID")
        layers = [part for part in document.get("layers") or () if not _elsewhere(part)]
        parts = [*layers, document.get("config")]
        if any(part and (name, part["digest"]) not in self.blobs for part in parts):
            return _error(400, "MANIFEST_BLOB_UNKNOWN")
        self.manifests[name, digest] = (headers.get("content-type", ""), body)
        if not reference.startswith("sha256:"):
            self.tags[name, reference] = digest
        said = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        subject = document.get("subject")
        if subject and self.referrers:
            said["OCI-Subject"] = subject["digest"]
        return 201, said, b""

    def _tags(self, name: str, asked: _Headers) -> _Answer:
        tags = sorted(tag for at, tag in self.tags if at == name)
        if not tags and not any(at == name for at, _ in (*self.blobs, *self.manifests)):
            return _error(404, "NAME_UNKNOWN")
        length = min(int(asked.get("n", self.page)), self.page)
        left = [tag for tag in tags if tag > asked.get("last", "")]
        said = {"Content-Type": "application/json"}
        if len(left) > length:
            last = urllib.parse.quote(left[length - 1])
            said["Link"] = f'</v2/{name}/tags/list?n={length}&last={last}>; rel="next"'
        return 200, said, _json({"name": name, "tags": left[:length]})

    def _referrers(self, name: str, digest: str, asked: _Headers) -> _Answer:
        if not self.referrers:
            return 404, {"Content-Type": "text/html"}, b"<html>404</html>"
        entries = []
        for (at, own), (media_type, data) in self.manifests.items():
            document = read_object(data, "manifest")
            kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType")
            subject = document.get("subject") or {}
            if at == name and subject.get("digest") == digest:
                entries.append(
                    {"mediaType": media_type, "digest": own, "size": len(data)}
                    | {"artifactType": kind}
                )
        said = {"Content-Type": OCI_IMAGE_INDEX}
        if "artifactType" in asked:
            said["OCI-Filters-Applied"] = "artifactType"
            entries = [entry for entry in entries if entry["artifactType"] == asked["artifactType"]]
        document = {"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX, "manifests": entries}
        return 200, said, _json(document)


def _elsewhere(layer: Mapping[str, object]) -> bool:
    """Whether a registry need not have a layer."""
    kind = str(layer.get("mediaType"))
    return "urls" in layer or "nondistributable" in kind or "foreign" in kind


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


@dataclass(slots=True)
class TokenService:
    """Gives tokens for what is asked, to who has the login (None: to everybody).

    ``key`` is the member that holds the token (``token`` or ``access_token``), ``life`` its
    ``expires_in`` (None: not said). ``refresh`` is the identity token that it takes. A token
    is good until :meth:`expire` is called.
    """

    login: tuple[str, str] | None = None
    key: str = "token"
    life: int | None = 300
    service: str = "scripted"
    refresh: str = ""
    prefix: str = "token"
    given: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)

    def expire(self) -> None:
        """No token that was given so far is good any longer."""
        self.dead |= set(self.given)

    def answer(self, method: str, target: str, headers: _Headers, body: bytes) -> _Answer:
        """Give a token, or 401."""
        query = body.decode() if method == "POST" else target.partition("?")[2]
        asked = urllib.parse.parse_qs(query)
        if method == "POST":
            allowed = asked.get("refresh_token") == [self.refresh]
        else:
            wanted = base64.b64encode(":".join(self.login or ()).encode()).decode()
            allowed = self.login is None or headers.get("authorization") == f"Basic {wanted}"
        if not allowed:
            return _error(401, "UNAUTHORIZED")
        token = f"{self.prefix}-{len(self.given)}"
        scopes = asked.get("scope", [])
        self.given[token] = tuple(scopes if method == "GET" else " ".join(scopes).split())
        life = {} if self.life is None else {"expires_in": self.life}
        return 200, {"Content-Type": "application/json"}, _json({self.key: token, **life})

    def refusal(self, method: str, target: str, authorization: str, realm: str) -> str:
        """The challenge for a request whose token is not good for it; empty when it is."""
        token = authorization.removeprefix("Bearer ")
        service = f',service="{self.service}"' if self.service else ""
        scope = _scope_of(method, target)
        if token not in self.given or token in self.dead:
            return f'Bearer realm="{realm}"{service}' + (f',scope="{scope}"' if scope else "")
        name, _, actions = scope.rpartition(":")
        known = {
            action
            for given in self.given[token]
            if given.rpartition(":")[0] == name
            for action in given.rpartition(":")[2].split(",")
        }
        if set(filter(None, actions.split(","))) <= known:
            return ""
        return f'Bearer realm="{realm}"{service},scope="{scope}",error="insufficient_scope"'


def _scope_of(method: str, target: str) -> str:
    """What a request needs, as a registry would say it."""
    if target.startswith("/v2/_catalog"):
        return "registry:catalog:*"
    found = re.match(
        r"/v2/(.+)/(?:blobs/uploads|blobs|manifests|referrers|tags)/[^/?]*(?:\?|$)", target
    )
    if found is None:
        return ""
    upload = "/blobs/uploads/" in target
    actions = "pull,push" if upload or method in ("POST", "PUT", "PATCH") else "pull"
    return f"repository:{found[1]}:{'delete' if method == 'DELETE' and not upload else actions}"
