"""What only a registry in a folder can do wrong: other tools, links, paths, damage."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from envgraph.api import Digest, PluginContext, RegistryError, Repository
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph.testing.registry.material import (
    OCI_IMAGE_MANIFEST,
    described,
    image,
    patterned,
    push,
    read_blob,
)
from envgraph_dirs import DirsOptions, open_dirs
from envgraph_dirs.folders import Folders, Place
from envgraph_dirs.registry import DirsRegistry
from tests.services import require_tool

NAME = "team/app"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def repository(root: Path) -> Repository:
    return DirsRegistry(root).repository(NAME)


def tag(repository: Repository, name: str, text: str = "") -> bytes:
    data = image(repository, text or name)
    repository.put_manifest(name, data, OCI_IMAGE_MANIFEST)
    return data


def indexed(root: Path, name: str = NAME) -> dict[str, str]:
    """tag → digest, as other tools read it."""
    document = json.loads((root / name / "index.json").read_bytes())
    key = "org.opencontainers.image.ref.name"
    return {item["annotations"][key]: item["digest"] for item in document["manifests"]}


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(RegistryError) as caught:
        call()
    assert not caught.value.retryable
    return caught.value.diagnostics[0].code


# -- the layout, for other tools


@pytest.mark.services
def test_skopeo_reads_and_copies_what_was_pushed(root: Path, repository: Repository) -> None:
    skopeo = require_tool("skopeo")
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    ).encode()
    named = push(repository, config, "application/vnd.oci.image.config.v1+json").to_json()
    data = image(repository, config=named, layers=[])
    repository.put_manifest("1.0", data, OCI_IMAGE_MANIFEST)
    where = f"oci:{root / NAME}:1.0"
    said = subprocess.run([skopeo, "inspect", where], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["Digest"] == str(Digest.of(data))
    done = subprocess.run([skopeo, "copy", where, f"dir:{root}-copy"], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_index_follows_the_tags(root: Path, repository: Repository) -> None:
    first, second = tag(repository, "1.0"), tag(repository, "Latest")
    assert indexed(root) == {"1.0": str(Digest.of(first)), "Latest": str(Digest.of(second))}
    repository.put_manifest("1.0", second, OCI_IMAGE_MANIFEST)
    assert indexed(root) == dict.fromkeys(("1.0", "Latest"), str(Digest.of(second)))
    repository.delete("Latest")
    assert indexed(root) == {"1.0": str(Digest.of(second))}


def test_a_lost_or_damaged_index_costs_nothing(root: Path, repository: Repository) -> None:
    tag(repository, "1.0")
    for damage in (b"", b"{", None):
        index = root / NAME / "index.json"
        index.unlink()
        if damage is not None:
            index.write_bytes(damage)
        again = DirsRegistry(root).repository(NAME)
        assert list(again.tags()) == ["1.0"]
        tag(again, "2.0")
        assert set(indexed(root)) == {"1.0", "2.0"}
        again.delete("2.0")
        assert set(indexed(root)) == {"1.0"}


class Overtaken(Folders):
    """Another writer moves a tag between the look at the tags and the new index."""

    def __init__(self, root: Path, others: list[str]) -> None:
        super().__init__(root)
        self.others = others

    def write(self, place: Place, name: str, pieces: Iterable[bytes], stage: Place) -> None:
        if name == "index.json" and self.others:
            tag(DirsRegistry(self.root).repository(NAME), self.others.pop())
        super().write(place, name, pieces, stage)


@pytest.mark.parametrize("others", [["a"], ["a", "b"], ["a", "b", "c", "d"]])
def test_writers_who_overtake_each_other_lose_no_tag(root: Path, others: list[str]) -> None:
    expected = {"mine", *others}
    registry = DirsRegistry(root)
    tag(registry.repository(NAME), "mine")
    registry._folders = Overtaken(root, others)
    tag(registry.repository(NAME), "mine", "moved")
    assert others == []
    assert set(indexed(root)) == set(registry.repository(NAME).tags()) == expected


def test_a_layout_of_another_tool_is_not_written_to(root: Path, repository: Repository) -> None:
    tag(repository, "1.0")
    foreign = root / "foreign"
    foreign.mkdir()
    (foreign / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    newer = root / "team/newer"
    newer.mkdir()
    (newer / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    for name in ("foreign", "team/newer"):
        other = DirsRegistry(root).repository(name)
        assert list(other.tags()) == []
        assert code_of(lambda other=other: push(other, b"x")) == "registry-options"  # type: ignore[misc]
        assert [path.name for path in (root / name).iterdir()] == ["oci-layout"]


# -- what the path may be


def opened(path: str, workspace: Path) -> Repository:
    context = PluginContext(str(workspace), lambda host, scope: None, {})
    with open_dirs(DirsOptions(path), context) as registry:
        return registry.repository(NAME)


def test_a_relative_path_begins_at_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    tag(opened("../shared", tmp_path / "work"), "1.0")
    assert (tmp_path / "shared" / NAME / "index.json").is_file()


def test_looking_makes_nothing(root: Path, repository: Repository) -> None:
    assert repository.resolve("1.0") is None
    assert list(DirsRegistry(root).list()) == []
    assert not root.exists()
    root.mkdir()
    assert list(repository.tags()) == []
    assert list(root.iterdir()) == []


def test_paths_that_cannot_be_a_registry(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert code_of(lambda: push(opened("file", tmp_path), b"x")) == "registry-answer"
    assert code_of(lambda: opened("file", tmp_path).resolve("1.0")) == "registry-answer"
    assert code_of(lambda: push(opened("no/where", tmp_path), b"x")) == "registry-options"
    assert not (tmp_path / "no").exists()
    for empty in ("", " ", "a\0b", "~nobody-of-that-name/x"):
        assert code_of(lambda empty=empty: opened(empty, tmp_path)) == "registry-options"  # type: ignore[misc]
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_text("x")
    assert code_of(lambda: opened("photos", tmp_path).resolve("1.0")) == "registry-options"
    assert code_of(lambda: push(opened("photos", tmp_path), b"x")) == "registry-options"
    assert [path.name for path in photos.iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize("said", [b'{"format":2}\n', b"", b"\xff", b"[" * 5000])
def test_another_format_is_refused(root: Path, repository: Repository, said: bytes) -> None:
    tag(repository, "1.0")
    (root / "_registry.json").chmod(0o644)
    (root / "_registry.json").write_bytes(said)
    again = DirsRegistry(root).repository(NAME)
    assert code_of(lambda: again.resolve("1.0")) == "registry-options"
    assert code_of(lambda: push(again, b"x")) == "registry-options"


def test_the_root_may_be_a_link_and_nothing_below_may(tmp_path: Path, root: Path) -> None:
    root.mkdir()
    (tmp_path / "link").symlink_to(root)
    through = opened("link", tmp_path)
    tag(through, "1.0")
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "team" / "out").symlink_to(outside)
    assert (
        code_of(lambda: push(DirsRegistry(root).repository("team/out"), b"x")) == "registry-answer"
    )
    assert code_of(lambda: DirsRegistry(root).repository("team/out").resolve("1")) == (
        "registry-answer"
    )
    assert list(DirsRegistry(root).list()) == [NAME]
    (root / NAME / "_tags").rename(outside / "tags")
    (root / NAME / "_tags").symlink_to(outside / "tags")
    assert code_of(lambda: tag(through, "2.0")) == "registry-answer"
    assert sorted(path.name for path in outside.rglob("*")) == ["1.0", "tags"]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_blob_that_is_no_file_is_not_read(
    tmp_path: Path, root: Path, repository: Repository, kind: str
) -> None:
    tag(repository, "1.0")
    data = b"what somebody must not see"
    (tmp_path / "secret").write_bytes(data)
    path = root / NAME / "blobs/sha256" / Digest.of(data).hex
    match kind:
        case "link":
            path.symlink_to(tmp_path / "secret")
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    assert repository.missing([Digest.of(data)]) == {Digest.of(data)}
    assert code_of(lambda: read_blob(repository, described(data))) == "registry-answer"
    if kind != "folder":
        push(repository, data)
        assert read_blob(repository, described(data)) == data
        assert (tmp_path / "secret").read_bytes() == data


# -- damage


def test_a_damaged_blob_is_found_by_its_reader_and_healed_by_a_push(
    root: Path, repository: Repository
) -> None:
    data = patterned(100_000)
    push(repository, data)
    path = root / NAME / "blobs/sha256" / Digest.of(data).hex
    path.chmod(0o644)
    path.write_bytes(data[:-1] + b"x")
    wrapped = RetryingRepository(repository, Policy(tries=1))
    with pytest.raises(IntegrityError):
        read_blob(wrapped, described(data))
    push(repository, data)
    assert read_blob(wrapped, described(data)) == data


def test_a_damaged_manifest_is_refused_and_healed(root: Path, repository: Repository) -> None:
    data = tag(repository, "1.0")
    path = root / NAME / "blobs/sha256" / Digest.of(data).hex
    path.chmod(0o644)
    path.write_bytes(data.replace(b"amd64", b"arm64") + b" ")
    with pytest.raises(IntegrityError):
        repository.get_manifest("1.0")
    repository.put_manifest("1.0", data, OCI_IMAGE_MANIFEST)
    assert repository.get_manifest("1.0").data == data
    path.unlink()
    assert repository.resolve("1.0") is None
    with pytest.raises(NotFoundError):
        repository.get_manifest("1.0")


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"{" * 99999, b'{"digest":"sha256:x"}'])
def test_a_damaged_tag_is_named_and_can_be_put_again(
    root: Path, repository: Repository, damage: bytes
) -> None:
    data = tag(repository, "1.0")
    path = root / NAME / "_tags/1.0"
    path.chmod(0o644)
    path.write_bytes(damage)
    with pytest.raises(RegistryError, match=r"_tags/1\.0 is damaged"):
        repository.resolve("1.0")
    tag(repository, "2.0")
    assert sorted(repository.tags()) == ["1.0", "2.0"]
    assert set(indexed(root)) == {"2.0"}
    repository.put_manifest("1.0", data, OCI_IMAGE_MANIFEST)
    assert repository.get_manifest("1.0").data == data
    assert set(indexed(root)) == {"1.0", "2.0"}
