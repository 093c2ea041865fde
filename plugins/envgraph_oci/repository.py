"""One repository over HTTP: the protocol of :class:`envgraph.api.Repository`, one try each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, cast

from envgraph.api import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    MANIFEST_LIMIT,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    BlobSource,
    Descriptor,
    Digest,
    DigestError,
    ManifestBytes,
    RegistryError,
    checked_manifest,
    read_manifest,
    read_reference,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph_oci import referrers
from envgraph_oci.answers import Answer, Call, Stream
from envgraph_oci.uploads import Uploads
from envgraph_oci.wire import HTML_HINT, Wire

_ACCEPT: Final = {
    "Accept": ", ".join((OCI_IMAGE_MANIFEST, OCI_IMAGE_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))
}
_PAGE: Final = 1000


class OciRepository:
    """A repository of the registry at the other end of ``wire``."""

    def __init__(self, wire: Wire, name: str) -> None:
        """``name`` is what the user calls it; on the wire the registry's prefix is before it."""
        self.name = name
        self._wire = wire
        self._full = wire.full_name(name)
        self._uploads = Uploads(
            wire.auth, wire.place, wire.options, self._full, lambda: self._url("")
        )

    def _url(self, path: str) -> str:
        return f"{self._wire.base}{self._full}{path}"

    def _send(
        self,
        method: str,
        path: str,
        what: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        actions: str = "pull",
    ) -> Answer:
        call = Call(method, self._url(path), what, headers or {}, body)
        return self._wire.auth.send(call, (f"repository:{self._full}:{actions}",))

    def _wrong(self, why: str) -> IntegrityError:
        return IntegrityError(f"{self._wire.title}/{self._full}: {why}", code="registry-digest")

    def _gone(self, what: str) -> NotFoundError:
        return NotFoundError(f"{self._wire.title}/{self._full} has no {what}")

    def resolve(self, reference: str) -> Descriptor | None:
        """The manifest behind a tag or digest, by HEAD where that says enough."""
        digest = read_reference(reference)
        what = f"resolve {self._full} {reference}"
        answer = self._send("HEAD", f"/manifests/{reference}", what, _ACCEPT)
        answer.discard()
        if answer.status == 404:
            return None
        if answer.status not in (200, 405):
            raise answer.error()
        if "html" in answer.media_type:
            raise answer.answer_error("it answered with HTML", HTML_HINT)
        said = _sha256(answer.header("Docker-Content-Digest"))
        length = answer.length
        enough = answer.status == 200 and length and answer.media_type
        if enough and length and said is not None and digest in (None, said):
            return Descriptor(answer.media_type, said, length)
        try:
            return self.get_manifest(reference).descriptor
        except NotFoundError:
            return None

    def get_manifest(self, reference: str) -> ManifestBytes:
        """The bytes of a manifest, checked against the digest that was asked for or said."""
        digest = read_reference(reference)
        what = f"get the manifest {reference} of {self._full}"
        answer = self._send("GET", f"/manifests/{reference}", what, _ACCEPT)
        if answer.status == 404:
            answer.discard()
            raise self._gone(f"manifest {reference}")
        if answer.status != 200:
            raise answer.error()
        if "html" in answer.media_type:
            raise answer.answer_error("it answered with HTML", HTML_HINT)
        if "docker.distribution.manifest.v1" in answer.media_type:
            answer.close()
            raise RegistryError(
                f"{self._full} {reference} is a Docker schema 1 manifest, which nothing here reads",
                code="registry-unsupported",
                hint="copy the image: every tool since 2017 writes a newer one",
            )
        data = answer.read(MANIFEST_LIMIT)
        if data is None:
            raise self._wrong(f"the manifest {reference} is larger than {MANIFEST_LIMIT} bytes")
        found = Digest.of(data)
        said = _sha256(answer.header("Docker-Content-Digest"))
        for wanted in (digest, said):
            if wanted not in (None, found):
                raise self._wrong(
                    f"the bytes of the manifest {reference} are {found}, not {wanted}"
                )
        parts = read_manifest(data, answer.media_type, f"{self._full} {reference}")
        return ManifestBytes(parts.media_type, data, found)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Keep a manifest; where the registry does not list its subject's referrers, we do."""
        digest, parts = checked_manifest(reference, data, media_type, f"{self._full} {reference}")
        answer = self._send(
            "PUT", f"/manifests/{reference}", f"put the manifest {reference} of {self._full}",
            {"Content-Type": media_type}, data, "pull,push",
        )  # fmt: skip
        if answer.status != 201:
            raise answer.error()
        answer.discard()
        if _sha256(answer.header("Docker-Content-Digest")) not in (None, digest):
            raise self._wrong(f"the registry keeps {digest} as another manifest")
        if parts.subject is not None and not answer.header("OCI-Subject"):
            referrers.add_by_tag(self, parts.subject, data, parts)
        return digest

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """One HEAD for each digest."""
        return frozenset(digest for digest in dict.fromkeys(digests) if not self._has(digest))

    def _has(self, digest: Digest) -> bool:
        answer = self._send("HEAD", f"/blobs/{digest}", f"look for {digest} in {self._full}")
        answer.discard()
        if answer.status not in (200, 404):
            raise answer.error()
        return answer.status == 200

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        """A blob's bytes as they come, from ``offset`` on by a Range request."""
        what = f"get {digest} of {self._full}"
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._send("GET", f"/blobs/{digest}", what, headers)
        if answer.status == 404:
            answer.discard()
            raise self._gone(f"blob {digest}")
        if offset and answer.status in (200, 206, 416):
            self._check_range(answer, size, offset, what)
        elif answer.status != 200:
            raise answer.error()
        answer.check_encoding()
        if answer.length not in (None, size - offset):
            answer.close()
            raise self._wrong(f"{digest} is sent with {answer.length} bytes, not {size - offset}")
        with Stream(answer, self._wire.title) as body:
            yield cast(BinaryIO, body)

    def _check_range(self, answer: Answer, size: int, offset: int, what: str) -> None:
        """Only a 206 that begins where we stopped is gone on with; no other body is read."""
        text = answer.header("Content-Range")
        found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", text, re.ASCII)
        fits = found is not None and (
            int(found[1]) == offset and int(found[2]) == size - 1 and found[3] in ("*", str(size))
        )
        if answer.status == 206 and fits:
            return
        answer.close()
        raise RegistryError(
            f"{self._wire.title}: {what}: it does not begin at byte {offset}",
            code="registry-unsupported",
        )

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Upload a blob; see :mod:`envgraph_oci.uploads`."""
        self._uploads.push(descriptor, source)

    def mount(self, digest: Digest, from_repository: str) -> bool:
        """Take a blob over from another repository of this registry."""
        return self._uploads.mount(digest, self._wire.full_name(from_repository))

    def tags(self) -> Iterator[str]:
        """All tags, page by page."""
        what = f"list the tags of {self._full}"
        scopes = (f"repository:{self._full}:pull",)
        url = self._url(f"/tags/list?n={_PAGE}")
        seen: set[str] = set()
        for page in self._wire.pages(url, scopes, what, absent=True):
            for tag in page.get("tags") or ():
                if isinstance(tag, str) and tag not in seen:
                    seen.add(tag)
                    yield tag

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Who has ``digest`` as subject: by the API, else by the fallback tag."""
        return referrers.find(self, digest, artifact_type)

    def delete(self, reference: str) -> None:
        """Remove a tag or a manifest."""
        digest = read_reference(reference)
        subject = referrers.subject_of(self, digest) if digest is not None else None
        what = f"delete {reference} of {self._full}"
        answer = self._send("DELETE", f"/manifests/{reference}", what, actions="pull,delete")
        if answer.status == 404:
            answer.discard()
            raise self._gone(f"manifest {reference}")
        if answer.status in (400, 405):
            answer.discard()
            raise RegistryError(
                f"{self._wire.title} does not delete {'manifests' if digest else 'tags'}",
                code="registry-unsupported",
            )
        if answer.status not in (200, 202, 204):
            raise answer.error()
        answer.discard()
        if digest is not None and subject is not None:
            referrers.remove_by_tag(self, subject, digest)

    def pages(
        self, path: str, what: str, *, absent: bool = False
    ) -> Iterator[tuple[Answer, dict[str, Any]]]:
        """The pages of a list below this repository; see :meth:`Wire.answers`."""
        scopes = (f"repository:{self._full}:pull",)
        return self._wire.answers(self._url(path), scopes, what, absent=absent)


def _sha256(text: str) -> Digest | None:
    try:
        return Digest(text)
    except DigestError:
        return None
