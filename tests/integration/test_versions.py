"""Versions over the years, with the real command line: what is kept, what goes, what is refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from envgraph.history.read import history
from envgraph_store import Store
from tests.desk import Desk
from tests.services import Channel

ID = "d35c0001"
GRACE = 15 * 86400.0


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    """Two versions of `train`: beta came in the second one, settings is in both."""
    made = Desk(tmp_path, demo_channel.url)
    made.environment("train", "alpha", "settings")
    made.apply()
    made.environment("train", "beta", "settings")
    made.apply()
    return made


def collect(desk: Desk, seconds: float) -> set[str]:
    """The blobs that garbage collection takes ``seconds`` from now."""
    before = desk.blobs()
    with Store.open(desk.store) as store:
        store.gc(now=time.time() + seconds)
    return before - desk.blobs()


def age(desk: Desk) -> None:
    """Let every object be older than any grace period."""
    for folder in ("blobs/sha256", "actions"):
        for path in (desk.store / folder).iterdir():
            os.utime(path, (1, 1), follow_symlinks=False)


def layers(desk: Desk, reference: str) -> dict[str, set[str]]:
    """Digests of our layers, by the packages in them."""
    shown = desk.ok("show", reference, "--json").json
    return {
        " ".join(layer["packages"]): {layer["digest"].removeprefix("sha256:")}
        for layer in shown["layers"]
    }


def test_what_only_an_archived_version_needs_goes_after_the_grace_period(desk: Desk) -> None:
    age(desk)
    first = desk.ok("show", "train:1", "--json").json
    own = layers(desk, "train:1")["alpha"] - set().union(*layers(desk, "train:2").values())
    assert own
    collect(desk, 0)  # what nothing names goes first
    desk.ok("archive", "train:1")
    assert collect(desk, 0) & own == set()  # its grace begins with the change
    desk.ok("restore", "train:1")
    desk.environment("train", "alpha", "settings")
    assert desk.plan()["summary"]["build"] == 0  # and all that is known of them is here, too
    desk.environment("train", "beta", "settings")
    desk.ok("archive", "train:1")
    gone = collect(desk, GRACE)
    assert own <= gone
    assert first["image"].removeprefix("sha256:") in gone
    needed = [first["definition"], *(p["lock"] for p in first["platforms"].values())]
    assert not {text.removeprefix("sha256:") for text in needed} & gone
    for digests in layers(desk, "train:2").values():
        assert not digests & gone
    assert desk.run("store", "verify").code == 0
    assert desk.plan()["changes"] is False
    assert desk.ok("show", "train:1", "--json").json["archived"] is True


def test_a_version_that_was_collected_is_made_again_from_its_lock(desk: Desk) -> None:
    first = desk.ok("show", "train:1", "--json").json
    desk.ok("archive", "train:1")
    age(desk)
    collect(desk, GRACE)
    desk.ok("restore", "train:1")
    desk.environment("train", "alpha", "settings", more="")
    path = desk.folder / "environments" / "train.yml"
    path.write_text(
        "name: train\nversion: '1'\nimage: scratch\nconda_file:\n  channels: [demo]\n"
        "  dependencies: [alpha, settings]\n"
    )
    result = desk.apply()
    assert result["built"] >= 1
    assert result["environments"][0]["version"] == "1"
    assert result["environments"][0]["image"] == first["image"]


def test_a_version_that_is_not_archived_keeps_what_it_has(desk: Desk) -> None:
    age(desk)
    before = {d for digests in layers(desk, "train:1").values() for d in digests}
    desk.ok("archive", "train:1")
    desk.ok("restore", "train:1")
    age(desk)
    assert not collect(desk, GRACE) & before


def test_a_deleted_number_is_not_counted_again(desk: Desk) -> None:
    desk.ok("delete", "train:2")
    assert [e["version"] for e in desk.plan()["environments"]] == ["3"]
    assert desk.apply()["environments"][0]["version"] == "3"
    assert desk.run("show", "train:2", "--json").errors() == ["version-deleted"]
    events = [r["event"] for r in desk.ok("history", "train", "--json").json["records"]]
    assert events == ["version", "delete", "version", "version"]


def test_only_the_very_same_version_comes_back_after_it_was_deleted(desk: Desk) -> None:
    desk.ok("delete", "train:2")
    desk.environment("train", "alpha", more="version: '2'\n")
    refused = desk.run("plan", "--json")
    assert refused.code == 1
    path = desk.folder / "environments" / "train.yml"
    text = ("name: train\nversion: '2'\nimage: scratch\nconda_file:\n  channels: [demo]\n"
            "  dependencies: [{}, settings]\n")  # fmt: skip
    path.write_text(text.format("alpha"))
    answer = desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    assert "version-taken" in answer.errors()
    path.write_text(text.format("beta"))
    assert desk.apply()["environments"][0]["version"] == "2"
    assert desk.ok("show", "train", "--json").json["version"] == "2"


def test_every_version_can_go_and_the_numbers_go_on(desk: Desk) -> None:
    desk.ok("delete", "train", "--all")
    assert desk.ok("list", "--json").json["environments"] == []
    assert desk.run("show", "train", "--json").errors() == ["unknown-version"]
    assert desk.apply()["environments"][0]["version"] == "3"


def test_a_build_that_fails_takes_no_number(desk: Desk, demo_channel: Channel) -> None:
    desk.environment("train", "alpha=1.0", "beta")
    [archive] = demo_channel.folder.rglob("alpha-1.0-*.conda")
    data = archive.read_bytes()
    try:
        desk.ok("lock")
        archive.write_bytes(b"other bytes")
        for path in (desk.store / "packages").iterdir():
            path.unlink()
        assert desk.run("apply", "--auto-approve").code == 1
    finally:
        archive.write_bytes(data)
    assert [r["event"] for r in desk.ok("history", "train", "--json").json["records"]] == [
        "version"
    ] * 2
    assert desk.apply()["environments"][0]["version"] == "3"


def test_a_changed_description_is_recorded_and_makes_no_version(desk: Desk) -> None:
    path = desk.folder / "environments" / "train.yml"
    path.write_text(
        "name: train\nimage: scratch\ndescription: {}\nconda_file:\n  channels: [demo]\n"
        "  dependencies: [beta, settings]\n".format("one")
    )
    plan = desk.plan()
    [change] = plan["environments"]
    assert (change["action"], change["version"], change["changed"]) == ("update", "2", ["metadata"])
    assert plan["summary"]["build"] == 0
    image = desk.apply()["environments"][0]["image"]
    assert desk.plan()["changes"] is False
    shown = desk.ok("show", "train", "--json").json
    assert (shown["version"], shown["description"], shown["image"]) == ("2", "one", image)
    [newest, *_] = desk.ok("history", "train", "--json").json["records"]
    assert (newest["event"], newest["version"], newest["description"]) == ("metadata", "2", "one")


def test_verify_finds_a_history_that_was_tampered_with(desk: Desk) -> None:
    assert desk.run("store", "verify").code == 0
    with Store.open(desk.store) as store:
        *_, (first, _) = history(store, ID, "train")
    path = desk.store / "blobs" / "sha256" / first.hex
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"alpha"', b'"omega"') + b" ")
    answer = desk.run("store", "verify", "--json")
    assert answer.code == 3
    found = {(item["area"], item.get("code")) for item in answer.json["bad"]}
    assert ("history", "history-broken") in found


def test_labels_move_and_every_verb_takes_them(desk: Desk) -> None:
    desk.ok("label", "train:1", "prod")
    moved = desk.ok("label", "train", "prod", "--json").json
    assert (moved["from"], moved["to"], moved["changed"]) == ("1", "2", True)
    assert desk.ok("label", "train:2", "prod", "--json").json["changed"] is False
    assert desk.ok("show", "azureml:train@prod", "--json").json["labels"] == ["latest", "prod"]
    desk.ok("export", "train@prod", "--format", "explicit")
    desk.ok("graph", "train@prod")
    moves = [r for r in desk.ok("history", "train", "--json").json["records"]
             if r["event"] == "label"]  # fmt: skip
    assert [(m["from"], m["to"]) for m in moves] == [("1", "2"), (None, "1")]
    assert desk.run("delete", "train@prod", "--json").errors() == ["label-in-use"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("label", "train", "latest"), "bad-label"), (("label", "train", "a/b"), "bad-label"),
        (("label", "train", "n" * 300), "bad-label"),
        (("label", "train:9", "x"), "unknown-version"),
        (("label", "train:1", "x", "--remove"), "unknown-label"),
        (("delete", "train"), "no-version"),
        (("delete", "train:1", "--all"), "no-version"), (("archive", "trian"), "unknown-name"),
        (("archive", "azureml://registries/r/environments/train"), "other-registry"),
        (("history", "a/b"), "bad-reference"), (("history", "train\u202e"), "bad-reference"),
        (("diff", "train", "nothing.lock"), "unknown-name"),
        (("diff", "train", "train", "--platform", "osx-64"), "no-common-platform"),
    ],
)  # fmt: skip
def test_what_is_refused_changes_nothing(desk: Desk, words: tuple[str, ...], code: str) -> None:
    before = desk.blobs()
    answer = desk.run(*words, "--json")
    assert answer.code == 1
    assert answer.errors() == [code]
    assert desk.blobs() == before


def test_why_names_the_package_and_what_it_costs(desk: Desk) -> None:
    found = desk.ok("why", "train", "--json").json
    assert (found["a"], found["b"]) == ("train:1", "train:2")
    assert [i["name"] for i in found["definition"]["inputs"]] == ["conda packages"]
    assert "conda beta" in [i["name"] for i in found["lock"]["inputs"]]
    assert [i["name"] for i in found["image"]["inputs"]] == ["packages"]
    first, second = layers(desk, "train:1"), layers(desk, "train:2")
    new = set().union(*second.values()) - set().union(*first.values())
    assert found["cost"]["new"] == len(new)
    sizes = {la["digest"]: la["size"] for la in desk.ok("show", "train", "--json").json["layers"]}
    assert found["cost"]["new_bytes"] == sum(sizes[f"sha256:{digest}"] for digest in new)
    assert desk.run("why", "train:1", "--json").errors() == ["no-previous"]


def test_why_blames_the_options_of_the_workspace_for_an_image_made_otherwise(desk: Desk) -> None:
    desk.settings(image={"bytecode": "none", "compression": "gzip"})
    desk.apply()
    found = desk.ok("why", "train", "--json").json
    assert found["lock"]["same"] is True
    assert [i["name"] for i in found["image"]["inputs"]] == ["options"]
    assert "other options" in found["note"]


def test_a_lockfile_is_a_side_of_a_diff(desk: Desk) -> None:
    old = desk.folder / "old.conda-lock.yml"
    old.write_bytes(desk.lockfile("train").read_bytes())
    desk.environment("train", "alpha=1.0", "settings")
    desk.apply()
    found = desk.ok("diff", "old.conda-lock.yml", "train", "--json").json
    assert found["same_lock"] is False
    assert [p["name"] for p in found["packages"]["removed"]] == ["beta"]
    assert found["requirements"]["added"] == ["alpha=1.0"]
    markdown = desk.ok("diff", "train:1", "train", "--format", "markdown").out
    assert markdown.startswith("### `train:1` → `train:3`\n")
    assert "| ~ | `alpha` |" in markdown
    assert desk.run("diff", "environments/train.yml", "train", "--json").code == 1
