"""From an environment file to an image and back to "nothing to do", as a user would."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from envgraph.testing.channel import ChannelMaker, make_package
from tests.desk import Desk, built
from tests.services import Channel


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    return Desk(tmp_path / "desk", demo_channel.url)


def test_apply_then_nothing_to_do_in_a_new_process_and_without_memos(desk: Desk) -> None:
    desk.environment("train", "alpha", "beta")
    first = desk.plan()
    assert first["changes"]
    assert built(first) == ["/opt/env", "alpha", "beta"]
    assert not desk.lockfile("train").exists()
    result = desk.apply()
    assert result["built"] == 3
    assert result["environments"][0]["version"] == "1"
    again = desk.plan()
    assert not again["changes"]
    assert again["environments"][0]["action"] == "no-op"
    assert again["environments"][0]["image"] == result["environments"][0]["image"]
    shutil.rmtree(desk.store / "memo", ignore_errors=True)
    assert not desk.plan("--no-memo")["changes"]
    assert desk.ok("plan", "--detailed-exitcode").out.startswith("No changes.")


def test_detailed_exitcode_says_that_there_are_changes(desk: Desk) -> None:
    desk.environment("train", "alpha")
    assert desk.run("plan", "--detailed-exitcode").code == 2


def test_one_changed_dependency_writes_one_layer(desk: Desk) -> None:
    desk.environment("train", "alpha=1.0", "gamma", "settings")
    before = desk.apply()["environments"][0]
    desk.environment("train", "alpha=1.1", "gamma", "settings")
    plan = desk.plan()
    assert built(plan) == ["alpha"]
    [change] = plan["environments"][0]["packages"]["changed"]
    assert (change["name"], change["from"], change["to"]) == ("alpha", "1.0", "1.1")
    assert change["direct"]
    assert not change["major"]
    result = desk.apply()
    assert result["built"] == 1
    after = result["environments"][0]
    assert after["version"] == "2"
    assert after["image"] != before["image"]


def test_a_new_combination_of_known_packages_writes_no_layer(desk: Desk) -> None:
    desk.environment("one", "alpha=1.1", "gamma")
    desk.environment("two", "settings")
    desk.apply()
    desk.environment("three", "alpha=1.1", "settings")
    plan = desk.plan()
    assert plan["summary"]["build"] == 0
    assert plan["summary"]["layers_written"] == 0
    [three] = [e for e in plan["environments"] if e["name"] == "three"]
    assert three["image"] is not None
    result = desk.apply()
    assert result["built"] == 0
    [registered] = [e for e in result["environments"] if e["name"] == "three"]
    assert registered["image"] == three["image"]


def test_two_names_with_the_same_packages_share_one_image_m50(desk: Desk) -> None:
    desk.environment("first", "alpha", "gamma")
    desk.environment("second", "alpha", "gamma")
    desk.environment("third", "alpha", "settings")
    result = desk.apply()
    images = {e["name"]: e["image"] for e in result["environments"]}
    names = {e["name"]: e["image_name"] for e in result["environments"]}
    assert images["first"] == images["second"] != images["third"]
    assert names["first"] == names["second"] != names["third"]
    index = json.loads((desk.store / "index.json").read_text())
    assert len({entry["digest"] for entry in index["manifests"]}) == 2
    assert len(index["manifests"]) == 3


def test_an_order_only_edit_changes_the_definition_and_builds_nothing_m45(desk: Desk) -> None:
    desk.environment("train", "alpha", "gamma")
    before = desk.apply()["environments"][0]
    desk.environment("train", "gamma", "alpha")
    plan = desk.plan()
    assert plan["environments"][0]["definition"] != before["definition"]
    assert plan["environments"][0]["lock"] == before["lock"]
    assert plan["summary"]["build"] == 0
    assert "nothing to build" in desk.ok("plan").out
    after = desk.apply()["environments"][0]
    assert after["image"] == before["image"]
    assert after["version"] == "2"


def test_pins_stay_when_the_channel_moves_on_and_when_it_is_gone(
    tmp_path: Path, demo_channel: Channel
) -> None:
    channel = tmp_path / "channel"
    shutil.copytree(demo_channel.folder, channel)
    desk = Desk(tmp_path / "desk", channel.as_uri())
    desk.environment("train", "alpha")
    before = desk.apply()["environments"][0]
    ChannelMaker(channel).add(
        make_package("alpha", "3.0", files={"share/alpha/version": "3"})
    ).index()
    assert not desk.plan("--no-memo")["changes"]
    shutil.rmtree(channel)
    assert not desk.plan("--no-memo")["changes"]
    # Another environment with the same definition, and the lockfile gone: the store knows.
    desk.lockfile("train").unlink()
    desk.environment("other", "alpha")
    after = {e["name"]: e for e in desk.apply()["environments"]}
    assert after["train"]["image"] == after["other"]["image"] == before["image"]
    assert desk.lockfile("train").exists()


def test_a_committed_lockfile_is_enough_for_an_empty_store(desk: Desk, tmp_path: Path) -> None:
    desk.environment("train", "alpha=1.1", "beta")
    before = desk.apply()["environments"][0]
    text = desk.lockfile("train").read_bytes()
    other = Desk(tmp_path / "other", desk.channel)
    other.environment("train", "alpha=1.1", "beta")
    other.lockfile("train").parent.mkdir()
    other.lockfile("train").write_bytes(text)
    plan = other.plan()
    assert plan["environments"][0]["lock"] == before["lock"]
    assert other.apply()["environments"][0]["image"] == before["image"]
    assert other.lockfile("train").read_bytes() == text


def test_an_edited_lockfile_is_shown_and_never_silently_used(desk: Desk) -> None:
    desk.environment("train", "alpha")
    desk.apply()
    path = desk.lockfile("train")
    text = path.read_text()
    path.write_text(text.replace("alpha-2.0", "alpha-9.9"))
    plan = desk.ok("plan")
    assert "edited by hand" in plan.err
    path.write_text(text)
    assert not desk.plan("--no-memo")["changes"]


def test_a_change_of_packages_keeps_the_base_that_was_locked(desk: Desk) -> None:
    base = make_base(desk.folder / "base", name="base")
    spec = desk.folder / "environments" / "train.yml"
    conda = desk.folder / "conda.yml"
    spec.write_text("name: train\nimage: oci:../base:base\nconda_file: ../conda.yml\n")
    conda.write_text("channels: [demo]\ndependencies: [alpha=1.0]\n")
    desk.apply()
    shutil.rmtree(desk.folder / "base")
    conda.write_text("channels: [demo]\ndependencies: [alpha=1.1]\n")
    assert built(desk.plan()) == ["alpha"]
    desk.apply()
    assert desk.ok("show", "train", "--json").json["base"]["digest"] == str(base.manifest)


def test_a_wrong_edit_of_a_lockfile_never_becomes_the_pin(desk: Desk) -> None:
    desk.environment("train", "alpha=1.1")
    before = desk.apply()["environments"][0]
    path = desk.lockfile("train")
    good = path.read_text()
    path.write_text(good.replace("version: '1.1'", "version: '1.0'"))
    assert path.read_text() != good
    assert desk.run("lock").code == 1
    answer = desk.run("apply", "-y", "--json")
    assert answer.code == 1
    assert "Traceback" not in answer.err
    path.unlink()
    assert desk.plan("--no-memo")["environments"][0]["lock"] == before["lock"]
    desk.apply()
    assert not desk.plan("--no-memo")["changes"]


def test_a_right_edit_is_a_new_generation_once_it_is_applied(desk: Desk, tmp_path: Path) -> None:
    desk.environment("train", "alpha=1")
    desk.apply()
    other = Desk(tmp_path / "other", desk.channel)
    other.environment("train", "alpha=1.0")
    other.apply()
    theirs = other.lockfile("train").read_text().splitlines()
    ours = desk.lockfile("train").read_text().splitlines()
    keep = ("envgraph.lock/", "linux-64:")  # what it answers stays, the package is theirs
    merged = [o if any(k in o for k in keep) else t for o, t in zip(ours, theirs, strict=True)]
    desk.lockfile("train").write_text("\n".join(merged) + "\n")
    assert "edited by hand" in desk.ok("plan").err
    assert desk.apply()["environments"][0]["version"] == "2"
    assert not desk.plan("--no-memo")["changes"]
    assert "edited" not in desk.ok("plan", "--no-memo").err


def test_two_environments_of_one_definition_may_have_locks_of_different_days(
    tmp_path: Path, demo_channel: Channel
) -> None:
    channel = tmp_path / "channel"
    shutil.copytree(demo_channel.folder, channel)
    desk = Desk(tmp_path / "desk", channel.as_uri())
    first = desk.environment("first", "alpha")
    desk.environment("second", "alpha")
    desk.apply()
    ChannelMaker(channel).add(make_package("alpha", "3.0", files={"share/alpha/v": "3"})).index()
    desk.ok("lock", "--update", "alpha", "--", str(first))
    desk.apply()
    assert not desk.plan("--no-memo")["changes"]
    images = {e["name"]: e["image"] for e in desk.plan("--no-memo")["environments"]}
    assert images["first"] != images["second"]


def test_a_saved_plan_is_applied_as_it_was_shown(desk: Desk) -> None:
    desk.environment("train", "alpha")
    shown = desk.plan("--out", "next.plan")
    result = desk.ok("apply", "--json", "next.plan").json
    assert result["environments"][0]["lock"] == shown["environments"][0]["lock"]
    assert desk.run("apply", "--json", "next.plan").errors() == ["stale-plan"]


@pytest.mark.parametrize("what", ["environment", "settings", "lockfile", "store"])
def test_a_saved_plan_is_refused_when_anything_changed(desk: Desk, what: str) -> None:
    path = desk.environment("train", "alpha")
    desk.ok("plan", "--out", "next.plan")
    if what == "environment":
        desk.environment("train", "alpha", "gamma")
    elif what == "settings":
        desk.settings(image={"bytecode": "none", "compression": "gzip"})
    elif what == "lockfile":
        desk.ok("lock")
    else:
        desk.apply(str(path))
    before = desk.blobs() if desk.store.exists() else set()
    answer = desk.run("apply", "--json", "next.plan")
    assert answer.code == 1
    assert answer.errors() == ["stale-plan"]
    assert desk.blobs() == before


def test_a_lost_layer_is_built_again_once_verify_has_seen_it(desk: Desk) -> None:
    desk.environment("train", "alpha", "gamma")
    before = desk.apply()["environments"][0]
    shown = desk.ok("show", "train", "--json").json
    [layer] = [p["layer"] for p in shown["packages"] if p["name"] == "alpha"]
    blob = desk.store / "blobs" / "sha256" / layer.removeprefix("sha256:")
    blob.chmod(0o644)
    blob.write_bytes(b"rotten")
    verified = desk.run("store", "verify", "--json")
    assert verified.code == 3
    assert layer in [bad["digest"] for bad in verified.json["bad"]]
    desk.run("store", "verify", "--repair")
    assert built(desk.plan()) == ["alpha"]
    after = desk.apply()["environments"][0]
    assert after["image"] == before["image"]
    assert after["version"] == before["version"]
    assert desk.run("store", "verify").code == 0


def collision(tmp_path: Path, one: dict[str, str], two: dict[str, str]) -> Desk:
    channel = tmp_path / "channel"
    maker = ChannelMaker(channel)
    maker.add(make_package("one", files=one), make_package("two", files=two)).index()
    desk = Desk(tmp_path / "desk", channel.as_uri())
    desk.environment("train", "one", "two")
    return desk


def test_a_file_and_a_folder_of_one_name_are_an_error_that_names_both(tmp_path: Path) -> None:
    desk = collision(tmp_path, {"share/same": "x"}, {"share/same/inner": "x"})
    answer = desk.run("apply", "--auto-approve", "--json")
    assert answer.code == 1
    assert "path-collision" in answer.errors()
    assert "one 1.0" in answer.err
    assert "two 1.0" in answer.err
    assert desk.ok("list", "--json").json["environments"] == []


def test_different_files_of_one_name_are_said_with_the_one_that_is_used(tmp_path: Path) -> None:
    desk = collision(
        tmp_path, {"share/same": "x", "share/eq": "1"}, {"share/same": "y", "share/eq": "1"}
    )
    said = " ".join(desk.ok("apply", "-y").err.split())
    assert "share/same: in the image the file of two 1.0 0 is used" in said
    assert "share/eq" not in said


def test_equal_files_of_one_name_are_nobodys_business(tmp_path: Path) -> None:
    desk = collision(tmp_path, {"share/same": "x"}, {"share/same": "x"})
    assert "path-shared" not in desk.ok("apply", "-y").err


def test_a_given_version_never_changes(desk: Desk) -> None:
    desk.environment("train", "alpha", more="")
    spec = desk.folder / "environments" / "azure.yml"
    spec.write_text(
        "name: azure\nversion: 7\nimage: scratch\nconda_file: ../conda.yml\n", encoding="utf-8"
    )
    conda = desk.folder / "conda.yml"
    conda.write_text("channels: [demo]\ndependencies: [alpha]\n")
    result = desk.apply()
    assert {e["name"]: e["version"] for e in result["environments"]} == {"azure": "7", "train": "1"}
    before = desk.ok("show", "azure", "--json").json
    locked = desk.lockfile("azure").read_bytes()
    conda.write_text("channels: [demo]\ndependencies: [gamma]\n")
    for _ in range(2):
        answer = desk.run("apply", "--auto-approve", "--json")
        assert answer.code == 1
        assert "version-taken" in answer.errors()
    assert desk.ok("show", "azure", "--json").json == before
    assert desk.lockfile("azure").read_bytes() == locked
    assert len(desk.ok("list", "--all", "--json").json["environments"]) == 2


def test_a_lost_name_in_the_index_is_put_back(desk: Desk) -> None:
    desk.environment("train", "alpha")
    image = desk.apply()["environments"][0]
    index = (desk.store / "index.json").read_text()
    for path in (desk.store / "refs").iterdir():
        if path.name.startswith("images"):
            shutil.rmtree(path)
    desk.ok("store", "gc")
    assert desk.plan("--no-memo")["summary"]["tag"] == 1
    assert desk.apply()["environments"][0] == image
    assert (desk.store / "index.json").read_text() == index
    assert not desk.plan("--no-memo")["changes"]


def test_workspaces_of_one_name_keep_their_images_apart(desk: Desk, tmp_path: Path) -> None:
    desk.environment("train", "alpha")
    desk.apply()
    other = Desk(tmp_path / "other", desk.channel)
    other.settings(id="0e000002")
    other.environment("train", "gamma")
    other.store = desk.store
    other.apply()
    index = json.loads((desk.store / "index.json").read_text())
    names = {e["annotations"]["org.opencontainers.image.ref.name"] for e in index["manifests"]}
    assert names == {"desk/train:1", "desk-0e000002/train:1"}


def test_reserved_names_are_refused_with_the_fix(desk: Desk) -> None:
    desk.environment("azureml-minimal", "alpha")
    answer = desk.run("apply", "--auto-approve", "--json")
    assert answer.code == 1
    assert answer.errors() == ["reserved-prefix"]


def test_one_bad_environment_stops_no_other_from_being_planned(desk: Desk) -> None:
    desk.environment("good", "alpha")
    desk.environment("bad", "nothing-is-called-this")
    answer = desk.run("plan", "--json")
    assert answer.code == 1
    assert [e["name"] for e in answer.json["environments"]] == ["good"]
    assert "nothing-is-called-this" in answer.out + answer.err


def test_offline_opens_no_connection(tmp_path: Path, http_channel) -> None:  # type: ignore[no-untyped-def]
    desk = Desk(tmp_path / "desk", http_channel.url)
    desk.environment("train", "alpha")
    answer = desk.run("--offline", "plan", "--json")
    assert answer.code == 1
    assert "offline" in answer.errors()
    assert not http_channel.requests
    desk.apply()
    seen = len(http_channel.requests)
    assert seen > 0
    assert not desk.plan("--offline", "--no-memo")["changes"]
    assert len(http_channel.requests) == seen


def test_link_scripts_are_named_because_images_do_not_run_them(desk: Desk) -> None:
    desk.environment("train", "linker")
    assert "linker has link scripts" in desk.ok("apply", "-y").err
    desk.environment("other", "linker", "alpha")
    assert "linker has link scripts" in desk.ok("plan").err
