"""Which builder a workspace gets, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from envgraph.api.builder import CAN_RUN, BuilderError, BuilderPlugin, Capabilities
from envgraph.apply.builders import Builders, builder_remark, missing_builder
from envgraph.errors import EnvgraphError, InputError, PlatformError
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.model.oci import Platform
from envgraph.plugins import Plugins


@dataclass(frozen=True, slots=True)
class Options:
    address: str = "here"


class Answers:
    """A builder that is asked and never builds."""

    title = "a builder"
    features = frozenset({CAN_RUN})

    def __init__(self, error: BuilderError | None) -> None:
        self.error = error

    def capabilities(self) -> Capabilities:
        if self.error is not None:
            raise self.error
        return Capabilities((Platform("linux", "amd64"),), self.features, "1.0")

    def build(self, *args: Any) -> Any:
        raise AssertionError("nothing is built here")


def plugin(name: str, *, down: bool = False, connects: bool = False) -> BuilderPlugin:
    error = BuilderError(f"{name} is down", code="builder-down", hint=f"start {name}")

    @contextmanager
    def opened(options: Options, context: object) -> Iterator[Answers]:
        yield Answers(error if down else None)

    return BuilderPlugin(name, "for tests", Options, opened, connects=lambda options: connects)


def builders(*plugins: BuilderPlugin, offline: bool = False, **builder: object) -> Builders:
    provider = Provider(str(builder.pop("type", "auto")), builder)
    config = WorkspaceConfig("w", "id", "/nowhere", builder=provider)
    return Builders(config, lambda: Plugins((), builders=plugins), offline=offline)


def test_auto_takes_what_answers_first_and_says_why() -> None:
    one, two = plugin("buildkit", down=True), plugin("buildah")
    found = builders(two, one, plugin("another")).chosen()
    assert (found.name, found.why) == ("buildah", "buildkit did not answer")
    assert builders(two, plugin("buildkit")).chosen().name == "buildkit"
    assert builders(plugin("zebra"), plugin("ant")).chosen().name == "ant"


def test_a_named_builder_is_the_only_one_that_is_asked() -> None:
    with pytest.raises(PlatformError) as caught:
        builders(plugin("buildkit"), plugin("buildah", down=True), type="buildah").chosen()
    [problem] = caught.value.diagnostics
    assert problem.code == "no-builder"
    assert "buildah is down" in problem.detail
    assert problem.hint == "start buildah"


def test_where_none_answers_all_that_was_tried_is_said() -> None:
    found = builders(plugin("buildkit", down=True), plugin("buildah", down=True))
    with pytest.raises(PlatformError) as caught:
        found.chosen()
    assert caught.value.diagnostics[0].detail == ("buildkit is down\nbuildah is down")
    remark = builder_remark(found, ["b", "a", "b"], 2)
    assert (remark.severity, remark.code) == ("warning", "no-builder")
    assert "2 steps need a builder (a, b)" in remark.summary
    error = missing_builder(found, ["b", "a", "b"])
    assert error is not None
    assert error.diagnostics[0].severity == "error"
    assert error.diagnostics[0].summary.startswith("a, b: ")
    assert missing_builder(builders(plugin("buildah")), ["a"]) is None


def test_without_any_plugin() -> None:
    with pytest.raises(PlatformError, match="no builder is there"):
        builders().chosen()
    with pytest.raises(EnvgraphError, match="no plugin offers the builder type"):
        builders(type="kaniko").chosen()


def test_offline_only_what_opens_no_connection() -> None:
    remote, local = plugin("buildkit", connects=True), plugin("buildah")
    assert builders(remote, local, offline=True).chosen().name == "buildah"
    assert builders(remote, local).chosen().name == "buildkit"
    with pytest.raises(PlatformError, match="buildkit cannot be used"):
        builders(remote, type="buildkit", offline=True).chosen()


def test_options_are_checked_and_the_timeout_is_ours() -> None:
    found = builders(plugin("buildah"), type="buildah", timeout=5, address="there")
    assert found.chosen().name == "buildah"
    assert found.timeout == 5.0
    assert builders(plugin("buildah")).timeout is None
    with pytest.raises(InputError, match=r"timeout must be a whole number"):
        _ = builders(timeout="soon").timeout
    with pytest.raises(InputError, match="no option 'adress'"):
        builders(plugin("buildah"), type="buildah", adress="x").chosen()


def test_the_answer_holds_until_it_is_closed() -> None:
    asked: list[str] = []

    @contextmanager
    def opened(options: Options, context: object) -> Iterator[Answers]:
        asked.append("open")
        yield Answers(None)
        asked.append("close")

    found = builders(BuilderPlugin("buildah", "for tests", Options, opened))
    assert found.chosen() is found.chosen()
    found.close()
    assert asked == ["open", "close"]
    found.chosen()
    assert asked == ["open", "close", "open"]


def test_a_builder_that_cannot_run_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert builder_remark(builders(plugin("buildah")), ["a"], 1).severity == "info"
    monkeypatch.setattr(Answers, "features", frozenset())
    assert builder_remark(builders(plugin("buildah")), ["a"], 1).severity == "warning"


def test_another_platform_is_a_warning_before_anything_is_built() -> None:
    found = builders(plugin("buildah"))
    assert builder_remark(found, ["a"], 1, ["linux-64"]).severity == "info"
    remark = builder_remark(found, ["a"], 1, ["linux-64", "linux-aarch64"])
    assert remark.severity == "warning"
    assert remark.detail == "it does not build for linux/arm64, but for linux/amd64"
    assert "linux/arm64" in remark.hint


def servers_of(*addresses: str, down: tuple[str, ...] = ()) -> tuple[BuilderPlugin, list[str]]:
    """A plugin with one server for each address, and the addresses that were opened."""
    opened: list[str] = []

    @contextmanager
    def open_one(options: Options, context: object) -> Iterator[Answers]:
        opened.append(options.address)
        error = BuilderError("nobody answers", code="builder-down", hint="start it", retryable=True)
        found = Answers(error if options.address in down else None)
        found.title = f"many at {options.address}"
        yield found

    plugin = BuilderPlugin(
        "many", "for tests", Options, open_one,
        connects=lambda options: options.address.startswith("tcp:"),
        servers=lambda options, connect: tuple(Options(each) for each in addresses),
    )  # fmt: skip
    return plugin, opened


def test_every_server_is_asked_and_one_that_answers_is_enough() -> None:
    plugin, opened = servers_of("tcp://a", "tcp://b", down=("tcp://a",))
    found = builders(plugin, type="many")
    assert found.chosen().title == "many, 1 of 2 servers answer (1.0)"
    assert opened == ["tcp://a", "tcp://b"]
    remark = builder_remark(found, ["train"], 1)
    assert remark.severity == "warning"
    assert remark.detail.splitlines() == [
        "many at tcp://a: nobody answers",
        "many at tcp://b: 1.0, linux/amd64",
    ]
    good, _ = servers_of("tcp://a", "tcp://b")
    assert builder_remark(builders(good, type="many"), ["train"], 1).severity == "info"


def test_when_no_server_answers_each_is_named() -> None:
    plugin, _ = servers_of("tcp://a", "tcp://b", down=("tcp://a", "tcp://b"))
    with pytest.raises(PlatformError) as caught:
        builders(plugin, type="many").chosen()
    [problem] = caught.value.diagnostics
    assert problem.detail.splitlines() == [
        "many: none of the 2 servers of many can be used",
        "  many at tcp://a: nobody answers",
        "  many at tcp://b: nobody answers",
    ]
    assert problem.hint == "start it"


def test_offline_the_servers_on_this_machine_are_used() -> None:
    plugin, opened = servers_of("tcp://a", "unix:///b")
    found = builders(plugin, type="many", offline=True)
    assert [server.error is None for server in found.chosen().servers] == [False, True]
    assert opened == ["unix:///b"]
    assert "--offline opens no connection" in builder_remark(found, ["train"], 1).detail


def test_the_servers_of_a_named_builder_without_a_plan() -> None:
    plugin, _ = servers_of("tcp://a", "tcp://b", down=("tcp://a", "tcp://b"))
    found = builders(plugin, type="many")
    assert [server.describe() for server in found.servers()] == [
        "many at tcp://a: nobody answers",
        "many at tcp://b: nobody answers",
    ]
    nobody, _ = servers_of()
    with pytest.raises(EnvgraphError, match="names no server"):
        builders(nobody, type="many").servers()
