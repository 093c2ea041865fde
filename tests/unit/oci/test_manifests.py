"""Manifests, lists and referrers of registries that lie, or say too little."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from envgraph.api import (
    DOCKER_MANIFEST,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    Digest,
    RegistryError,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.testing.registry.scripted import Reply, ScriptedRegistry
from envgraph_oci.repository import OciRepository
from tests.oci import (
    DATA,
    GONE,
    REPORT,
    code_of,
    described,
    entry,
    index_of,
    manifest,
    opened,
    read,
    report_on,
)

# Manifests


IMAGE = json.dumps({"schemaVersion": 2, "mediaType": OCI_IMAGE_MANIFEST, "layers": []}).encode()


def of(data: bytes, media_type: str = OCI_IMAGE_MANIFEST, digest: str = "") -> Reply:
    said = {"Docker-Content-Digest": digest} if digest else {}
    return Reply(200, {"Content-Type": media_type, **said}, data)


@pytest.mark.parametrize(
    "reply",
    [
        of(IMAGE, OCI_IMAGE_INDEX),
        of(IMAGE, DOCKER_MANIFEST),
        of(IMAGE, digest=GONE),
        of(b"\xef\xbb\xbf" + IMAGE),
        of(IMAGE + b"{}"),
        of(IMAGE[:-1] + b', "layers": []}'),
        of(IMAGE[:-1] + b', "manifests": []}'),
        of(b"[]"),
        of(b""),
        of(b" " * (4 << 20) + IMAGE),
        of(IMAGE[:-1] + b', "Layers": []}'),
        Reply(200, {"Content-Type": OCI_IMAGE_MANIFEST, "Content-Length": "99999999"}, IMAGE),
    ],
    ids=["index", "docker", "digest", "bom", "trailing", "twice", "both", "list", "empty", "large",
         "case", "announced as large"],
)  # fmt: skip
def test_manifests_that_lie(
    server: ScriptedRegistry, repository: OciRepository, reply: Reply
) -> None:
    server.script("GET", "/manifests/", reply)
    with pytest.raises(IntegrityError):
        repository.get_manifest("1")


def test_a_manifest_asked_for_by_digest_is_that(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    """Whatever the header says."""
    server.script("GET", "/manifests/", of(IMAGE, digest=GONE), of(IMAGE))
    for _ in range(2):
        with pytest.raises(IntegrityError):
            repository.get_manifest(GONE)


@pytest.mark.parametrize("media_type", [OCI_IMAGE_MANIFEST + "; charset=utf-8", ""])
def test_content_types_in_other_spellings(
    server: ScriptedRegistry, repository: OciRepository, media_type: str
) -> None:
    server.script("GET", "/manifests/", of(IMAGE, media_type))
    found = repository.get_manifest("1")
    assert (found.data, found.media_type) == (IMAGE, OCI_IMAGE_MANIFEST)


def test_schema_1_is_named(server: ScriptedRegistry, repository: OciRepository) -> None:
    old = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    server.script("GET", "/manifests/", of(b"{}", old))
    with pytest.raises(RegistryError, match="schema 1"):
        repository.get_manifest("1")


def test_all_four_types_are_accepted(server: ScriptedRegistry, repository: OciRepository) -> None:
    repository.resolve("1")
    with pytest.raises(NotFoundError):
        repository.get_manifest("1")
    for seen in server.requests:
        assert len(set(seen.headers["accept"].split(", "))) == 4


@pytest.mark.parametrize(
    "head",
    [
        Reply(200, {"Content-Type": OCI_IMAGE_MANIFEST, "Content-Length": "5"}),
        Reply(200, {"Docker-Content-Digest": GONE}),
        Reply(
            200,
            {"Content-Type": OCI_IMAGE_MANIFEST, "Docker-Content-Digest": "sha512:" + "a" * 128},
        ),
        Reply(405),
    ],
    ids=["no digest", "no type", "sha512", "no HEAD"],
)
def test_a_head_that_says_too_little(
    server: ScriptedRegistry, repository: OciRepository, head: Reply
) -> None:
    data = manifest(repository)
    repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
    server.script("HEAD", "/manifests/", head)
    assert repository.resolve("1") == described(data, OCI_IMAGE_MANIFEST)


@pytest.mark.parametrize("status", [200, 202])
def test_only_201_keeps_a_manifest(
    server: ScriptedRegistry, repository: OciRepository, status: int
) -> None:
    server.script("PUT", "/manifests/", Reply(status))
    with pytest.raises(RegistryError):
        repository.put_manifest("1", IMAGE, OCI_IMAGE_MANIFEST)


def test_a_manifest_kept_as_another_one(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    server.script("PUT", "/manifests/", Reply(201, {"Docker-Content-Digest": GONE}))
    with pytest.raises(IntegrityError):
        repository.put_manifest("1", IMAGE, OCI_IMAGE_MANIFEST)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, None), (202, None), (204, None), (400, "registry-unsupported"),
     (405, "registry-unsupported"), (403, "registry-denied"), (404, "not-found")],
)  # fmt: skip
@pytest.mark.parametrize("reference", ["1", GONE])
def test_deletions(
    server: ScriptedRegistry,
    repository: OciRepository,
    status: int,
    expected: str | None,
    reference: str,
) -> None:
    server.script("DELETE", "/manifests/", Reply(status))
    if expected is None:
        repository.delete(reference)
        return
    with pytest.raises((RegistryError, NotFoundError)) as caught:
        repository.delete(reference)
    assert code_of(caught.value) == expected  # type: ignore[arg-type]


# Lists


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_tags_in_pages(server: ScriptedRegistry, repository: OciRepository, page: int) -> None:
    server.contents.page = page
    data = manifest(repository)
    for number in range(7):
        repository.put_manifest(f"t{number}", data, OCI_IMAGE_MANIFEST)
    server.forget()
    assert list(repository.tags()) == [f"t{number}" for number in range(7)]
    assert server.count("GET", "/tags/list") == -(-7 // page)
    assert server.count("GET", r"\?n=1000$") == 1


def tags(*names: str, link: str = "") -> Reply:
    said = {"Link": link} if link else {}
    return Reply(200, said, json.dumps({"name": "app", "tags": list(names)}).encode())


def test_tags_are_told_once(server: ScriptedRegistry, repository: OciRepository) -> None:
    more = '</v2/team/app/tags/list?n=2&last=b>; rel="next"'
    server.script("GET", "/tags/", tags("a", "b", link=more), tags("b", "c", "c"))
    assert list(repository.tags()) == ["a", "b", "c"]


def test_no_tags(server: ScriptedRegistry, repository: OciRepository) -> None:
    server.script("GET", "/tags/", Reply(200, body=b'{"name": "app", "tags": null}'))
    assert list(repository.tags()) == []


def test_a_list_without_end(server: ScriptedRegistry, repository: OciRepository) -> None:
    again = '</v2/team/app/tags/list?n=1000>; rel="next"'
    server.script("GET", "/tags/", tags("a", link=again), always=True)
    with pytest.raises(RegistryError, match="no end"):
        list(repository.tags())


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_registry_that_does_not_list(server: ScriptedRegistry, status: int) -> None:
    server.script("GET", "/_catalog", Reply(status))
    with opened(server.url) as registry, pytest.raises(RegistryError) as caught:
        list(registry.list())
    assert code_of(caught.value) == "registry-unsupported"


def test_repositories_by_prefix(server: ScriptedRegistry) -> None:
    more = '</v2/_catalog?n=2&last=ml/b>; rel="next"'
    server.script(
        "GET", "/_catalog",
        Reply(200, {"Link": more}, b'{"repositories": ["a", "ml/a"]}'),
        Reply(200, {}, b'{"repositories": ["ml/ab", "ml/b", "mlx"]}'),
    )  # fmt: skip
    with opened(server.url + "/ml") as registry:
        assert list(registry.list("a")) == ["a", "ab"]


# Referrers


@pytest.fixture
def old() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry(referrers=False) as found:
        yield found


def test_the_fallback_tag(old: ScriptedRegistry) -> None:
    with opened(old.url) as registry:
        repository = registry.repository("app")
        subject = manifest(repository)
        tag = str(Digest.of(subject)).replace(":", "-")
        theirs = {
            **entry(described(b"foreign", OCI_IMAGE_MANIFEST)),
            "artifactType": "x/y",
            "odd": 1,
        }
        repository.put_manifest(tag, index_of(manifests=[theirs]), OCI_IMAGE_INDEX)
        data = report_on(repository, subject, "a")
        for _ in range(2):
            repository.put_manifest("report", data, OCI_IMAGE_MANIFEST)
        kept = json.loads(repository.get_manifest(tag).data)["manifests"]
        assert kept[0] == theirs
        assert [item["digest"] for item in kept[1:]] == [str(Digest.of(data))]
        assert kept[1]["artifactType"] == REPORT
        assert [d.digest for d in repository.referrers(Digest.of(subject), REPORT)] == [
            Digest.of(data)
        ]
        assert len(repository.referrers(Digest.of(subject))) == 2


def test_no_fallback_where_the_registry_lists(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    subject = manifest(repository)
    data = report_on(repository, subject, "a")
    repository.put_manifest("report", data, OCI_IMAGE_MANIFEST)
    assert list(repository.tags()) == ["report"]
    assert server.count("GET", "/manifests/") == 0


@pytest.mark.parametrize("applied", [True, False])
def test_the_filter_is_applied_here_where_it_is_not_there(
    server: ScriptedRegistry, repository: OciRepository, applied: bool
) -> None:
    first, second = described(b"1", OCI_IMAGE_MANIFEST), described(b"2", OCI_IMAGE_MANIFEST)
    entries = [{**entry(first), "artifactType": REPORT}, {**entry(first), "artifactType": REPORT}]
    if not applied:
        entries.append({**entry(second), "artifactType": "other/x"})
    said = {"OCI-Filters-Applied": "artifactType"} if applied else {}
    server.script("GET", "/referrers/", Reply(200, said, index_of(manifests=entries)))
    assert repository.referrers(Digest.of(b"s"), REPORT) == (first,)
    assert "artifactType=application%2Fvnd.example.report" in server.requests[-1].target


@pytest.mark.parametrize(
    "entries",
    [3, [3], [{"digest": str(Digest.of(b""))}], [{**entry(described(b"")), "size": -1}],
     [{**entry(described(b"")), "size": "1"}], [{**entry(described(b"")), "mediaType": 1}]],
)  # fmt: skip
def test_lists_of_referrers_that_are_none(
    server: ScriptedRegistry, repository: OciRepository, entries: object
) -> None:
    server.script("GET", "/referrers/", Reply(200, {}, index_of(manifests=entries)))
    with pytest.raises(IntegrityError):
        repository.referrers(Digest.of(b"s"))


def test_layers_from_elsewhere_are_not_fetched(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    """A layer's ``urls`` mean nothing to a registry (CVE-2020-15157)."""
    foreign = {**entry(described(DATA)), "urls": [server.url + "/evil"]}
    server.script(
        "GET", "/manifests/", of(json.dumps({**json.loads(IMAGE), "layers": [foreign]}).encode())
    )
    repository.get_manifest("1")
    with pytest.raises(NotFoundError):
        read(repository, DATA)
    assert server.count(pattern="evil") == 0
