"""RUN, secrets, Dockerfiles: abilities that not every builder has.

A builder without one has to refuse it; that is tried in its place.
"""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from envgraph.api import (
    CAN_DOCKERFILE,
    CAN_PINNED_BASES,
    CAN_RUN,
    CAN_SECRETS,
    Base,
    Builder,
    BuilderError,
    BuildRequest,
    Dockerfile,
    Platform,
)
from envgraph.testing.builder.contract_base import Abilities, Built, whole
from envgraph.testing.builder.material import EPOCH, steps

SECRET = b"correct-horse-battery-staple"
TWO_STAGES = b"""\
# a comment
ARG TAG=none
FROM %s AS first
ARG TAG
COPY a.txt /a.txt
RUN tr a-z A-Z < /a.txt > /made && echo $TAG >> /made

FROM scratch AS second
COPY --from=first /made /result
ENV STAGE=second

FROM second AS third
ENV STAGE=third
"""


class RunContract(Abilities):
    """What needs a process."""

    def built(self, builder: Builder, feature: str, request: BuildRequest) -> Built | None:
        """The build; None where the builder lacks the ability, and has said so."""
        if feature in builder.capabilities().features:
            return whole(builder, request)
        with pytest.raises(BuilderError) as caught:
            whole(builder, request)
        assert caught.value.code == "builder-lacks"
        assert not caught.value.retryable
        return None

    def test_a_step_makes_a_layer(self, builder: Builder, base: Base, platform: Platform) -> None:
        recipe = steps(
            base, "ENV WORD=hello", "RUN echo $WORD > /made && mkdir /d && chmod 700 /d",
            "WORKDIR /d", "RUN pwd > here",
        )  # fmt: skip
        built = self.built(builder, CAN_RUN, self.request_of(platform, recipe))
        if built is None:
            return
        assert built.read("made") == b"hello\n"
        assert built.read("d/here") == b"/d\n"
        assert built.tree()["d"].mode & 0o777 == 0o700
        assert all(each.mtime <= EPOCH for each in built.tree().values())

    def test_what_a_step_prints_is_told(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        new = uuid.uuid4().hex  # a step that is taken out of a cache prints nothing
        says = "echo out-of-$((40 + 2)); echo err-of-$((40 + 3)) >&2"
        recipe = steps(base, f"RUN {says}; sleep 0.1; : {new}")
        built = self.built(builder, CAN_RUN, self.request_of(platform, recipe))
        if built is None:
            return
        assert "out-of-42" in built.events.output
        assert "err-of-43" in built.events.output

    def test_events_of_a_step_are_in_order(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        recipe = steps(base, "RUN echo ordered > /o")
        built = self.built(builder, CAN_RUN, self.request_of(platform, recipe))
        if built is None:
            return
        for key in {event.key for event in built.events}:
            kinds = [event.kind for event in built.events if event.key == key]
            assert kinds[0] == "start"
            assert kinds[-1] in ("done", "skipped")
            assert set(kinds[1:-1]) <= {"message", "progress"}
        assert any("echo ordered" in event.name for event in built.events)

    def test_there_is_no_network(self, builder: Builder, base: Base, platform: Platform) -> None:
        recipe = steps(base, "RUN cat /proc/net/dev > /devices")
        built = self.built(builder, CAN_RUN, self.request_of(platform, recipe))
        if built is None:
            return
        lines = built.read("devices").decode().splitlines()[2:]
        assert {line.partition(":")[0].strip() for line in lines} <= {"lo"}

    def test_arguments_reach_steps(self, builder: Builder, base: Base, platform: Platform) -> None:
        recipe = steps(base, "ARG FLAVOUR=none", "RUN echo $FLAVOUR > /flavour")
        request = self.request_of(platform, recipe, arguments={"FLAVOUR": "mint"})
        built = self.built(builder, CAN_RUN, request)
        if built is None:
            return
        assert built.read("flavour") == b"mint\n"

    def test_heredocs(self, builder: Builder, base: Base, platform: Platform) -> None:
        if not self.heredocs:
            return
        recipe = steps(base, "RUN <<EOF\necho one > /h\necho two >> /h\nEOF", "RUN echo 3 >> /h")
        built = self.built(builder, CAN_RUN, self.request_of(platform, recipe))
        if built is None:
            return
        assert built.read("h") == b"one\ntwo\n3\n"
        assert len(built.blobs) == 2

    def test_removed_files_are_whiteouts(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        recipe = steps(base, "RUN rm /etc/hosts.base || rm /etc/nsswitch.conf")
        built = self.built(builder, CAN_RUN, self.request_of(platform, recipe))
        if built is None:
            return
        assert "etc/.wh.nsswitch.conf" in built.tree()

    def test_a_secret_reaches_a_step_and_nothing_else(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        recipe = steps(
            base,
            "RUN --mount=type=secret,id=token cat /run/secrets/token;"
            " wc -c < /run/secrets/token > /count; ls /run/secrets >> /count",
        )
        request = self.request_of(platform, recipe, secrets={"token": lambda: SECRET})
        assert SECRET.decode() not in repr(request)
        built = self.built(builder, CAN_SECRETS, request)
        if built is None:
            return
        assert built.read("count").split() == [b"%d" % len(SECRET), b"token"]
        assert all(SECRET not in blob for blob in built.blobs)
        assert SECRET not in built.result.config
        assert SECRET not in built.result.provenance
        assert SECRET.decode() not in repr(built.events)
        assert not any("token" in path for path in built.tree())

    def test_a_secret_is_no_part_of_a_failure(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        recipe = steps(
            base, "RUN --mount=type=secret,id=token cat /run/secrets/token /run/secrets/no >&2"
        )
        request = self.request_of(platform, recipe, secrets={"token": lambda: SECRET})
        with pytest.raises(BuilderError) as caught:
            whole(builder, request)
        told = repr((caught.value.diagnostics, caught.value.output, caught.value.args))
        assert SECRET.decode() not in told
        if CAN_SECRETS in builder.capabilities().features:
            assert "***" in caught.value.output

    def test_a_secret_that_cannot_be_read(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        def broken() -> bytes:
            raise PermissionError("the file of the secret is not readable")

        recipe = steps(base, "RUN --mount=type=secret,id=broken,required=true true")
        if CAN_SECRETS in builder.capabilities().features:
            with pytest.raises(PermissionError, match="not readable"):
                whole(builder, self.request_of(platform, recipe, secrets={"broken": broken}))

    def dockerfile(self, base: Base, name: str, target: str = "") -> Dockerfile:
        """The one with stages."""
        return Dockerfile(TWO_STAGES % name.encode(), "docker/Dockerfile", {name: base}, target)

    def test_a_dockerfile_with_stages(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        pinned = f"{base.pull or 'example.org/base'}@{base.manifest.digest}"
        request = self.request_of(
            platform, None, {"a.txt": b"shout\n"}, arguments={"TAG": "tagged"}
        )
        request = dataclasses.replace(request, recipe=self.dockerfile(base, pinned))
        built = self.built(builder, CAN_DOCKERFILE, request)
        if built is None:
            return
        assert built.result.base is None
        assert built.read("result") == b"SHOUT\ntagged\n"
        assert "STAGE=third" in built.settings["Env"]
        request = dataclasses.replace(request, recipe=self.dockerfile(base, pinned, "second"))
        assert "STAGE=second" in whole(builder, request).settings["Env"]
        request = dataclasses.replace(request, recipe=self.dockerfile(base, pinned, "first"))
        assert whole(builder, request).result.base is base

    def test_another_argument_makes_another_image(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        """Whatever was built, and kept, with another value of it before."""
        name = f"{base.pull or 'example.org/base'}@{base.manifest.digest}"
        for default in ("plain", "other"):
            text = f"FROM {name}\nARG FLAVOUR={default}\nENV SHADE=$FLAVOUR\n"
            recipe = Dockerfile(text.encode(), "Dockerfile", {name: base})
            for given in ({"FLAVOUR": "mint"}, {"FLAVOUR": "lime"}, {}):
                request = self.request_of(platform, None, {"a": b"a"}, arguments=given)
                request = dataclasses.replace(request, recipe=recipe)
                built = self.built(builder, CAN_DOCKERFILE, request)
                if built is None:
                    return
                assert f"SHADE={given.get('FLAVOUR', default)}" in built.settings["Env"]

    def test_a_name_in_a_dockerfile_means_its_pin(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        """There is no image of that name anywhere."""
        for name in ("python:3.12-nowhere", "docker.io/library/nowhere:latest", "a.example/b/c"):
            request = self.request_of(platform, None, {"a.txt": b"shout\n"})
            request = dataclasses.replace(request, recipe=self.dockerfile(base, name, "first"))
            built = self.built(builder, CAN_PINNED_BASES, request)
            if built is None:
                return
            assert built.result.base is base
            assert built.read("made") == b"SHOUT\nnone\n"
