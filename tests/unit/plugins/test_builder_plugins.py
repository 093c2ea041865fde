"""Builders that plugins offer: checked, named, and opened by ``auto`` without options."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from envgraph.api import BuilderPlugin, PluginContext
from envgraph.errors import InputError, PlatformError
from envgraph.model.config import Provider
from envgraph.plugins import Plugins, options_of
from envgraph.plugins.descriptors import problems_of
from envgraph.testing.builder.copying import copying_plugin

GOOD = copying_plugin()


@dataclass(frozen=True)
class Required:
    address: str


def test_a_given_builder_is_found_and_opens() -> None:
    plugins = Plugins((), builders=[GOOD])
    plugin = plugins.builder("copying")
    options = options_of(plugin, Provider("copying", {}), "builder")
    with plugin.open(options, PluginContext("/", plugins.credentials, {})) as builder:
        assert builder.capabilities().platforms
    assert problems_of(GOOD, BuilderPlugin) == []


def test_our_own_are_found() -> None:
    plugins = Plugins()
    assert {"buildah", "buildkit"} <= set(plugins.builders)
    (found,) = [each for each in plugins.found if "buildkit" in each.builders]
    assert found.hooks == ("envgraph_builders",)


def test_an_unknown_builder_names_those_that_are_there() -> None:
    with pytest.raises(PlatformError) as caught:
        Plugins((), builders=[GOOD]).builder("dagger")
    assert "builder type 'dagger'" in str(caught.value)
    assert "there is copying" in caught.value.diagnostics[0].hint


def test_a_clash_names_both_and_kinds_do_not_clash_with_each_other() -> None:
    plugins = Plugins((), builders=[GOOD, GOOD])
    with pytest.raises(PlatformError, match="two plugins offer the builder type 'copying'"):
        plugins.builder("copying")
    assert plugins.clash("copying") == ""  # no registry of that name


def test_an_unknown_option() -> None:
    with pytest.raises(InputError, match="builder has no option 'adress'"):
        options_of(GOOD, Provider("copying", {"adress": "x"}), "builder")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"options": Required}, "no default"),
        ({"options": dict}, "no dataclass"),
        ({"name": "Has Space"}, "a builder type is named"),
        ({"summary": " "}, "no summary"),
        ({"open": None}, "`open` cannot be called"),
        ({"connects": None}, "`connects` cannot be called"),
        ({"api_version": 99}, "version 99"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, Any], said: str) -> None:
    (problem,) = problems_of(dataclasses.replace(GOOD, **change), BuilderPlugin)
    assert said in problem


def test_something_else_is_no_builder() -> None:
    assert problems_of("x", BuilderPlugin) == ["envgraph_builders yields str, not BuilderPlugin"]
