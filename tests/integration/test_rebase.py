"""``rebase`` on images on disk: nothing is solved, fetched or built, and the files say so after."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from envgraph.testing.container import LayoutBlobs
from envgraph.testing.layouts import LayoutMaker, tar_bytes
from envgraph_store import Digest
from tests.desk import Desk
from tests.exchange import Machine, good
from tests.moving import fill, put_base
from tests.services import Channel

FILE = """\
# how we train
name: train
image: "oci:../../../base:small"   # the base
conda_file: ../conda.yml
"""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    fill(tmp_path / "channel", "app=1.0", "lib=1.0")
    put_base(tmp_path / "base")
    made = Desk(tmp_path / "desk", (tmp_path / "channel").as_uri())
    (made.folder / "conda.yml").write_text("channels: [demo]\ndependencies: [app]\n")
    (made.folder / "environments/train.yml").write_text(FILE)
    made.apply()
    return made


def no_channel(desk: Desk) -> None:
    """From now on a solve or a fetch fails."""
    shutil.rmtree(desk.channel.removeprefix("file://"))


def image(desk: Desk, name: str = "train") -> dict[str, Any]:
    digest = desk.ok("show", name, "--json").json["image"]
    document: dict[str, Any] = json.loads(LayoutBlobs(desk.store).read(Digest(digest)))
    return document


def test_the_same_packages_on_what_the_tag_means_now(desk: Desk, tmp_path: Path) -> None:
    old = image(desk)["layers"]
    no_channel(desk)
    new = put_base(tmp_path / "base", "patch")
    dry = desk.ok("rebase", "train", "--dry-run", "--json").json
    assert [e["changed"] for e in dry["environments"]] == [["lock"]]
    assert [s["kind"] for s in dry["steps"]] == ["lock", "base-image", "image", "version"]
    assert desk.ok("show", "train", "--json").json["version"] == "1"
    done = desk.ok("rebase", "train", "--auto-approve", "--json").json
    assert done["built"] == 0
    assert done["edits"] == []
    shown = desk.ok("show", "train", "--json").json
    assert (shown["version"], shown["base"]["digest"], shown["changed"]) == ("2", new, ["lock"])
    layers = image(desk)["layers"]
    assert layers[-3:] == old[-3:]
    assert len(layers) == len(old) + 1
    assert desk.ok("lock", "--check").code == 0
    assert desk.plan()["changes"] is False
    answer = desk.run("drift", "--json")  # the channel is gone, the base is not
    assert (answer.code, answer.json["findings"]) == (1, [])
    answer = desk.ok("rebase", "--all")
    assert answer.out == "No changes. 1 environment stands on the base already.\n"
    answer = desk.ok("rebase", "--on", "debian:12")
    assert answer.out == "No changes. No environment stands on that base.\n"


def test_another_base_is_written_into_the_file_and_nothing_else(desk: Desk, tmp_path: Path) -> None:
    no_channel(desk)
    new = put_base(tmp_path / "other", "python")
    answer = desk.ok("rebase", "train", "--base", "oci:../../other:small", "--dry-run")
    assert "train.yml:3 will say `image: oci:../../../other:small`" in answer.out
    assert (desk.folder / "environments/train.yml").read_text() == FILE
    done = desk.ok("rebase", "train", "--base", "oci:../../other:small", "-y", "--json").json
    [edit] = done["edits"]
    assert (edit["line"], edit["column"], edit["key"]) == (3, 8, "image")
    assert (desk.folder / "environments/train.yml").read_text() == FILE.replace(
        "base:small", "other:small"
    )
    assert desk.ok("show", "train", "--json").json["base"]["digest"] == new
    assert desk.plan()["changes"] is False
    assert desk.ok("lock", "--check").code == 0


def test_what_stands_on_a_base_is_found(desk: Desk, tmp_path: Path) -> None:
    put_base(tmp_path / "second", "second")
    (desk.folder / "environments/two.yml").write_text(
        FILE.replace("name: train", "name: two").replace("base:small", "second:small")
    )
    (desk.folder / "environments/bare.yml").write_text(
        "name: bare\nchannels: [demo]\ndependencies: [lib]\n"
    )
    desk.apply()
    put_base(tmp_path / "base", "patch")
    put_base(tmp_path / "second", "second", "patch")
    found = desk.ok("rebase", "--on", "oci:../../second:small", "--dry-run", "--json").json
    assert [e["name"] for e in found["environments"]] == ["two"]
    done = desk.ok("rebase", "--all", "-y", "--json").json
    assert sorted(e["name"] for e in done["environments"]) == ["train", "two"]
    assert done["built"] == 0
    assert desk.plan()["changes"] is False


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("docker_steps: [RUN true]\n", "rebase-pending"),
        ("environment_variables: {A: b}\n", "rebase-pending"),
        ("version: '1'\n", "version-taken"),
    ],
)
def test_it_is_refused_with_its_reason(desk: Desk, tmp_path: Path, more: str, code: str) -> None:
    put_base(tmp_path / "base", "patch")
    (desk.folder / "environments/train.yml").write_text(FILE + more)
    before = desk.blobs()
    answer = desk.run("rebase", "train", "-y", "--json")
    assert (answer.code, answer.errors()) == (1, [code])
    assert desk.blobs() == before


def test_one_that_is_refused_stops_no_other(desk: Desk, tmp_path: Path) -> None:
    (desk.folder / "environments/two.yml").write_text(FILE.replace("name: train", "name: two"))
    desk.apply()
    with (desk.folder / "environments/two.yml").open("a") as file:
        file.write("tags: {a: b}\ndocker_steps: [RUN true]\n")
    put_base(tmp_path / "base", "patch")
    answer = desk.run("rebase", "--all", "-y", "--json")
    assert (answer.code, answer.errors()) == (1, ["rebase-pending"])
    assert [e["name"] for e in answer.json["environments"]] == ["train"]


def test_another_platform_and_too_many_layers_are_refused(desk: Desk, tmp_path: Path) -> None:
    from envgraph.model.oci import Platform

    other = LayoutMaker(tmp_path / "arm")
    tars = [tar_bytes({"etc/arm": b"arm"})]
    other.name(other.add_image(tars, platform=Platform("linux", "arm64", "v8")).manifest, "small")
    answer = desk.run("rebase", "train", "--base", "oci:../../arm:small", "-y", "--json")
    assert answer.errors() == ["base-platform"]
    tall = LayoutMaker(tmp_path / "tall")
    many = [tar_bytes({f"etc/{n}": str(n)}) for n in range(124)]
    tall.name(tall.add_image(many).manifest, "small")
    answer = desk.run("rebase", "train", "--base", "oci:../../tall:small", "-y", "--json")
    assert answer.errors() == ["too-many-layers"]
    assert (desk.folder / "environments/train.yml").read_text() == FILE
    assert desk.plan()["changes"] is False


@pytest.mark.parametrize(
    "image", ["&base oci:../../../base:small", ">-\n  oci:../../../base:small"]
)
def test_an_image_that_cannot_be_changed_in_place(desk: Desk, tmp_path: Path, image: str) -> None:
    path = desk.folder / "environments/train.yml"
    text = f"name: train\nimage: {image}\nconda_file: ../conda.yml\n"
    path.write_text(text)
    put_base(tmp_path / "other", "more")
    answer = desk.run("rebase", "train", "--base", "oci:../../other:small", "-y", "--json")
    assert answer.errors() == ["edit-refused"]
    [line] = answer.err.splitlines()
    assert json.loads(line)["diagnostics"][0]["source"]["line"] == 2
    assert path.read_text() == text


def test_the_default_base_is_not_rebased_by_an_edit(desk: Desk, tmp_path: Path) -> None:
    put_base(tmp_path / "other", "more")
    desk.settings(image={"bytecode": "none", "default_base": "oci:../../base:small"})
    (desk.folder / "environments/plain.yml").write_text(
        "name: plain\nchannels: [demo]\ndependencies: [app]\n"
    )
    desk.apply()
    answer = desk.run("rebase", "plain", "--base", "oci:../../other:small", "-y", "--json")
    assert answer.errors() == ["edit-refused"]
    put_base(tmp_path / "base", "patch")
    assert desk.ok("rebase", "plain", "-y", "--json").json["built"] == 0
    [train] = [e for e in desk.plan()["environments"] if e["action"] != "no-op"] or [None]
    assert train is None


def test_scratch_and_older_versions(desk: Desk, tmp_path: Path) -> None:
    (desk.folder / "environments/bare.yml").write_text(
        "name: bare\nchannels: [demo]\ndependencies: [lib]\n"
    )
    desk.apply()
    assert desk.run("rebase", "bare", "--json").errors() == ["rebase-scratch"]
    assert desk.ok("rebase", "--all").out.startswith("No changes.")
    put_base(tmp_path / "base", "patch")
    desk.ok("rebase", "train:1", "-y")
    assert desk.run("rebase", "train:1", "--json").errors() == ["usage"]
    assert desk.run("rebase", "--json").errors() == ["usage"]
    assert desk.run("rebase", "nothing", "--json").errors() == ["unknown-name"]


def test_a_file_outside_of_the_globs_is_named(desk: Desk, tmp_path: Path) -> None:
    path = desk.folder / "single.yml"
    path.write_text(FILE.replace("name: train", "name: single").replace("../", "", 1)
                    .replace("conda_file: ../", "conda_file: "))  # fmt: skip
    desk.apply("single.yml")
    put_base(tmp_path / "base", "patch")
    assert desk.run("rebase", "single", "-y", "--json").errors() == ["unknown-target"]
    answer = desk.run("drift", "single.yml", "--json")
    assert [f["code"] for f in answer.json["findings"]] == ["base-moved"]
    done = desk.ok("rebase", "single.yml", "-y", "--json").json
    assert [e["name"] for e in done["environments"]] == ["single"]
    assert desk.plan("single.yml")["changes"] is False


def test_a_rebased_image_is_pushed_and_reused_elsewhere(
    tmp_path: Path, demo_channel: Channel
) -> None:
    put_base(tmp_path / "base")
    first = Machine(tmp_path / "first", demo_channel.url)
    file = {"name": "train", "image": f"oci:{tmp_path}/base:small", "conda_file": {
        "channels": ["demo"], "dependencies": ["alpha"]}}  # fmt: skip
    (first.folder / "environments/train.yml").write_text(json.dumps(file))
    good(first.apply())
    put_base(tmp_path / "base", "patch")
    with first.open() as workspace:
        plan, _ = workspace.plan_rebase(["train"])
        result = good(workspace.apply(plan))
    assert (result.built, result.pushed) == (0, 1)
    assert result.diagnostics == ()
    second = first.elsewhere(tmp_path / "second")
    found = good(second.apply())
    assert (found.built, found.pulled) == (0, 1)
    assert found.environments[0]["image"] == result.environments[0]["image"]
    with second.open() as workspace:
        assert workspace.plan_rebase()[1].unchanged == ("train",)
    put_base(tmp_path / "other", "more")
    with first.open() as workspace:
        plan, rebase = workspace.plan_rebase(["train"], base=f"oci:{tmp_path}/other:small")
        good(workspace.apply(plan))
        rebase.edits["train"].write()
        lock = workspace.lock_of(workspace.find("train"))
    third = first.elsewhere(tmp_path / "third", locks=False)  # only the registry has the pin
    good(third.apply())
    with third.open() as workspace:
        assert workspace.lock_of(workspace.find("train")) == lock


def test_the_packages_are_not_read_again(desk: Desk, tmp_path: Path) -> None:
    """Even a store that lost its archives rebases: layers are enough."""
    shutil.rmtree(desk.store / "packages")
    no_channel(desk)
    put_base(tmp_path / "base", "patch")
    assert desk.ok("rebase", "train", "-y", "--json").json["built"] == 0
