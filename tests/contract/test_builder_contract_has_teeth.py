"""The contract fails builders that break it: each of these does so in one way."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from _pytest.outcomes import Failed

from envgraph.api import (
    CAN_KNOWN_LAYERS,
    CAN_PROVENANCE,
    CAN_RUN,
    Base,
    BuilderError,
    BuildRequest,
    BuildResult,
    Cancel,
    Capabilities,
    Digest,
    Event,
    Layer,
    LayerSource,
    Platform,
    Steps,
)
from envgraph.errors import NotFoundError
from envgraph.testing.base import make_base
from envgraph.testing.builder.contract import BuilderContract
from envgraph.testing.builder.copying import CopyingBuilder
from envgraph.testing.builder.material import base_of_layout


class Broken(CopyingBuilder):
    """Builds well, then spoils the request or the result."""

    def before(self, request: BuildRequest) -> BuildRequest:
        return request

    def after(self, result: BuildResult, document: dict[str, Any]) -> BuildResult:
        return dataclasses.replace(result, config=json.dumps(document).encode())

    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        with super().build(self.before(request), on_event, cancel) as result:
            yield self.after(result, json.loads(result.config))


class IgnoresTheEpoch(Broken):
    def before(self, request: BuildRequest) -> BuildRequest:
        return dataclasses.replace(request, epoch=1_700_000_000)


class IgnoresTheBase(Broken):
    def before(self, request: BuildRequest) -> BuildRequest:
        assert isinstance(request.recipe, Steps)
        recipe = dataclasses.replace(request.recipe, base=None)
        return dataclasses.replace(request, recipe=recipe)


class ForgetsHistory(Broken):
    def after(self, result: BuildResult, document: dict[str, Any]) -> BuildResult:
        return super().after(result, document | {"history": document["history"][-1:]})


class LiesAboutDiffIds(Broken):
    def after(self, result: BuildResult, document: dict[str, Any]) -> BuildResult:
        for entry in document["rootfs"]["diff_ids"]:
            document["rootfs"]["diff_ids"] = [entry] * 2
        return super().after(result, document)


class GivesOtherBytes(Broken):
    def after(self, result: BuildResult, document: dict[str, Any]) -> BuildResult:
        @contextmanager
        def open_layer(digest: Digest) -> Iterator[BinaryIO]:
            with result.open(digest) as stream:
                yield io.BytesIO(stream.read() + b"\0")

        return dataclasses.replace(result, open=open_layer)


class OpensEverything(Broken):
    def after(self, result: BuildResult, document: dict[str, Any]) -> BuildResult:
        @contextmanager
        def open_layer(digest: Digest) -> Iterator[BinaryIO]:
            try:
                with result.open(digest) as stream:
                    yield stream
            except NotFoundError:
                yield io.BytesIO()

        return dataclasses.replace(result, open=open_layer)


class BuildsForAnyPlatform(Broken):
    def before(self, request: BuildRequest) -> BuildRequest:
        return dataclasses.replace(request, platform=Platform("linux", "amd64"))


class SaysThatItRuns(Broken):
    def capabilities(self) -> Capabilities:
        found = super().capabilities()
        return dataclasses.replace(found, features=found.features | {CAN_RUN})


class ProvesAnotherBuild(Broken):
    def capabilities(self) -> Capabilities:
        found = super().capabilities()
        return dataclasses.replace(found, features=found.features | {CAN_PROVENANCE})

    def after(self, result: BuildResult, document: dict[str, Any]) -> BuildResult:
        statement = {
            "_type": "https://in-toto.io/Statement/v1", "predicateType": "p", "predicate": {"a": 1},
            "subject": [{"name": "layer", "digest": {"sha256": "0" * 64}}],
        }  # fmt: skip
        spoiled = super().after(result, document)
        return dataclasses.replace(spoiled, provenance=json.dumps(statement).encode())


class ProvesUnasked(Broken):
    def after(self, result: BuildResult, document: dict[str, Any]) -> BuildResult:
        return dataclasses.replace(super().after(result, document), provenance=b"{}")


class NeverStops(Broken):
    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        class Never:
            def is_set(self) -> bool:
                return False

            def wait(self, timeout: float | None = None) -> bool:
                return False

        with super().build(request, on_event, Never()) as result:
            yield result


class HidesWhere(Broken):
    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        try:
            with super().build(request, on_event, cancel) as result:
                yield result
        except BuilderError as error:
            raise BuilderError(str(error), code=error.code) from None


class KeepsOldFiles(Broken):
    """As BuildKit does when a file's time does not follow its content."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[tuple[str, int], Any] = {}

    def before(self, request: BuildRequest) -> BuildRequest:
        if request.context is None:
            return request
        key = repr([(e.path, e.mode, e.size) for e in request.context.entries()]), request.epoch
        context = self._first.setdefault(key, request.context)
        return dataclasses.replace(request, context=context)


class Knowing(Broken):
    """Asks the host for layers that it has, as it should."""

    def rule(self, request: BuildRequest, layer: Layer) -> str:
        return f"{layer.diff_id} {request.epoch}"

    def capabilities(self) -> Capabilities:
        found = super().capabilities()
        return dataclasses.replace(found, features=found.features | {CAN_KNOWN_LAYERS})

    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        with super().build(request, on_event, cancel) as result:
            sources = [
                (layer, LayerSource(Digest.of(b"what"), self.rule(request, layer)))
                for layer in result.layers
            ]
            asked = request.known
            layers = [(asked and asked.layer(source)) or layer for layer, source in sources]
            yield dataclasses.replace(
                result,
                layers=tuple(layers),
                sources=tuple((layer.diff_id, source) for layer, source in sources),
            )


class ForgetsTheEpochInItsRule(Knowing):
    def rule(self, request: BuildRequest, layer: Layer) -> str:
        return f"{layer.descriptor.size}"


class KnowsTooMuch(Knowing):
    def rule(self, request: BuildRequest, layer: Layer) -> str:
        return "any"


class SaysNoSources(Knowing):
    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        with super().build(request, on_event, cancel) as result:
            yield dataclasses.replace(result, sources=())


BROKEN = {
    IgnoresTheEpoch: "test_the_epoch_is_the_time_of_everything",
    IgnoresTheBase: "test_a_base_lies_below",
    ForgetsHistory: "test_each_instruction_has_its_history",
    LiesAboutDiffIds: "test_copied_files_are_one_layer",
    GivesOtherBytes: "test_copied_files_are_one_layer",
    OpensEverything: "test_a_layer_of_another_build_is_not_found",
    BuildsForAnyPlatform: "test_another_platform_is_refused",
    SaysThatItRuns: "test_a_step_makes_a_layer",
    ProvesAnotherBuild: "test_copied_files_are_one_layer",
    ProvesUnasked: "test_copied_files_are_one_layer",
    NeverStops: "test_a_build_that_was_given_up_before",
    HidesWhere: "test_a_missing_source_is_told_with_its_line",
    KeepsOldFiles: "test_a_changed_file_changes_the_layer",
    ForgetsTheEpochInItsRule: "test_nothing_is_known_of_another_epoch",
    KnowsTooMuch: "test_known_layers_are_the_same_layers",
    SaysNoSources: "test_what_a_layer_was_made_of_is_said",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    made = make_base(tmp_path_factory.mktemp("base") / "layout")
    return base_of_layout(Path(made.layout), made.name)


def keep(builder: CopyingBuilder, name: str, base: Base) -> None:
    """Run one test of the contract."""
    method = getattr(BuilderContract(), name)
    values = {"builder": builder, "base": base, "platform": Platform("linux", "amd64")}
    method(**{key: values[key] for key in inspect.signature(method).parameters})


@pytest.mark.parametrize(("broken", "name"), BROKEN.items())
def test_a_broken_builder_fails(broken: type[Broken], name: str, base: Base) -> None:
    keep(Knowing() if issubclass(broken, Knowing) else Broken(), name, base)
    with pytest.raises((AssertionError, Failed, BuilderError)):
        keep(broken(), name, base)
