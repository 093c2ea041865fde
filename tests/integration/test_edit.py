"""edit: an environment in the user's editor; a bad text replaces nothing and is never lost."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.desk import Answer, Desk
from tests.services import Channel


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    made = Desk(tmp_path, demo_channel.url)
    made.environment("train", "alpha=1.0", "settings")
    made.apply()
    return made


def editor(desk: Desk, script: str, name: str = "editor") -> str:
    """An editor that runs a shell script on the file ``$1``."""
    path = desk.root / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def edit(desk: Desk, script: str, *words: str) -> Answer:
    return desk.run("edit", *words, environ={"EDITOR": editor(desk, script)})


def files(desk: Desk) -> list[str]:
    return sorted(path.name for path in (desk.folder / "environments").iterdir())


def test_the_file_is_edited_and_keeps_what_nobody_touched(desk: Desk) -> None:
    path = desk.folder / "environments" / "train.yml"
    path.write_text("# ours\n" + path.read_text())
    answer = edit(desk, "sed -i s/alpha=1.0/alpha=1.1/ $1", "train")
    assert answer.code == 0, answer.err
    assert path.read_text().startswith("# ours\n")
    assert "alpha=1.1" in path.read_text()
    assert files(desk) == ["train.yml"]
    [environment] = desk.apply()["environments"]
    assert (environment["name"], environment["version"]) == ("train", "2")


def test_a_file_that_is_gone_is_written_from_the_version(desk: Desk) -> None:
    path = desk.folder / "environments" / "train.yml"
    path.unlink()
    answer = edit(desk, "sed -i 's/alpha=1.0/alpha=1.1/' $1", "train", "--json")
    assert answer.json["changed"] is True
    document = yaml.safe_load(path.read_text())
    assert document["conda_file"]["dependencies"] == ["alpha=1.1", "settings"]
    assert "properties" not in document
    desk.apply()
    assert desk.ok("show", "train", "--json").json["version"] == "2"


def test_another_one_begins_as_a_copy_with_its_parent(desk: Desk) -> None:
    answer = edit(desk, "sed -i 's/^name: mine$/&\\ndescription: ours/' $1", "train:1", "mine")
    assert answer.code == 0, answer.err
    assert (desk.folder / "locks" / "mine.conda-lock.yml").is_file()
    plan = desk.plan()
    assert plan["summary"]["build"] == 0
    desk.apply()
    shown = desk.ok("show", "mine", "--json").json
    assert (shown["parent"], shown["description"]) == ("azureml:train:1", "ours")
    assert shown["image"] == desk.ok("show", "train", "--json").json["image"]


def test_nothing_changed_is_nothing_written(desk: Desk) -> None:
    before = (desk.folder / "environments" / "train.yml").read_bytes()
    for words in (("train",), ("train", "other")):
        answer = edit(desk, "true", *words)
        assert (answer.code, answer.out) == (0, "Nothing was changed.\n")
    assert files(desk) == ["train.yml"]
    assert (desk.folder / "environments" / "train.yml").read_bytes() == before


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo 'colour: red' >> $1", "unknown-key"), ("echo 'a: [' >> $1", "yaml"),
        ("sed -i s/train/neu/ $1", "other-name"), ("echo '# x' >> $1; exit 3", "editor-failed"),
    ],
)  # fmt: skip
def test_a_bad_text_is_kept_and_the_next_edit_goes_on_with_it(
    desk: Desk, script: str, code: str
) -> None:
    path = desk.folder / "environments" / "train.yml"
    before = path.read_bytes()
    answer = edit(desk, script, "train", "--json")
    assert answer.code == 1
    assert answer.errors()[-1] == "draft-kept"
    assert any(code in found for found in answer.errors())
    assert path.read_bytes() == before
    draft = desk.folder / "environments" / ".train.yml.draft"
    assert str(draft) in answer.err
    assert desk.plan()["environments"][0]["action"] == "no-op"  # a draft is no environment file
    kept = draft.read_text()
    again = edit(desk, f"cp {path} $1; echo '# better' >> $1", "train")
    assert again.code == 0, again.err
    assert "going on with the draft" in again.err
    assert path.read_text().endswith("# better\n")
    assert kept
    assert not draft.exists()


def test_where_somebody_can_be_asked_it_is_opened_again(desk: Desk) -> None:
    script = editor(desk, 'grep -q colour $1 && exec sed -i /colour/d $1; echo "colour: red" >> $1')
    primary, secondary = pty.openpty()
    os.write(primary, b"yes\n")
    done = subprocess.run(
        desk.command("edit", "train"), cwd=desk.folder, env=desk.environ({"VISUAL": script}),
        stdin=secondary, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    os.write(primary, b"no\n")
    script = editor(desk, 'echo "colour: red" >> $1')
    refused = subprocess.run(
        desk.command("edit", "train"), cwd=desk.folder, env=desk.environ({"VISUAL": script}),
        stdin=secondary, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    os.close(primary)
    os.close(secondary)
    assert done.returncode == 0, done.stderr
    assert "unknown key 'colour'" in done.stderr
    assert "Edit it again?" in done.stderr
    assert "colour" not in (desk.folder / "environments" / "train.yml").read_text()
    assert (refused.returncode, "draft-kept" in refused.stderr) == (1, True)


def test_a_file_that_somebody_else_changed_is_not_written_over(desk: Desk) -> None:
    path = desk.folder / "environments" / "train.yml"
    answer = edit(desk, f"echo '# mine' >> $1; echo '# theirs' >> {path}", "train", "--json")
    assert answer.errors() == ["changed-meanwhile"]
    assert path.read_text().endswith("# theirs\n")
    draft = desk.folder / "environments" / ".train.yml.draft"
    assert draft.read_text().endswith("# mine\n")
    assert str(draft) in answer.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("train", "train"), "name-taken"), (("train", "AzureML-x"), "reserved-prefix"),
        (("train", "a/b"), "bad-name"), (("train:9",), "unknown-version"),
        (("no",), "unknown-name"),
        (("train:1",), "not-newest"),
    ],
)  # fmt: skip
def test_what_cannot_be_edited_is_refused_before_the_editor(
    desk: Desk, words: tuple[str, ...], code: str
) -> None:
    desk.environment("train", "alpha=1.1")
    desk.apply()
    answer = edit(desk, f"touch {desk.root}/opened", *words, "--json")
    assert (answer.code, answer.errors()) == (1, [code])
    assert not (desk.root / "opened").exists()
    assert files(desk) == ["train.yml"]


def test_a_curated_one_needs_a_name_of_its_own(desk: Desk, demo_channel: Channel) -> None:
    shelf = {"shared": {"type": "dirs", "path": "../shelf"}}
    desk.settings(registries=shelf)
    desk.ok("share", "train", "--to", "shared", "--claim")
    other = Desk(desk.root / "other", demo_channel.url)
    shelf["shared"]["path"] = str(desk.root / "shelf")
    other.settings(id="0e0e0e0e", registries=shelf)
    address = "azureml://registries/shared/environments/train/versions/1"
    answer = edit(other, "true", address, "--json")
    assert answer.errors() == ["curated"]
    assert "envgraph edit" in answer.err
    answer = edit(other, "sed -i s/alpha=1.0/alpha=1.1/ $1", address, "mine")
    assert answer.code == 0, answer.err
    other.apply()
    shown = other.ok("show", "mine", "--json").json
    assert (shown["kind"], shown["parent"]) == ("system-managed", address)


def test_an_editor_that_is_not_there_is_said(desk: Desk) -> None:
    for variables in ({"EDITOR": "nonesuch --wait"}, {"VISUAL": "'open"}, {"PATH": "/nowhere"}):
        answer = desk.run("edit", "train", "--json", environ=variables)
        assert (answer.code, answer.errors()) == (1, ["no-editor"])
    assert files(desk) == ["train.yml"]
