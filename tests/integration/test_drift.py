"""``drift`` and ``impact`` on real channels and images on disk, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envgraph.testing.channel.indexing import Record
from envgraph.testing.http import ChannelServer, Fault
from tests.desk import Desk
from tests.integration.locking import make_wheel, simple_index
from tests.moving import fill, put_base


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = tmp_path / "channel"
    fill(folder, "app=1.0", "lib=1.0", "other=1.0")
    return folder


@pytest.fixture
def desk(tmp_path: Path, channel: Path) -> Desk:
    made = Desk(tmp_path / "desk", channel.as_uri())
    made.environment("train", "app")
    made.apply()
    return made


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def drift(desk: Desk, *words: str, code: int = 3) -> list[tuple[str, str, str, str]]:
    answer = desk.run("drift", "--json", *words)
    assert answer.code == code, answer.out + answer.err
    return [(f["code"], f["subject"], f["old"], f["new"]) for f in answer.json["findings"]]


def test_nothing_moved(desk: Desk) -> None:
    answer = desk.ok("drift")
    assert answer.out == "1 environment and 2 packages checked: nothing moved.\n"
    document = desk.ok("drift", "--json").json
    assert document["findings"] == document["skipped"] == []
    assert document["checked"] == {"environments": 1, "bases": 0, "contexts": 0, "packages": 2}


def test_newer_releases_are_counted_and_nested_ones_summed(desk: Desk, channel: Path) -> None:
    fill(channel, "app=1.1", "app=1.10", "app=1.9", "lib=1.0=3", "lib=0.9", "other=2.0")
    assert drift(desk) == [
        ("behind", "app", "1.0", "1.10"),
        ("behind-nested", "nested packages", "", ""),
    ]
    findings = desk.run("drift", "--json").json["findings"]
    assert [f["behind"] for f in findings] == [3, 1]
    assert {tuple(f["platforms"]) for f in findings} == {("linux-64",)}


def test_releases_that_the_requirements_exclude_are_held(desk: Desk, channel: Path) -> None:
    """The file's own, and those of locked packages: no update would bring them."""
    desk.environment("pinned", "app=1", "strict")
    fill(channel, "strict=1.0", depends={"strict": ["lib <1.2"]})
    desk.apply("environments/pinned.yml")
    fill(channel, "app=2.0", "lib=1.1", "lib=1.2", "lib=3.0", depends={"strict": ["lib <1.2"]})
    found = desk.run("drift", "pinned", "--json").json["findings"]
    assert [(f["code"], f["subject"], f["behind"]) for f in found] == [
        ("behind-nested", "nested packages", 1)
    ]
    fill(channel, "app=1.5", depends={"strict": ["lib <1.2"]})
    [app, _] = desk.run("drift", "pinned", "--json").json["findings"]
    assert (app["new"], app["behind"], app["held"]) == ("1.5", 1, 1)


def test_builds_for_another_python_are_held(desk: Desk, channel: Path) -> None:
    depends = {"tool": ["python >=3.12,<3.13.0a0"]}
    fill(channel, "python=3.12.1", "python=3.13.0", "tool=1.0", depends=depends)
    desk.environment("py", "tool", "python=3.12")
    desk.apply("environments/py.yml")
    depends = {"tool": ["python >=3.13,<3.14.0a0"]}
    fill(channel, "tool=2.0", depends=depends)
    assert drift(desk, "py", code=0) == []


def test_a_withdrawn_package_is_found(desk: Desk, channel: Path) -> None:
    def yank(name: str, record: Record) -> Record | None:
        return None if name.startswith("lib-1.0") else record

    fill(channel, "lib=1.1", patch=yank)
    assert ("package-gone", "lib", "1.0", "1.1") in drift(desk)


def test_other_bytes_under_a_locked_name_are_found(desk: Desk, channel: Path) -> None:
    def change(name: str, record: Record) -> Record:
        return record | {"sha256": "ab" * 32} if name.startswith("lib-1.0") else record

    fill(channel, patch=change)
    [(code, subject, old, new)] = drift(desk)
    assert (code, subject, new) == ("package-changed", "lib", "sha256:" + "ab" * 32)
    assert old.startswith("sha256:")
    assert old != new


def test_patched_requirements_are_found(desk: Desk, channel: Path) -> None:
    def patch(name: str, record: Record) -> Record:
        return record | {"depends": ["lib <2"]} if name.startswith("app-1.0") else record

    fill(channel, patch=patch)
    assert drift(desk) == [("package-patched", "app", "lib", "lib <2")]


def test_nothing_that_is_kept_changes(desk: Desk, channel: Path) -> None:
    fill(channel, "app=2.0")
    before = tree(desk.store), tree(desk.folder)
    assert desk.run("drift").code == 3
    assert (tree(desk.store), tree(desk.folder)) == before


def test_mirrors_over_http_are_asked_and_offline_is_kept(desk: Desk, channel: Path) -> None:
    fill(channel, "app=2.0")
    with ChannelServer(channel) as server:
        desk.settings(channels={"demo": server.url})
        assert drift(desk, "--offline", code=1) == []
        assert server.requests == ()
        answer = desk.run("drift", "--offline", "--json")
        [skipped] = answer.json["skipped"]
        assert skipped["environments"] == ["train"]
        assert skipped["code"] == "offline"
        assert answer.errors() == ["offline"]
        assert drift(desk) == [("behind", "app", "1.0", "2.0")]
        assert server.requests


def test_a_channel_that_is_down_stops_no_other(desk: Desk, tmp_path: Path, channel: Path) -> None:
    other = tmp_path / "second"
    fill(other, "tool=1.0")
    (desk.folder / "environments/tool.yml").write_text(
        "name: tool\nchannels: [second]\ndependencies: [tool]\n"
    )
    with ChannelServer(other) as server:
        desk.settings(channels={"demo": channel.as_uri(), "second": server.url})
        desk.apply()
        fill(channel, "app=2.0")
        for path in ("repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst"):
            for subdir in ("noarch", "linux-64"):
                server.fault(f"/{subdir}/{path}", Fault(status=503, times=99))
        assert drift(desk, code=1) == [("behind", "app", "1.0", "2.0")]
        answer = desk.run("drift")
        assert answer.code == 1
        assert "second" in answer.err
        assert "concerns tool" in answer.err


def test_the_policy_accepts_until_a_day(desk: Desk, channel: Path) -> None:
    fill(channel, "app=1.1", "app=1.2")
    policy = desk.folder / "drift-policy.yaml"
    policy.write_text("max_behind: 2\n")
    assert drift(desk, code=0) == []
    policy.write_text("max_behind: 1\n")
    assert desk.run("drift", "--json").json["findings"][0]["severity"] == "error"
    entry = "allow:\n- {code: behind, environment: 'tr*', package: app, reason: later"
    policy.write_text(entry + ", until: 2999-01-01}\n")
    [finding] = desk.ok("drift", "--json").json["findings"]
    assert finding["allowed"] == "later"
    assert "allowed: later" in desk.ok("drift").out
    policy.write_text(entry + ", until: 2000-01-01}\n")
    assert [code for code, *_ in drift(desk)] == ["allow-expired", "behind"]


def test_every_problem_of_a_policy_has_its_place(desk: Desk) -> None:
    (desk.folder / "p.yaml").write_text("max_age: 30\nmax_behind: few\n")
    answer = desk.run("drift", "--policy", "p.yaml", "--json")
    problems = next(json.loads(line) for line in answer.err.splitlines())["diagnostics"]
    assert [(d["code"], d["source"]["line"], d["source"]["column"]) for d in problems] == [
        ("unknown-key", 1, 1),
        ("number", 2, 13),
    ]
    assert problems[0]["hint"] == "did you mean 'max_age_days'?"


def test_credentials_are_used_and_never_shown(desk: Desk, channel: Path) -> None:
    fill(channel, "app=2.0")
    with ChannelServer(channel, username="me", password="canary-1234") as server:
        desk.settings(channels={"demo": server.url_with_password})
        assert drift(desk) == [("behind", "app", "1.0", "2.0")]
        desk.settings(channels={"demo": server.url_with_password.replace("1234", "4321")})
        answers = [desk.run("drift", *words) for words in ((), ("--json",), ("-v", "--offline"))]
    assert {answer.code for answer in answers} == {1}
    assert "canary" not in "".join(answer.out + answer.err for answer in answers)


# -- wheels ------------------------------------------------------------------


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    make_wheel(folder, "tool", "1.0", ["helper"])
    make_wheel(folder, "helper", "1.0")
    return folder


def test_wheels_are_asked_of_their_index(desk: Desk, tmp_path: Path, wheels: Path) -> None:
    index = tmp_path / "index"
    simple_index(index, *wheels.iterdir())
    fill(tmp_path / "channel", "python=3.12.1")
    with ChannelServer(index) as server:
        desk.settings(pip_indexes=[server.url])
        desk.environment("piped", "python", more="  - pip: [tool<3]\n")
        desk.apply("environments/piped.yml")
        assert drift(desk, "piped", code=0) == []
        newer = tmp_path / "newer"
        for version in ("1.5", "2.0", "3.0", "4.0rc1"):
            make_wheel(newer, "tool", version, ["helper"])
        make_wheel(newer, "helper", "2.0")
        simple_index(index, *newer.iterdir())
        page = index / "helper/index.html"
        page.write_text(page.read_text().replace("<a href", '<a data-yanked="broken" href', 1))
        other = index / "tool/index.html"
        other.write_text(
            other.read_text().replace(
                '<a href="tool-1.5', '<a data-requires-python="&lt;3" href="tool-1.5'
            )
        )
        findings = desk.run("drift", "piped", "--json").json["findings"]
        assert [(f["code"], f["subject"], f["new"]) for f in findings] == [
            ("package-gone", "helper (pip)", ""),
            ("behind", "tool (pip)", "2.0"),
        ]
        assert (findings[1]["behind"], findings[1]["held"]) == (1, 2)
        asked = [r.path for r in server.requests if "tool" in r.path]
        assert drift(desk, "piped", "--offline", code=1) == []
        assert [r.path for r in server.requests if "tool" in r.path] == asked
        (index / "tool/tool-1.0-py3-none-any.whl").write_bytes(b"other")
        simple_index(index)
        assert ("package-changed", "tool (pip)") in {c[:2] for c in drift(desk, "piped")}


# -- bases -------------------------------------------------------------------


def use_base(desk: Desk, name: str, image: str) -> None:
    (desk.folder / "conda.yml").write_text("channels: [demo]\ndependencies: [app]\n")
    path = desk.folder / f"environments/{name}.yml"
    path.write_text(json.dumps({"name": name, "image": image, "conda_file": "../conda.yml"}))


def test_a_moved_base_and_an_old_one(desk: Desk, tmp_path: Path) -> None:
    old = put_base(tmp_path / "base")
    use_base(desk, "based", "oci:../../../base:small")
    desk.apply()
    assert drift(desk, "based", code=0) == []
    new = put_base(tmp_path / "base", "patch")
    reference = "oci:../../../base:small"
    assert drift(desk, "based") == [("base-moved", reference, old, new)]
    (desk.folder / "drift-policy.yaml").write_text("require_digest: true\n")
    assert [code for code, *_ in drift(desk, "based")] == [
        "base-moved",
        "base-old",
        "base-no-digest",
    ]
    [moved, *_] = desk.run("drift", "based", "--json").json["findings"]
    assert moved["age_days"] > 2000


def test_impact_by_digest_reference_and_layers(desk: Desk, tmp_path: Path) -> None:
    old = put_base(tmp_path / "base")
    put_base(tmp_path / "richer", "more")
    use_base(desk, "before", "oci:../../../base:small")
    use_base(desk, "richer", "oci:../../../richer:small")
    desk.apply()
    new = put_base(tmp_path / "base", "patch")
    use_base(desk, "after", "oci:../../../base:small")
    (desk.folder / "environments/after.yml").write_text(
        json.dumps({"name": "after", "image": "oci:../../../base:small"})
    )
    desk.apply()

    def ties(base: str, *words: str) -> dict[str, str]:
        found = desk.ok("impact", base, "--json", *words).json
        assert found["jobs"] == found["deployments"] == []
        return {item["name"]: item["by"] for item in found["environments"]}

    assert ties(new) == {"after": "digest", "before": "layers", "richer": "layers"}
    assert ties(old) == {"before": "digest", "after": "layers", "richer": "layers"}
    assert ties("oci:../../base:small") == {
        "after": "digest",
        "before": "reference",
        "richer": "layers",
    }
    assert ties("python:3.12") == {}
    assert ties("scratch") == {"train": "digest"}
    text = desk.ok("impact", old).out
    assert "1 environment stands on sha256:" in text
    assert "; 2 on other images" in text
    assert max(map(len, text.splitlines())) <= 80
