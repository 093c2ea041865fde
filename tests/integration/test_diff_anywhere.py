"""diff and why across images, registries and workspaces; of registries no layer is moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envgraph.model.oci import Platform
from envgraph.testing.layouts import (
    AMD64,
    LayoutMaker,
    MadeImage,
    Squeeze,
    docker_archive,
    tar_bytes,
)
from envgraph_store import Digest
from tests.bases import HOST, BaseDesk, upload
from tests.desk import Desk
from tests.services import Channel

META = "opt/env/conda-meta/"


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> BaseDesk:
    made = BaseDesk(tmp_path / "desk", demo_channel.url)
    made.environment("train", "python", "alpha=1.1", "beta")
    made.apply()
    return made


def foreign(
    layout: LayoutMaker, *tars: bytes, how: Squeeze = "gzip", **settings: object
) -> MadeImage:
    return layout.add_image(list(tars), compression=how, config=settings)


def records(*names: str) -> bytes:
    return tar_bytes({META + f"{name}.json": b"{}" for name in names})


def test_an_exported_image_is_the_version_that_it_is(desk: BaseDesk) -> None:
    desk.ok("export", "train", "--format", "oci", "-o", "image")
    found = desk.ok("diff", "train", "oci:image", "--json").json
    assert found["b"] == "oci:image (train:1)"
    assert found["same_definition"] is found["same_lock"] is found["same_image"] is True
    text = desk.ok("why", "train", "oci:image").out
    assert "both are the same image" in text
    assert "costs nothing" in text
    digest = desk.ok("show", "train", "--json").json["image"]
    assert desk.ok("diff", "train", digest, "--json").json["b"] == "train:1"


def test_an_image_that_was_compressed_otherwise_is_the_same_version(
    desk: BaseDesk, tmp_path: Path
) -> None:
    """What skopeo does on the way to docker: other digests, the same layers inside."""
    store = desk.store / "blobs" / "sha256"
    digest = desk.ok("show", "train", "--json").json["image"]
    manifest = json.loads((store / digest[7:]).read_bytes())
    config = json.loads((store / manifest["config"]["digest"][7:]).read_bytes())
    layout = LayoutMaker(tmp_path / "again")
    import zstandard

    opened = [
        zstandard.ZstdDecompressor().stream_reader((store / la["digest"][7:]).read_bytes(),
                                                   read_across_frames=True).read()
        for la in manifest["layers"]
    ]  # fmt: skip
    assert [str(Digest.of(raw)) for raw in opened] == config["rootfs"]["diff_ids"]
    layout.name(layout.add_image(opened, config=config["config"]).manifest)
    found = desk.ok("diff", "train", f"oci:{layout.folder}", "--json").json
    assert found["b"].endswith("(train:1)")
    assert found["same_lock"] is True


def test_an_image_that_nobody_knows_is_compared_by_what_it_says(
    desk: BaseDesk, tmp_path: Path
) -> None:
    layout = LayoutMaker(tmp_path / "other")
    image = foreign(
        layout,
        records("alpha-1.1-0", "gone-9-0"),
        tar_bytes({META + ".wh.gone-9-0.json": b"", META + "beta-7.0-0.json": b"{}",
                   "usr/lib/python3/site-packages/Flask-3.0.dist-info/METADATA": b""}),
        Env=["A=1"], Labels={"team": "x"}, Entrypoint=["/run"],
    )  # fmt: skip
    layout.name(image.manifest)
    found = desk.ok("diff", "train", f"oci:{layout.folder}", "--json").json
    assert found["same_definition"] is found["same_lock"] is None
    assert found["same_image"] is False
    packages = found["packages"]
    assert [p["name"] for p in packages["removed"]] == ["python"]
    assert [(p["manager"], p["name"]) for p in packages["added"]] == [("pip", "flask")]
    assert [(p["name"], p["from"], p["to"], p["major"]) for p in packages["changed"]] == [
        ("beta", "1.0", "7.0", True)
    ]
    assert {"name": "label team", "from": None, "to": "x"} in found["settings"]
    assert [v["name"] for v in found["environment_variables"]][:1] == ["A"]
    assert found["layers"]["new"] == found["layers"]["to"] == 2
    assert any("no hashes" in text for text in found["unknown"])
    assert found["base"]["to"] is None

    why = desk.ok("why", "train", f"oci:{layout.folder}", "--json").json
    names = [item["name"] for item in why["image"]["inputs"]]
    assert {"conda beta", "conda python", "pip flask", "label team", "entrypoint"} <= set(names)
    assert not any(name.startswith("layer") for name in names)
    assert why["definition"] is why["lock"] is None
    assert why["cost"]["new"] == 2
    for words in (("diff",), ("why",)):
        out = desk.ok(*words, "train", f"oci:{layout.folder}").out
        long = [line for line in out.splitlines() if len(line) > 80 and str(tmp_path) not in line]
        assert not [line for line in long if "sha256:" not in line]
    markdown = desk.ok("diff", "train", f"oci:{layout.folder}", "--format", "markdown").out
    assert "| ~ | `beta` | 1.0 | 7.0 | major |" in markdown
    assert "**Settings**" in markdown


def test_two_images_that_differ_in_compression_alone(desk: BaseDesk, tmp_path: Path) -> None:
    tars = [tar_bytes({"etc/a": b"a" * 100}), tar_bytes({"etc/b": b"b"})]
    one, two = LayoutMaker(tmp_path / "one"), LayoutMaker(tmp_path / "two")
    ways: list[tuple[LayoutMaker, Squeeze]] = [(one, ""), (two, "zstd")]
    for layout, how in ways:
        layout.name(foreign(layout, *tars, how=how).manifest)
        names = [f"oci:{layout.folder}" for layout in (one, two)]
    found = desk.ok("diff", *names, "--json").json
    assert (found["same_image"], found["same_files"]) == (False, True)
    assert (found["layers"]["new"], found["layers"]["recompressed"]) == (2, 2)
    [reason] = desk.ok("why", *names, "--json").json["image"]["inputs"]
    assert reason["name"] == "compression of 2 layers"
    assert "both are the same image" in desk.ok("why", names[0], names[0]).out
    docker_archive(tmp_path / "saved.tar", {"x/y:1": tars})
    saved = f"docker-archive:{tmp_path}/saved.tar"
    assert desk.ok("diff", names[1], saved, "--json").json["same_files"] is True


def test_what_an_image_says_moves_no_terminal(desk: BaseDesk, tmp_path: Path) -> None:
    layout = LayoutMaker(tmp_path / "other")
    image = foreign(layout, records("\x1b[31mred-1-0"), Env=["A=\x1b[2J"], Labels={"a\nb": "c"})
    layout.name(image.manifest)
    for words in (("diff",), ("why",), ("diff", "--format", "markdown")):
        assert "\x1b" not in desk.ok(*words, "train", f"oci:{layout.folder}").out


def test_layers_are_the_reason_where_packages_are_not(desk: BaseDesk, tmp_path: Path) -> None:
    base = tar_bytes({"etc/a": b"a"})
    one, two = LayoutMaker(tmp_path / "one"), LayoutMaker(tmp_path / "two")
    one.name(foreign(one, base).manifest)
    two.name(foreign(two, base, tar_bytes({"etc/b": b"b"})).manifest)
    why = desk.ok("why", f"oci:{one.folder}", f"oci:{two.folder}", "--json").json
    assert [item["name"] for item in why["image"]["inputs"]] == ["layer"]
    assert (why["cost"]["new"], why["cost"]["to"]) == (1, 2)


def test_an_image_in_a_registry_is_read_without_its_layers(desk: BaseDesk, tmp_path: Path) -> None:
    layout = LayoutMaker(tmp_path / "made")
    image = foreign(layout, records("alpha-1.1-0"), Env=["A=1"])
    upload(layout, image.manifest, desk.registry, "1", "team/tool")
    calls = desk.registry.calls
    calls.clear()
    with desk.workspace() as workspace:
        found = workspace.versions.diff("train", f"{HOST}/team/tool:1").to_json()
        assert found["layers"]["to"] == 1
        assert found["packages_known"] is False
        assert any("not fetched" in text for text in found["unknown"])
        by_digest = workspace.versions.diff("train", f"{HOST}/team/tool@{image.manifest.digest}")
        assert by_digest.same_image is False
    layers = {str(digest) for digest in image.layers}
    assert not [call for call in calls if any(digest in str(call) for digest in layers)]


def test_what_envgraph_pushed_is_a_version_for_every_other_workspace(
    tmp_path: Path, demo_channel: Channel
) -> None:
    from tests.exchange import Machine, good

    giver = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", own=HOST)
    giver.environment("train", "python", "alpha=1.1")
    good(giver.apply())
    with giver.open() as workspace:
        record = workspace.find("train")
    taker = Machine(tmp_path / "taker", demo_channel.url, giver.plugin, "bbbb0002", "taker", "t")
    taker.environment("mine", "python", "alpha=2.0")
    good(taker.apply())
    with taker.open() as workspace:
        sides = workspace.versions.sides
        text = f"{HOST}/{record.image_name}:1"
        before, after = sides.pair("mine", text)
        assert after.title == f"{text} (train:1)"
        found = workspace.versions.diff("mine", text).to_json()
        assert found["same_lock"] is False
        assert [p["name"] for p in found["packages"]["changed"]] == ["alpha"]
        assert found["layers"]["new"] >= 1
        assert found["requirements"]["added"] == ["alpha=1.1"]
        assert workspace.versions.why("mine", text).to_json()["definition"]["same"] is False
        assert [r.environment for r in workspace.list_environments()] == ["mine"]
        assert before.title == "mine:1"


def test_an_index_is_compared_on_a_platform_that_both_have(desk: BaseDesk, tmp_path: Path) -> None:
    arm = Platform("linux", "arm64")
    layout = LayoutMaker(tmp_path / "made")
    images = {
        platform: layout.add_image([records(f"alpha-{version}-0")], platform=platform)
        for platform, version in ((arm, "3.0"), (AMD64, "1.1"))
    }
    index = layout.add_index(images)
    layout.name(index)
    upload(layout, index, desk.registry, "both", "team/tool")
    found = desk.ok("diff", "train", f"oci:{layout.folder}", "--json").json
    assert found["platform"] == "linux-64"
    assert [p["name"] for p in found["packages"]["removed"]] == ["beta", "python"]
    both = ("diff", f"oci:{layout.folder}", f"oci:{layout.folder}", "--platform")
    assert desk.ok(*both, "linux-aarch64", "--json").json["platform"] == "linux-aarch64"
    assert desk.run(*both, "linux-s390x", "--json").errors() == ["no-common-platform"]
    with desk.workspace() as workspace:
        remote = workspace.versions.diff(
            f"{HOST}/team/tool:both", f"oci:{layout.folder}", platform="linux-aarch64"
        )
        assert remote.same_image is True


def test_a_base_that_lies_in_the_store_is_an_image_by_its_digest(
    desk: BaseDesk, tmp_path: Path
) -> None:
    layout = LayoutMaker(tmp_path / "base")
    image = layout.add_image([tar_bytes({"etc/os-release": b"x"})], config={"User": "1000"})
    layout.name(image.manifest)
    desk.use(f"oci:{layout.folder}", "based", "alpha=1.1")
    desk.apply()
    digest = str(image.manifest.digest)
    found = desk.ok("diff", digest, "based", "--json").json
    assert (found["a"], found["layers"]["from"]) == (digest, 1)
    assert found["base"]["to"]["digest"] == digest
    assert [p["name"] for p in found["packages"]["added"]] == ["alpha"]
    assert not [item for item in found["settings"] if item["name"] == "user"]


# -- other workspaces ----------------------------------------------------


def second(desk: Desk, folder: str, identity: str) -> Path:
    path = desk.root / folder
    (path / "environments").mkdir(parents=True)
    document = {"workspace": folder, "id": identity, "channels": {"demo": desk.channel},
                "image": {"bytecode": "none"}}  # fmt: skip
    (path / "envgraph.yaml").write_text(json.dumps(document))
    (path / "environments" / "train.yml").write_text(
        "name: train\nchannels: [demo]\ndependencies: [python, alpha=2.0]\n"
    )
    return path


def test_a_version_of_another_workspace(desk: BaseDesk) -> None:
    second(desk, "other", "0e0e0e0e")
    desk.ok("-C", "../other", "apply", "--auto-approve")
    for reference in ("../other#train", "../other#train:1", "../other#azureml:train@latest"):
        found = desk.ok("diff", "train", reference, "--json").json
        assert (found["a"], found["b"]) == ("train:1", reference)
        assert [p["name"] for p in found["packages"]["changed"]] == ["alpha"]
        assert found["layers"]["new"] >= 1
    why = desk.ok("why", "../other#train", "train", "--json").json
    assert why["definition"]["inputs"][0]["name"] == "conda packages"


def test_a_version_of_another_workspace_in_another_store(desk: BaseDesk) -> None:
    second(desk, "other", "0e0e0e0e")
    store = str(desk.root / "second-store")
    desk.ok("-C", "../other", "apply", "--auto-approve", "--store", store)
    answer = desk.run("diff", "train", "../other#train", "--json")
    assert answer.errors() == ["unknown-name"]
    assert "--other-store" in answer.err
    found = desk.ok("diff", "train", "../other#train", "--other-store", store, "--json").json
    assert [p["name"] for p in found["packages"]["changed"]] == ["alpha"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("../nowhere#train", "unknown-workspace"), ("../work#nothing", "unknown-name"),
        ("../work#", "bad-reference"), ("../work", "bad-reference"),
        ("a.b/c", "bad-reference"), ("a/b", "bad-reference"),
        ("../work#train:9", "unknown-version"), ("oci:../nowhere", "missing-image"),
        ("x/y.yml", "missing-file"), ("sha256:" + "0" * 64, "unknown-digest"),
        ("localhost:1/x:1", "registry-down"), ("docker://UP/x:1", "registry-down"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_by_its_own_code(desk: BaseDesk, text: str, code: str) -> None:
    desk.variables["no_proxy"] = "*"
    (desk.folder / "a.b").mkdir()
    (desk.folder / "a.b" / "c").write_text("a file whose folder looks like a host")
    answer = desk.run("diff", "train", text, "--json")
    assert (answer.code, answer.errors()) == (1, [code])


@pytest.mark.parametrize("text", ["../work#train", "oci:image", "localhost:1/x:1", "a.yml"])
def test_why_of_one_is_for_versions_of_this_workspace(desk: BaseDesk, text: str) -> None:
    answer = desk.run("why", text, "--json")
    assert answer.errors() == ["no-previous"]
    assert "name two" in answer.err


def test_offline_asks_no_registry_and_a_layer_is_no_image(desk: BaseDesk) -> None:
    answer = desk.run("why", "train", "localhost:1/x:1", "--offline", "--json")
    assert answer.errors() == ["offline"]
    layer = desk.ok("show", "train", "--json").json["layers"][0]["digest"]
    assert desk.run("diff", "train", layer, "--json").errors() == ["not-an-image"]
