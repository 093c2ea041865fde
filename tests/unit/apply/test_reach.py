"""A builder outside of ``builder.reach`` is never opened, whoever named it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from envgraph.api.builder import BuilderError, BuilderPlace, BuilderPlugin
from envgraph.apply.builders import Builders, builder_remark
from envgraph.errors import InputError, PlatformError
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.plugins import Plugins
from envgraph.spec.workspace_file import load_workspace
from envgraph_buildah.options import BuildahOptions
from envgraph_buildah.options import places as buildah_places
from envgraph_buildkit.options import BuildkitOptions
from envgraph_buildkit.options import places as buildkit_places
from tests.unit.apply.test_builders import Answers, Options


@dataclass(frozen=True, slots=True)
class NoOptions:
    pass


class Fakes:
    """Plugins at given places; ``opened`` counts which were opened."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def plugin(
        self, name: str, *places: BuilderPlace, options: type = Options, connects: bool = True
    ) -> BuilderPlugin:
        @contextmanager
        def opened(options: object, context: object) -> Iterator[Answers]:
            self.opened.append(name)
            yield Answers(None)

        def where(options: object) -> Sequence[BuilderPlace]:
            return places

        return BuilderPlugin(
            name, "for tests", options, opened,
            connects=lambda options: connects, places=where if places else None,
        )  # fmt: skip


def chooser(*plugins: BuilderPlugin, type: str = "auto", **options: object) -> Builders:
    config = WorkspaceConfig("w", "id", "/nowhere", builder=Provider(type, options))
    return Builders(config, lambda: Plugins((), builders=plugins), offline=False)


ELSEWHERE = BuilderPlace("tcp://elsewhere:2375", "DOCKER_HOST")
PROGRAM = BuilderPlace("/usr/bin/buildah", "PATH")


def test_auto_passes_over_what_is_outside_and_says_so() -> None:
    fakes = Fakes()
    found = chooser(
        fakes.plugin("buildkit", ELSEWHERE), fakes.plugin("buildah", PROGRAM), reach="local"
    )
    assert found.chosen().name == "buildah"
    assert fakes.opened == ["buildah"]
    assert "tcp://elsewhere:2375 is outside of `builder.reach`" in found.chosen().why


def test_where_nothing_is_left_setting_address_and_fix_are_named() -> None:
    fakes = Fakes()
    found = chooser(fakes.plugin("buildkit", ELSEWHERE), reach=["local", "tcp://*.corp.example"])
    with pytest.raises(PlatformError) as caught:
        found.chosen()
    [problem] = caught.value.diagnostics
    assert "buildkit at tcp://elsewhere:2375 is outside of `builder.reach`" in problem.detail
    assert "The address is from DOCKER_HOST." in problem.detail
    assert "allows local, tcp://*.corp.example." in problem.detail
    assert problem.hint == (
        "unset DOCKER_HOST; or set `builder: {type: buildkit, address: ...}` to one that it"
        " allows; or add tcp://elsewhere:2375 to `builder.reach`"
    )
    assert fakes.opened == []
    assert builder_remark(found, ["a"], 2).severity == "warning"


def test_a_named_builder_is_held_to_it_too() -> None:
    fakes = Fakes()
    place = BuilderPlace("tcp://1.2.3.4:5", "builder.address")
    plugin = fakes.plugin("kaniko", place, options=NoOptions)
    with pytest.raises(PlatformError) as caught:
        chooser(plugin, type="kaniko", reach="local").chosen()
    assert caught.value.diagnostics[0].hint == "add tcp://1.2.3.4:5 to `builder.reach`"
    assert chooser(plugin, type="kaniko", reach="type:kaniko").chosen().name == "kaniko"
    assert fakes.opened == ["kaniko"]


def test_every_address_has_to_be_inside() -> None:
    fakes = Fakes()
    near = BuilderPlace("tcp://near:1", "builder.address")
    plugin = fakes.plugin("buildkit", near, ELSEWHERE)
    with pytest.raises(PlatformError, match="cannot be used"):
        chooser(plugin, type="buildkit", reach="tcp://near").chosen()
    assert fakes.opened == []


def test_a_plugin_that_does_not_tell_is_local_only_if_it_does_not_connect() -> None:
    fakes = Fakes()
    silent = fakes.plugin("silent")
    with pytest.raises(PlatformError) as caught:
        chooser(silent, reach="local").chosen()
    assert "add type:silent to `builder.reach`" in caught.value.diagnostics[0].hint
    assert chooser(fakes.plugin("tame", connects=False), reach="local").chosen().name == "tame"
    assert chooser(silent, reach=["local", "type:silent"]).chosen().name == "silent"


def test_a_plugin_that_cannot_tell_is_not_opened_where_there_is_a_reach() -> None:
    fakes = Fakes()

    def nowhere(options: object) -> Sequence[BuilderPlace]:
        raise BuilderError("there is none", code="builder-down", hint="start one")

    plugin = dataclasses.replace(fakes.plugin("buildkit"), places=nowhere)
    with pytest.raises(PlatformError) as caught:
        chooser(plugin, reach="local").chosen()
    assert "there is none" in caught.value.diagnostics[0].detail
    assert caught.value.diagnostics[0].hint == "start one"
    assert fakes.opened == []
    assert chooser(plugin).chosen().name == "buildkit"


def test_wrong_words_are_an_error_and_pass_over_nothing() -> None:
    fakes = Fakes()
    with pytest.raises(InputError, match=r"builder\.reach cannot be 'locl'"):
        chooser(fakes.plugin("buildah", PROGRAM), reach="locl").chosen()
    assert fakes.opened == []


def test_the_file_is_checked_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "envgraph.yaml").write_text(
        "workspace: w\nbuilder:\n  type: auto\n  reach: [local, elsewhere]\n  timeout: soon\n"
    )
    _, problems = load_workspace(tmp_path)
    assert [(p.code, p.source and p.source.line) for p in problems] == [
        ("option", 4), ("option", 5),
    ]  # fmt: skip
    (tmp_path / "envgraph.yaml").write_text("workspace: w\nbuilder: auto\n")
    config, problems = load_workspace(tmp_path)
    assert (config.builder, problems) == (Provider("auto"), ())


def test_our_builders_tell_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BUILDKIT_HOST", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert list(buildkit_places(BuildkitOptions())) == [ELSEWHERE]
    assert list(buildkit_places(BuildkitOptions(address="unix:///a"))) == [
        BuilderPlace("unix:///a", "builder.address")
    ]
    several = BuildkitOptions(addresses=("tcp://one:1", "dns://pool.example:2"))
    found = [place.address for place in buildkit_places(several)]
    assert found == ["tcp://one:1", "dns://pool.example:2"]  # no name is looked up
    program = tmp_path / "buildah"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(buildah_places(BuildahOptions())) == [BuilderPlace(str(program), "PATH")]
    with pytest.raises(BuilderError, match="is not on this machine"):
        buildah_places(BuildahOptions(program="no-buildah"))
