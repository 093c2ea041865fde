"""``plugin list|check``: what is there, what is wrong; and a plugin that prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.distributions import GOOD, distribution

KEYS = {
    "name", "distribution", "version", "module", "registries", "builders", "hooks", "problems",
    "printed",
}  # fmt: skip
NOISY = GOOD.replace(
    "    yield MemoryRegistry(options.shelf)",
    "    print('opened')\n    yield MemoryRegistry(options.shelf)\n    print('closed')",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "site"


def test_our_own_plugins_are_listed_and_good(cli: Cli) -> None:
    done = cli("plugin list --json")
    assert done.code == 0
    assert done.json["good"] is True
    assert all(set(plugin) == KEYS for plugin in done.json["plugins"])
    types = {r["type"] for plugin in done.json["plugins"] for r in plugin["registries"]}
    assert {"dirs", "oci"} <= types
    builders = {b["type"] for plugin in done.json["plugins"] for b in plugin["builders"]}
    assert {"buildah", "buildkit"} <= builders
    assert "\n  builder type buildkit: " in cli("plugin list").out
    assert cli("plugin check").code == 0


def test_a_foreign_plugin_is_listed_with_its_keys(cli: Cli, folder: Path) -> None:
    distribution(folder, "shelves", GOOD, version="2.5")
    text = cli("plugin list", PYTHONPATH=str(folder)).out
    assert "shelves (shelves 2.5)\n  registry type shelf: images on a shelf\n" in text
    document = cli("plugin list --json", PYTHONPATH=str(folder)).json
    (shelves,) = [plugin for plugin in document["plugins"] if plugin["name"] == "shelves"]
    assert shelves["registries"][0]["options"][:2] == [
        {"name": "shelf", "type": "text", "required": True},
        {"name": "rows", "type": "number", "required": False},
    ]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        (GOOD.replace("frozen=True", "frozen=False"), "the options of shelf are not frozen"),
        (GOOD.replace('"shelf", "images', '"dirs", "images'), "two plugins offer"),
    ],
)
def test_check_says_what_is_wrong_and_exits_with_1(
    cli: Cli, folder: Path, source: str, reason: str
) -> None:
    distribution(folder, "broken", source)
    done = cli("plugin check", PYTHONPATH=str(folder))
    assert done.code == 1
    assert reason in done.out
    assert cli("plugin list", PYTHONPATH=str(folder)).code == 0
    done = cli("plugin check --json", PYTHONPATH=str(folder))
    assert done.code == 1
    assert done.json["good"] is False
    (broken,) = [plugin for plugin in done.json["plugins"] if plugin["name"] == "broken"]
    assert reason in broken["problems"][0]
    checks = {c["name"]: c for c in cli("doctor --json", PYTHONPATH=str(folder)).json["checks"]}
    expected = "ok" if reason.startswith("two") else "remark"
    assert checks["plugins"]["status"] == expected


def test_a_broken_plugin_that_nobody_needs_stops_nothing(demo: Cli, folder: Path) -> None:
    distribution(folder, "broken", "import sys; sys.exit(0)")
    assert demo("plan --json", PYTHONPATH=str(folder)).code == 0


def test_what_plugins_print_is_in_nobodys_answer(demo: Cli, folder: Path) -> None:
    distribution(folder, "noisy", "print('imported')\n" + NOISY)
    config = (demo.folder / "envgraph.yaml").read_text()
    demo.write("envgraph.yaml", config + "registry: {type: shelf, shelf: top}\n")
    done = demo("apply --auto-approve --json", PYTHONPATH=str(folder))
    assert done.code == 0
    assert all(json.loads(line) for line in done.out.splitlines())
    assert "opened" in done.err
    assert "imported" not in done.out
    assert "prints while it is imported: imported" in cli_text(demo, folder)


def cli_text(demo: Cli, folder: Path) -> str:
    return demo("plugin check", PYTHONPATH=str(folder)).out
