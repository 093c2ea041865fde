"""The contract's part about names: tags that move, grammars at their limits, listing."""

from __future__ import annotations

from contextlib import suppress

import pytest

from envgraph.api import Digest, Registry, RegistryError, Repository
from envgraph.errors import EnvgraphError, NotFoundError
from envgraph.testing.registry.contract_base import Abilities
from envgraph.testing.registry.contract_manifests import keep, there
from envgraph.testing.registry.material import (
    OCI_IMAGE_MANIFEST,
    assert_same,
    image,
    patterned,
    push,
    read_blob,
    refused,
)

TAGS = (
    "1", "latest", "Latest", "LATEST", "_", "__", "_1", "a.b_c-d", "1.0..", "a-", "sha256",
    "sha256-" + "0" * 64, "index.json", "x" * 128, "X" * 128, "x" * 127 + "y", "CON", "nul.txt",
)  # fmt: skip
"""Tags that OCI's grammar allows, and that a file system or an escape may stumble over."""

BAD_TAGS = (
    "", ".", "..", ".hidden", "-x", "a/b", "../a", "a b", "a\n", "a\0b", "é", "x" * 129, "a:b",
    "a@b",
)  # fmt: skip

BAD_DIGESTS = (
    "sha256:", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "sha256:" + "0" * 63,
    "sha256:" + "0" * 65, "md5:" + "0" * 32, "SHA256:" + "0" * 64, "sha256:" + "0" * 64 + "\n",
)  # fmt: skip

PARTS = ("blobs", "tags", "manifests", "index.json", "oci-layout", "a.b", "a__b", "a---b", "0")
"""Parts of names that OCI's grammar allows, and that a layout or a route may stumble over."""

BAD_NAMES = (
    "", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "A", "a b", "a_", "-a",
    "a..b", "a\n", "a\0", "é", "a" * 256, "a:b", "a@b", "a\\b",
)  # fmt: skip


class NameContract(Abilities):
    """``tags``, ``list``, and what may be a name, tag or digest."""

    def test_a_tag_moves(self, repository: Repository) -> None:
        """It names the new manifest, once; the old one is there by its digest."""
        old, new = image(repository, "old"), image(repository, "new")
        for data in (old, new, old, new, new):
            keep(repository, data, OCI_IMAGE_MANIFEST, "1.0")
            there(repository, "1.0", data, OCI_IMAGE_MANIFEST)
            assert list(repository.tags()) == ["1.0"]
        there(repository, str(Digest.of(old)), old, OCI_IMAGE_MANIFEST)

    def test_tags_at_the_limits_of_the_grammar_stay_apart(self, repository: Repository) -> None:
        """Whatever is underneath: case, dots, underscores, 128 characters."""
        manifests = {tag: image(repository, tag) for tag in TAGS}
        for tag, data in manifests.items():
            keep(repository, data, OCI_IMAGE_MANIFEST, tag)
        assert sorted(repository.tags()) == sorted(TAGS)
        for tag, data in manifests.items():
            assert_same(repository.get_manifest(tag).data, data)

    def test_many_tags_are_all_told(self, repository: Repository) -> None:
        """Each once, also where they come in pages."""
        data = image(repository)
        expected = [f"tag-{number:04}" for number in range(self.many)]
        for tag in expected:
            repository.put_manifest(tag, data, OCI_IMAGE_MANIFEST)
        assert sorted(repository.tags()) == expected

    @pytest.mark.parametrize("reference", [*BAD_TAGS, *BAD_DIGESTS])
    def test_what_is_no_reference_is_refused(self, repository: Repository, reference: str) -> None:
        """Nothing is written, nothing is found, and no other error comes out."""
        data = image(repository)
        keep(repository, data, OCI_IMAGE_MANIFEST, "good")
        with refused():
            repository.put_manifest(reference, data, OCI_IMAGE_MANIFEST)
        with refused():
            repository.get_manifest(reference)
        with refused():
            repository.delete(reference)
        with suppress(EnvgraphError):
            assert repository.resolve(reference) is None
        assert list(repository.tags()) == ["good"]
        there(repository, "good", data, OCI_IMAGE_MANIFEST)

    @pytest.mark.parametrize("part", PARTS)
    def test_any_name_of_the_grammar_is_a_repository(
        self, registry: Registry, name: str, part: str
    ) -> None:
        """Also one below another, and one that is called as a folder or route is."""
        names = (name, f"{name}/{part}", f"{name}/{part}/{part}", f"{name}/{part}/end")
        blobs = {each: patterned(100, seed) for seed, each in enumerate(names)}
        for each in names:
            repository = registry.repository(each)
            push(repository, blobs[each])
            keep(repository, image(repository, each), OCI_IMAGE_MANIFEST, "latest")
        for each in names:
            repository = registry.repository(each)
            there(repository, "latest", image(repository, each), OCI_IMAGE_MANIFEST)
            assert list(repository.tags()) == ["latest"]
            others = {Digest.of(blobs[other]) for other in names if other != each}
            assert repository.missing([Digest.of(data) for data in blobs.values()]) == others
        if self.lists:
            assert sorted(registry.list(name)) == sorted(names)

    def test_the_longest_name_is_a_repository(self, registry: Registry, name: str) -> None:
        """In one part, and in many."""
        room = self.longest_name - len(name) - 1
        for tail in ("a" * room, ("a/" * room)[: room - 1 + room % 2]):
            repository = registry.repository(f"{name}/{tail}")
            descriptor = push(repository, tail.encode())
            assert read_blob(repository, descriptor) == tail.encode()

    @pytest.mark.parametrize("bad", BAD_NAMES)
    def test_what_is_no_name_is_refused(self, registry: Registry, bad: str) -> None:
        """At once, or when it is first used."""
        with refused():
            push(registry.repository(bad), b"x")

    def test_a_mount_from_what_is_no_name_is_no_mount(self, repository: Repository) -> None:
        """It is refused, or it is False."""
        descriptor = push(repository, b"x")
        for bad in ("../x", "", "A"):
            with suppress(EnvgraphError):
                assert repository.mount(descriptor.digest, bad) is False

    def test_repositories_are_listed_by_prefix(self, registry: Registry, name: str) -> None:
        """Those with a manifest, each once; or the registry says that it does not tell."""
        names = [f"{name}/a", f"{name}/ab", f"{name}/b", f"{name}/b/c"]
        if not self.lists:
            with pytest.raises(RegistryError) as caught:
                list(registry.list(name))
            assert caught.value.diagnostics[0].code == "registry-unsupported"
            return
        assert list(registry.list(name)) == []
        for each in names:
            repository = registry.repository(each)
            keep(repository, image(repository), OCI_IMAGE_MANIFEST, "1")
        registry.repository(f"{name}/asked").resolve("1")
        assert sorted(registry.list(name)) == names
        assert sorted(registry.list(f"{name}/a")) == names[:2]
        assert sorted(registry.list(f"{name}/b/")) == names[3:]
        assert set(names) <= set(registry.list())

    def test_absent_things_are_told_apart_from_there(self, repository: Repository) -> None:
        """In a repository that has something, too."""
        data = image(repository)
        keep(repository, data, OCI_IMAGE_MANIFEST, "1.0")
        nobody = str(Digest.of(b"nobody"))
        for reference in ("1.1", nobody):
            assert repository.resolve(reference) is None
            with pytest.raises(NotFoundError):
                repository.get_manifest(reference)
            deletes = self.deletes_manifests if reference == nobody else self.deletes_tags
            with pytest.raises(NotFoundError if deletes else EnvgraphError):
                repository.delete(reference)
        assert repository.resolve("1") is None
