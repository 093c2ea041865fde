"""What a cache is written as, and what is sent for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import BuilderError
from envgraph_buildkit import Docker, Image, InlineCache, LocalCache, Oci, OtherCache, RegistryCache
from envgraph_buildkit import caches as caching
from envgraph_buildkit import exporters as exporting
from envgraph_buildkit.cachetext import read_cache
from envgraph_buildkit.exporters import Exporter, Local, Tar
from envgraph_buildkit.messages import message
from envgraph_buildkit.options import BuildkitOptions

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("h.test/c:1", RegistryCache("h.test/c:1", "max")),
        ("type=registry,ref=h/c,mode=min", RegistryCache("h/c")),
        (
            "type=registry,ref=h/c,image-manifest=true",
            RegistryCache("h/c", "max", attributes={"image-manifest": "true"}),
        ),
        ("type=local,dest=sub/c", LocalCache(Path("/place/sub/c"), "max")),
        ("type=local,dest=/c,tag=t,mode=min", LocalCache(Path("/c"), "min", "t")),
        ("type=s3,bucket=b", OtherCache("s3", {"mode": "max", "bucket": "b"})),
    ],
)
def test_a_text_is_a_cache(text: str, made: object) -> None:
    assert caching.of_text(read_cache(text, kept=True), Path("/place")) == made


@pytest.mark.parametrize(
    "text",
    [
        "a,b", "a b", "", "type=", "type=inline", "type=floppy", "type=registry",
        "type=local,src=x",
        "type=registry,ref=x,mode=all", "type=registry,ref", "type=registry,ref=a,ref=b",
        "type=s3,secret_access_key=x", "type=gha,token=x",
    ],
)  # fmt: skip
def test_a_text_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        read_cache(text, kept=True)
    if text:
        with pytest.raises(ValueError):
            BuildkitOptions(cache_to=text)


def test_other_types_are_passed_through_with_their_attributes() -> None:
    request = message("SolveRequest")(Frontend="dockerfile.v0")
    taken = [*caching.imports([OtherCache("gha", {"scope": "s"}), RegistryCache("h/r")])]
    left = [*caching.exports([OtherCache("azblob", {"name": "n"}), InlineCache()])]
    caching.add(request, taken, left, frontend=True)
    assert [(each.Type, dict(each.Attrs)) for each in request.Cache.Imports] == [
        ("gha", {"scope": "s"}),
        ("registry", {"ref": "h/r"}),
    ]
    assert [(each.Type, dict(each.Attrs)) for each in request.Cache.Exports] == [
        ("azblob", {"name": "n"}),
        ("inline", {}),
    ]
    shown = json.loads(request.FrontendAttrs["cache-imports"])
    assert [each["Type"] for each in shown] == ["gha", "registry"]
    assert "canary" not in repr(OtherCache("s3", {"secret": "canary"}))


def test_a_local_cache_that_is_not_there_yet_is_none(tmp_path: Path) -> None:
    assert list(caching.imports([LocalCache(tmp_path / "no")])) == []
    (tmp_path / "index.json").write_text('{"manifests": [{"digest": "sha256:x"}]}')
    assert list(caching.imports([LocalCache(tmp_path)])) == []  # it has no `latest`


def test_no_path_of_this_machine_is_sent(tmp_path: Path) -> None:
    for entry in caching.exports([LocalCache(tmp_path)]):
        assert str(tmp_path) not in repr(dict(entry.attributes))


def whole(exporters: list[Exporter], version: str = "v0.13.0", **values: Any) -> None:
    exporting.check(exporters, whole=True, version=version, title="t", **values)


def test_several_exporters_by_version() -> None:
    two: list[Exporter] = [Oci("/a"), Tar("/b")]
    whole(two)
    whole(two, "")  # a dockerd tells none: what does not come is noticed
    for exporters, version in ((two, "v0.12.5"), ([Image("a"), Image("b")], "")):
        with pytest.raises(BuilderError) as caught:
            whole(exporters, version)
        assert caught.value.code == "builder-lacks"
    with pytest.raises(BuilderError) as caught:
        whole([Oci("/a", tar=False), Oci("/b", tar=False)])
    assert caught.value.code == "builder-options"
    assert exporting.ordered([Tar("/b"), Image("a")]) == (Image("a"), Tar("/b"))


def test_attributes_of_exporters() -> None:
    def of(exporter: Exporter) -> dict[str, str]:
        return exporting.attributes_of(exporter, config=b"{}", epoch=7)

    image = {"rewrite-timestamp": "true", "source-date-epoch": "7", "containerimage.config": "{}"}
    assert of(Oci("/a", "n", tar=False)) == image | {"name": "n", "tar": "false"}
    assert of(Docker("/a", attributes={"x": "y"})) == image | {"x": "y"}
    assert of(Image("n", push=True, insecure=True)) == image | {
        "name": "n", "push": "true", "registry.insecure": "true",
    }  # fmt: skip
    assert of(Local("/a")) == {"source-date-epoch": "7"}


def test_an_index_keeps_other_names_and_wants_what_it_names(tmp_path: Path) -> None:
    with pytest.raises(BuilderError) as caught:
        exporting.write_index(tmp_path, {"digest": DIGEST}, ["a"])
    assert caught.value.code == "builder-lacks"
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "blobs/sha256" / ("0" * 64)).touch()
    for names in (["a"], ["b"], ["a"], []):
        exporting.write_index(tmp_path, {"digest": DIGEST, "size": 0}, names)
    index = json.loads((tmp_path / "index.json").read_text())
    named = [each.get("annotations", {}) for each in index["manifests"]]
    assert [next(iter(each.values()), "") for each in named] == ["b", "a", ""]
