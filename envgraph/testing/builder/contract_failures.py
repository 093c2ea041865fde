"""Steps that fail, hang or are given up: told exactly, and over soon."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest

from envgraph.api import (
    CAN_DOCKERFILE,
    CAN_RUN,
    Base,
    Builder,
    BuilderError,
    Dockerfile,
    Event,
    Platform,
)
from envgraph.testing.builder.contract_base import Abilities, whole
from envgraph.testing.builder.material import Events, steps


class FailureContract(Abilities):
    """What goes wrong."""

    def test_a_failed_step_is_told_whole(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        recipe = steps(
            base, "RUN echo fine > /fine", "RUN echo before-$((1 + 1)); exit 3", "RUN true"
        )
        if CAN_RUN not in builder.capabilities().features:
            return
        with pytest.raises(BuilderError) as caught:
            whole(builder, self.request_of(platform, recipe))
        error = caught.value
        assert (error.code, error.status, error.instruction) == ("step-failed", 3, 1)
        assert "before-2" in error.output
        assert not error.retryable
        (diagnostic,) = error.diagnostics
        assert str(diagnostic.source) == "steps.yml:12:5"
        assert "exit code 3" in diagnostic.summary
        assert "before-2" in diagnostic.detail
        # what came before can be had, and the builder goes on
        request = self.request_of(
            platform, dataclasses.replace(recipe, instructions=recipe.instructions[:1])
        )
        assert whole(builder, request).read("fine") == b"fine\n"

    def test_the_failed_step_is_an_event(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        if CAN_RUN not in builder.capabilities().features:
            return
        events = Events()
        # some builders lose the last words of a step that ends at the same moment
        request = self.request_of(platform, steps(base, "RUN echo words; sleep 0.1; exit 9"))
        with (
            pytest.raises(BuilderError),
            builder.build(request, events, threading.Event()),
        ):
            pass
        assert [event.kind for event in events if event.kind == "failed"] == ["failed"]
        assert "words" in events.output

    def test_a_failing_line_of_a_dockerfile(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        name = f"{base.pull or 'example.org/base'}@{base.manifest.digest}"
        data = f"FROM {name}\n\nRUN true\nRUN echo here \\\n  && exit 4\n".encode()
        request = dataclasses.replace(
            self.request_of(platform), recipe=Dockerfile(data, "sub/Dockerfile", {name: base})
        )
        if CAN_DOCKERFILE not in builder.capabilities().features:
            return
        with pytest.raises(BuilderError) as caught:
            whole(builder, request)
        assert (caught.value.code, caught.value.status) == ("step-failed", 4)
        source = caught.value.diagnostics[0].source
        assert source is not None
        assert source.file == "sub/Dockerfile"
        assert source.line in (None, 4)

    def test_a_dockerfile_that_does_not_parse(self, builder: Builder, platform: Platform) -> None:
        if CAN_DOCKERFILE not in builder.capabilities().features:
            return
        request = dataclasses.replace(
            self.request_of(platform), recipe=Dockerfile(b"FROM scratch\nRNU x\n", "D", {})
        )
        with pytest.raises(BuilderError) as caught:
            whole(builder, request)
        assert caught.value.code in ("builder-refused", "step-failed")
        assert "RNU" in repr(caught.value.diagnostics)

    def test_a_build_that_was_given_up_before(self, builder: Builder, platform: Platform) -> None:
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(BuilderError) as caught:
            whole(builder, self.request_of(platform, steps(None, "ENV A=1")), cancel)
        assert caught.value.code == "cancelled"

    def test_a_running_step_is_given_up(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        if CAN_RUN not in builder.capabilities().features:
            return
        cancel = threading.Event()

        def on_event(event: Event) -> None:
            if "started" in event.text:
                cancel.set()

        request = self.request_of(platform, steps(base, "RUN echo started; sleep 1000"))
        began = time.monotonic()
        with (
            pytest.raises(BuilderError) as caught,
            builder.build(request, on_event, cancel),
        ):
            pass
        assert caught.value.code == "cancelled"
        assert time.monotonic() - began < self.runs_seconds

    def test_a_step_that_hangs(self, builder: Builder, base: Base, platform: Platform) -> None:
        if CAN_RUN not in builder.capabilities().features:
            return
        request = self.request_of(platform, steps(base, "RUN sleep 1001"), timeout=1.0)
        began = time.monotonic()
        with pytest.raises(BuilderError) as caught:
            whole(builder, request)
        assert caught.value.code == "builder-timeout"
        assert time.monotonic() - began < self.runs_seconds

    def test_an_error_of_the_listener_comes_out(self, builder: Builder, platform: Platform) -> None:
        def on_event(event: Event) -> None:
            raise LookupError("the view is broken")

        request = self.request_of(platform, steps(None, "COPY a /"), {"a": b"1"})
        with (
            pytest.raises(LookupError, match="the view is broken"),
            builder.build(request, on_event, threading.Event()),
        ):
            pass

    def test_builds_at_once_keep_apart(self, builder: Builder, platform: Platform) -> None:
        found: dict[int, bytes] = {}

        def build(number: int) -> None:
            request = self.request_of(
                platform, steps(None, "COPY . /n/"), {"n": b"%d" % number, f"f{number}": b""}
            )
            built = whole(builder, request)
            assert set(built.tree()) - {"", "n"} == {"n/n", f"n/f{number}"}
            found[number] = built.read("n/n")

        threads = [threading.Thread(target=build, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {number: b"%d" % number for number in range(5)}
