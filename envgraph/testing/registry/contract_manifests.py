"""The contract's part about manifests: exact bytes, types, subjects, what is refused."""

from __future__ import annotations

import pytest

from envgraph.api import Descriptor, Digest, RegistryError, Repository
from envgraph.errors import EnvgraphError, IntegrityError, NotFoundError
from envgraph.testing.registry.contract_base import Abilities
from envgraph.testing.registry.material import (
    AMD64,
    ARM64,
    ARTIFACT,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    EMPTY,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    artifact,
    assert_same,
    described,
    image,
    index,
    refused,
    spelled,
)

_MIB = 1 << 20
_REPORT = "application/vnd.example.other"


def there(repository: Repository, reference: str, data: bytes, media_type: str) -> None:
    """The manifest is what ``reference`` means, as it was pushed."""
    resolved = repository.resolve(reference)
    assert resolved is not None
    assert (resolved.media_type, resolved.digest, resolved.size) == (
        media_type,
        Digest.of(data),
        len(data),
    )
    found = repository.get_manifest(reference)
    assert_same(found.data, data)
    assert found.media_type == media_type
    assert found.digest == Digest.of(data)


def absent(repository: Repository, data: bytes, tag: str) -> None:
    """Neither the tag nor the digest means anything."""
    assert repository.resolve(tag) is None
    assert repository.resolve(str(Digest.of(data))) is None
    assert tag not in set(repository.tags())
    with pytest.raises(NotFoundError):
        repository.get_manifest(str(Digest.of(data)))


def keep(repository: Repository, data: bytes, media_type: str, tag: str = "") -> Descriptor:
    """Put a manifest; what names it."""
    digest = repository.put_manifest(tag or str(Digest.of(data)), data, media_type)
    assert digest == Digest.of(data)
    return Descriptor(media_type, digest, len(data))


class ManifestContract(Abilities):
    """``put_manifest``, ``get_manifest``, ``resolve``, ``referrers``, ``delete``."""

    @pytest.mark.parametrize("media_type", [OCI_IMAGE_MANIFEST, DOCKER_MANIFEST])
    def test_a_manifest_is_kept_to_the_byte(self, repository: Repository, media_type: str) -> None:
        """Spaces, order, unknown fields, escapes; by tag and by digest, with its type."""
        data = image(repository, "é\u2028", media_type=media_type, unknown={"b": 1, "a": [1.50]})
        keep(repository, data, media_type, "1.0")
        there(repository, "1.0", data, media_type)
        there(repository, str(Digest.of(data)), data, media_type)
        assert list(repository.tags()) == ["1.0"]

    def test_a_manifest_may_have_no_tag(self, repository: Repository) -> None:
        """Put by its digest, it is no tag."""
        data = image(repository)
        keep(repository, data, OCI_IMAGE_MANIFEST)
        there(repository, str(Digest.of(data)), data, OCI_IMAGE_MANIFEST)
        assert list(repository.tags()) == []
        with pytest.raises(NotFoundError):
            repository.get_manifest("latest")

    def test_a_manifest_that_does_not_say_its_type_keeps_the_given_one(
        self, repository: Repository
    ) -> None:
        """``mediaType`` is optional in OCI's manifests."""
        data = image(repository).replace(b'"mediaType" : "%s" ,' % OCI_IMAGE_MANIFEST.encode(), b"")
        assert data.count(OCI_IMAGE_MANIFEST.encode()) == 0
        keep(repository, data, OCI_IMAGE_MANIFEST, "1.0")
        there(repository, "1.0", data, OCI_IMAGE_MANIFEST)

    @pytest.mark.parametrize(
        ("media_type", "inner"),
        [(OCI_IMAGE_INDEX, OCI_IMAGE_MANIFEST), (DOCKER_INDEX, DOCKER_MANIFEST)],
    )
    def test_an_index_is_kept_with_its_platforms(
        self, repository: Repository, media_type: str, inner: str
    ) -> None:
        """Its entries are there as manifests of their own."""
        entries = []
        for platform in (AMD64, ARM64):
            data = image(repository, str(platform), media_type=inner)
            entry = keep(repository, data, inner)
            entries.append(Descriptor(inner, entry.digest, entry.size, platform))
        data = index(*entries, media_type=media_type)
        keep(repository, data, media_type, "1.0")
        there(repository, "1.0", data, media_type)
        for entry in entries:
            assert repository.resolve(str(entry.digest)) is not None

    def test_an_index_may_hold_an_index(self, repository: Repository) -> None:
        """Nested, to the byte."""
        inner = index(keep(repository, image(repository), OCI_IMAGE_MANIFEST))
        outer = index(keep(repository, inner, OCI_IMAGE_INDEX), annotations={"outer": "yes"})
        keep(repository, outer, OCI_IMAGE_INDEX, "nested")
        there(repository, "nested", outer, OCI_IMAGE_INDEX)
        there(repository, str(Digest.of(inner)), inner, OCI_IMAGE_INDEX)

    def test_a_large_manifest_is_kept(self, repository: Repository) -> None:
        """Three MiB: four is the limit."""
        data = image(repository, annotations={"long": "x" * 3 * _MIB})
        keep(repository, data, OCI_IMAGE_MANIFEST, "large")
        there(repository, "large", data, OCI_IMAGE_MANIFEST)

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda data: data + b" " * (4 * _MIB), id="more than 4 MiB"),
            pytest.param(
                lambda data: data.replace(b"{", b'{"schemaVersion": 2, ', 1), id="a key twice"
            ),
            pytest.param(lambda data: data.replace(b'"layers"', b'"Layers"'), id="another case"),
            pytest.param(
                lambda data: data.replace(b"{", b'{"manifests": [], ', 1), id="manifest and index"
            ),
            pytest.param(lambda data: data[:-5], id="cut off"),
            pytest.param(lambda data: data + b"{}", id="two documents"),
            pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="a byte order mark"),
            pytest.param(lambda data: b"", id="nothing"),
            pytest.param(lambda data: b"[]", id="a list"),
            pytest.param(lambda data: b"<html>busy</html>", id="HTML"),
            pytest.param(lambda data: data.replace(b"sha256:", b"sha256:../../"), id="a path"),
        ],
    )
    def test_what_is_no_strict_manifest_is_refused(
        self, repository: Repository, spoil: object
    ) -> None:
        """Readers disagree about such documents, so nobody may get one (CVE-2021-41190)."""
        data: bytes = spoil(image(repository))  # type: ignore[operator]
        with refused():
            repository.put_manifest("bad", data, OCI_IMAGE_MANIFEST)
        absent(repository, data, "bad")

    def test_a_type_that_is_not_the_documents_is_refused(self, repository: Repository) -> None:
        """The type beside the bytes, and the one in them, are one."""
        data = image(repository)
        with refused():
            repository.put_manifest("1.0", data, DOCKER_MANIFEST)
        absent(repository, data, "1.0")

    def test_a_digest_that_is_not_the_documents_is_refused(self, repository: Repository) -> None:
        """Neither digest is there afterwards."""
        data, other = image(repository, "one"), image(repository, "two")
        with pytest.raises(IntegrityError):
            repository.put_manifest(str(Digest.of(other)), data, OCI_IMAGE_MANIFEST)
        absent(repository, data, "1.0")
        absent(repository, other, "1.0")

    @pytest.mark.parametrize("part", ["config", "layer"])
    def test_a_manifest_without_its_blobs_is_not_half_there(
        self, repository: Repository, part: str
    ) -> None:
        """Refused, and then invisible; or kept, and then whole."""
        lost = described(b"nobody pushes this")
        data = image(repository)
        if part == "config":
            data = image(repository, config=lost.to_json())
        else:
            data = image(repository, layers=[lost.to_json()])
        self._whole_or_absent(repository, data, OCI_IMAGE_MANIFEST)

    def test_an_index_without_its_manifests_is_not_half_there(self, repository: Repository) -> None:
        """As a manifest without its blobs."""
        self._whole_or_absent(repository, index(described(b"nobody pushes this")), OCI_IMAGE_INDEX)

    def _whole_or_absent(self, repository: Repository, data: bytes, media_type: str) -> None:
        try:
            repository.put_manifest("1.0", data, media_type)
        except EnvgraphError:
            absent(repository, data, "1.0")
        else:
            there(repository, "1.0", data, media_type)

    def test_layers_that_lie_elsewhere_need_not_be_there(self, repository: Repository) -> None:
        """Foreign layers (with ``urls``) are not pushed, by anybody."""
        kind = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        foreign = described(b"elsewhere", kind).to_json() | {"urls": ["https://example.org/layer"]}
        data = image(repository, layers=[foreign])
        keep(repository, data, OCI_IMAGE_MANIFEST, "1.0")
        there(repository, "1.0", data, OCI_IMAGE_MANIFEST)

    def test_referrers_are_found_by_subject_and_type(self, repository: Repository) -> None:
        """By ``artifactType``, or else by the config's type; indexes too; each once."""
        subject = keep(repository, image(repository), OCI_IMAGE_MANIFEST, "1.0")
        report = artifact(repository, "one", subject)
        other = artifact(repository, "two", subject, _REPORT)
        plain = image(repository, "signed", subject=subject)
        listing = index(
            keep(repository, image(repository, "entry"), OCI_IMAGE_MANIFEST),
            subject=subject.to_json(),
            artifactType=ARTIFACT,
        )
        for data in (report, other, plain):
            keep(repository, data, OCI_IMAGE_MANIFEST)
        keep(repository, report, OCI_IMAGE_MANIFEST, "report")
        keep(repository, listing, OCI_IMAGE_INDEX)

        def asked(artifact_type: str = "") -> list[tuple[str, Digest, int]]:
            found = repository.referrers(subject.digest, artifact_type)
            return sorted((item.media_type, item.digest, item.size) for item in found)

        def expected(*manifests: bytes) -> list[tuple[str, Digest, int]]:
            return sorted(
                (
                    OCI_IMAGE_INDEX if data is listing else OCI_IMAGE_MANIFEST,
                    Digest.of(data),
                    len(data),
                )
                for data in manifests
            )

        assert asked() == expected(report, other, plain, listing)
        assert asked(ARTIFACT) == expected(report, listing)
        assert asked(_REPORT) == expected(other)
        assert asked("application/vnd.oci.image.config.v1+json") == expected(plain)
        assert asked(EMPTY) == []
        assert repository.referrers(Digest.of(report)) == ()

    def test_a_subject_may_come_later_or_never(self, repository: Repository) -> None:
        """A referrer needs no subject that is there."""
        subject = image(repository, "late")
        report = artifact(repository, "early", described(subject, OCI_IMAGE_MANIFEST))
        keep(repository, report, OCI_IMAGE_MANIFEST, "report")
        assert [item.digest for item in repository.referrers(Digest.of(subject))] == [
            Digest.of(report)
        ]
        absent(repository, subject, "1.0")
        keep(repository, subject, OCI_IMAGE_MANIFEST, "1.0")
        assert [item.digest for item in repository.referrers(Digest.of(subject))] == [
            Digest.of(report)
        ]

    def test_a_deleted_tag_leaves_the_manifest(self, repository: Repository) -> None:
        """Or the registry says that it deletes no tags, and the tag is still there."""
        data = image(repository)
        for tag in ("one", "two"):
            keep(repository, data, OCI_IMAGE_MANIFEST, tag)
        if not self.deletes_tags:
            _unsupported(repository, "one")
            there(repository, "one", data, OCI_IMAGE_MANIFEST)
            return
        repository.delete("one")
        assert repository.resolve("one") is None
        assert list(repository.tags()) == ["two"]
        there(repository, "two", data, OCI_IMAGE_MANIFEST)
        there(repository, str(Digest.of(data)), data, OCI_IMAGE_MANIFEST)
        with pytest.raises(NotFoundError):
            repository.delete("one")
        keep(repository, data, OCI_IMAGE_MANIFEST, "one")
        assert sorted(repository.tags()) == ["one", "two"]

    def test_a_deleted_manifest_takes_its_tags_along(self, repository: Repository) -> None:
        """Other manifests, and their blobs, stay."""
        gone, kept = image(repository, "gone"), image(repository, "kept")
        for tag, data in (("a", gone), ("b", kept), ("c", gone)):
            keep(repository, data, OCI_IMAGE_MANIFEST, tag)
        if not self.deletes_manifests:
            _unsupported(repository, str(Digest.of(gone)))
            there(repository, "a", gone, OCI_IMAGE_MANIFEST)
            return
        repository.delete(str(Digest.of(gone)))
        for tag in ("a", "c"):
            absent(repository, gone, tag)
        there(repository, "b", kept, OCI_IMAGE_MANIFEST)
        assert list(repository.tags()) == ["b"]
        with pytest.raises(NotFoundError):
            repository.delete(str(Digest.of(gone)))
        keep(repository, image(repository, "gone"), OCI_IMAGE_MANIFEST, "a")
        there(repository, "a", gone, OCI_IMAGE_MANIFEST)

    def test_a_deleted_referrer_refers_no_more(self, repository: Repository) -> None:
        """The subject stays. Where nothing is deleted, the referrer stays, too."""
        subject = keep(repository, image(repository), OCI_IMAGE_MANIFEST, "1.0")
        report = keep(repository, artifact(repository, "x", subject), OCI_IMAGE_MANIFEST)
        if not self.deletes_manifests:
            _unsupported(repository, str(report.digest))
            assert len(repository.referrers(subject.digest)) == 1
            return
        repository.delete(str(report.digest))
        assert repository.referrers(subject.digest) == ()
        assert repository.resolve("1.0") is not None

    def test_documents_of_other_shapes_are_kept(self, repository: Repository) -> None:
        """An index without entries; an artifact without layers."""
        empty = spelled({"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX, "manifests": []})
        keep(repository, empty, OCI_IMAGE_INDEX, "empty")
        there(repository, "empty", empty, OCI_IMAGE_INDEX)


def _unsupported(repository: Repository, reference: str) -> None:
    with pytest.raises(RegistryError) as caught:
        repository.delete(reference)
    assert caught.value.diagnostics[0].code == "registry-unsupported"
    assert not caught.value.retryable
