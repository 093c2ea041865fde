"""COPY, settings, bases: what every builder can do, RUN or not."""

from __future__ import annotations

import dataclasses
import json

import pytest

from envgraph.api import CAPABILITIES, Base, Builder, BuilderError, Digest, Platform
from envgraph.errors import NotFoundError
from envgraph.testing.builder.contract_base import Abilities, whole
from envgraph.testing.builder.material import EPOCH, Events, MemoryContext, steps

FILES = {
    "app/main.py": b"print('hello')\n",
    "app/run.sh": b"#!/bin/sh\n",
    "app/deep/er/data.bin": bytes(range(256)) * 300,
    "app/empty": b"",
    "app/link": "-> main.py",
    "app/hollow": None,
    "app/with space": b"1",
    "app/\u00fcml\u00e4ut-\U0001f40d": b"2",
    ".dockerignore": b"app\n",
    "other.txt": b"other",
}


class FileContract(Abilities):
    """Files and settings."""

    def test_it_says_what_it_can_do(self, builder: Builder) -> None:
        found = builder.capabilities()
        assert found.platforms
        assert found.features <= CAPABILITIES
        assert builder.title
        assert "://" not in builder.title or "@" not in builder.title

    def test_copied_files_are_one_layer(self, builder: Builder, platform: Platform) -> None:
        built = whole(builder, self.request_of(platform, steps(None, "COPY app /srv/app/"), FILES))
        assert built.result.base is None
        assert len(built.blobs) == 1
        tree = built.tree()
        expected = {f"srv/{path}" for path in FILES if path.startswith("app/")}
        assert expected <= set(tree)
        assert set(tree) - expected <= {"", "srv", "srv/app", "srv/app/deep", "srv/app/deep/er"}
        for path, value in FILES.items():
            if isinstance(value, bytes) and path.startswith("app/"):
                assert built.read(f"srv/{path}") == value
        assert tree["srv/app/link"].issym()
        assert tree["srv/app/link"].linkname == "main.py"
        assert tree["srv/app/hollow"].isdir()

    def test_modes_owners_and_times(self, builder: Builder, platform: Platform) -> None:
        built = whole(builder, self.request_of(platform, steps(None, "COPY app /app"), FILES))
        tree = built.tree()
        assert {(each.uid, each.gid, each.uname, each.gname) for each in tree.values()} == {
            (0, 0, "", "")
        }
        assert all(each.mtime <= EPOCH for each in tree.values())
        assert tree["app/run.sh"].mode & 0o777 == 0o755
        assert tree["app/main.py"].mode & 0o777 == 0o644

    def test_ignore_rules_are_the_hosts(self, builder: Builder, platform: Platform) -> None:
        """A ``.dockerignore`` that is in the context is a file like others."""
        built = whole(builder, self.request_of(platform, steps(None, "COPY . /all/"), FILES))
        assert built.read("all/app/main.py") == b"print('hello')\n"
        assert built.read("all/.dockerignore") == b"app\n"

    def test_only_what_is_copied_is_in_the_layer(
        self, builder: Builder, platform: Platform
    ) -> None:
        built = whole(builder, self.request_of(platform, steps(None, "COPY other.txt /"), FILES))
        assert set(built.tree()) - {""} == {"other.txt"}

    def test_a_file_under_another_name(self, builder: Builder, platform: Platform) -> None:
        built = whole(builder, self.request_of(platform, steps(None, "COPY other.txt /a/b"), FILES))
        assert built.read("a/b") == b"other"

    def test_settings_are_in_the_config(self, builder: Builder, platform: Platform) -> None:
        recipe = steps(
            None, "ENV A=1 B='two words'", "LABEL by=contract", "USER 1000:1000",
            'CMD ["/bin/x", "y"]', "COPY other.txt /", "ENV A=3",
        )  # fmt: skip
        built = whole(builder, self.request_of(platform, recipe, FILES))
        assert {"A=3", "B=two words"} <= set(built.settings["Env"])
        assert built.settings["Labels"]["by"] == "contract"
        assert built.settings["User"] == "1000:1000"
        assert built.settings["Cmd"] == ["/bin/x", "y"]

    def test_each_instruction_has_its_history(self, builder: Builder, platform: Platform) -> None:
        recipe = steps(None, "ENV A=1", "COPY other.txt /", "LABEL b=2")
        built = whole(builder, self.request_of(platform, recipe, FILES))
        empty = [entry.get("empty_layer", False) for entry in built.document["history"]]
        assert empty == [True, False, True]
        words = [entry["created_by"] for entry in built.document["history"]]
        for word, part in zip(("A=1", "other.txt", "b=2"), words, strict=True):
            assert word in part
        times = {entry["created"] for entry in built.document["history"]}
        assert times == {built.document["created"]} == {"2001-09-09T01:46:40Z"}

    def test_settings_alone_make_no_layer(self, builder: Builder, platform: Platform) -> None:
        request = self.request_of(platform, steps(None, "ENV A=1"))
        if not self.empty_images:
            with pytest.raises(BuilderError) as caught:
                whole(builder, request)
            assert caught.value.code == "builder-lacks"
            return
        built = whole(builder, request)
        assert built.blobs == ()
        assert "A=1" in built.settings["Env"]

    def test_equal_requests_give_equal_images(self, builder: Builder, platform: Platform) -> None:
        request = self.request_of(platform, steps(None, "COPY app /app", "ENV A=1"), FILES)
        first, second = whole(builder, request), whole(builder, request)
        assert first.blobs == second.blobs
        assert first.result.config == second.result.config

    def test_the_epoch_is_the_time_of_everything(
        self, builder: Builder, platform: Platform
    ) -> None:
        request = self.request_of(platform, steps(None, "COPY app /app"), FILES, epoch=315532800)
        built = whole(builder, request)
        assert {each.mtime for each in built.tree().values()} == {315532800}
        assert built.document["created"] == "1980-01-01T00:00:00Z"

    def test_a_changed_file_changes_the_layer(self, builder: Builder, platform: Platform) -> None:
        """Of the same size, so that no short cut by size and time is taken."""
        recipe = steps(None, "COPY other.txt /")
        for text in (b"one", b"two", b"one"):
            built = whole(builder, self.request_of(platform, recipe, {"other.txt": text}))
            assert built.read("other.txt") == text

    def test_a_changed_mode_and_link_change_the_layer(
        self, builder: Builder, platform: Platform
    ) -> None:
        recipe = steps(None, "COPY . /x/")
        for link in ("-> a", "-> b"):
            built = whole(builder, self.request_of(platform, recipe, {"a": b"", "l": link}))
            assert built.tree()["x/l"].linkname == link[3:]
        for files in ({"f.sh": b"1"}, {"f": b"1"}):
            built = whole(builder, self.request_of(platform, recipe, dict(files)))
            assert set(built.tree()) - {"", "x"} == {f"x/{name}" for name in files}

    def test_many_files(self, builder: Builder, platform: Platform) -> None:
        files: dict[str, bytes] = {f"d{i % 7}/f{i}": b"%d" % i for i in range(3000)}
        built = whole(builder, self.request_of(platform, steps(None, "COPY . /m/"), files))
        assert sum(each.isfile() for each in built.tree().values()) == 3000
        assert built.read("m/d3/f1305") == b"1305"

    def test_a_base_lies_below(self, builder: Builder, base: Base, platform: Platform) -> None:
        built = whole(builder, self.request_of(platform, steps(base, "COPY other.txt /new"), FILES))
        assert built.result.base is base
        assert len(built.blobs) == 1
        assert set(built.tree()) - {""} == {"new"}
        assert base.open_blob is not None
        with base.open_blob(base.manifest.digest) as stream:
            manifest = json.loads(stream.read())
        with base.open_blob(Digest(manifest["config"]["digest"])) as stream:
            below = json.loads(stream.read())
        for pair in below["config"].get("Env") or []:
            assert pair in built.settings["Env"]
        assert (below["config"].get("Labels") or {}).items() <= built.settings["Labels"].items()
        history = built.document["history"]
        assert len(history) == len(below.get("history") or []) + 1

    def test_a_base_without_anything_new(
        self, builder: Builder, base: Base, platform: Platform
    ) -> None:
        built = whole(builder, self.request_of(platform, steps(base, "LABEL a=b")))
        assert built.result.base is base
        assert built.blobs == ()

    def test_a_layer_of_another_build_is_not_found(
        self, builder: Builder, platform: Platform
    ) -> None:
        request = self.request_of(platform, steps(None, "COPY other.txt /"), FILES)
        with builder.build(request, Events(), _Never()) as result:
            with pytest.raises(NotFoundError), result.open(Digest.of(b"nothing")) as stream:
                stream.read()
            for _ in range(2):  # a layer can be read again
                with result.open(result.layers[0].diff_id) as stream:
                    assert Digest.of(stream.read()) == result.layers[0].diff_id

    def test_another_platform_is_refused(self, builder: Builder, platform: Platform) -> None:
        request = self.request_of(platform, steps(None, "COPY other.txt /"), FILES)
        odd = dataclasses.replace(request, platform=Platform("plan9", "mips"))
        with pytest.raises(BuilderError) as caught:
            whole(builder, odd)
        assert caught.value.code == "builder-lacks"
        assert "plan9/mips" in str(caught.value)

    def test_a_missing_source_is_told_with_its_line(
        self, builder: Builder, platform: Platform
    ) -> None:
        recipe = steps(None, "ENV A=1", "COPY nowhere.txt /")
        with pytest.raises(BuilderError) as caught:
            whole(builder, self.request_of(platform, recipe, FILES))
        assert caught.value.code == "step-failed"
        assert caught.value.instruction == 1
        (diagnostic,) = caught.value.diagnostics
        assert str(diagnostic.source) == "steps.yml:12:5"
        assert "nowhere.txt" in diagnostic.summary + diagnostic.detail

    def test_a_file_that_vanishes_is_the_contexts_error(
        self, builder: Builder, platform: Platform
    ) -> None:
        files = {"a": b"here", "gone-a": b"not read yet"}
        context = MemoryContext(files, broken=frozenset({"gone-a"}))
        with pytest.raises(FileNotFoundError, match="gone-a vanished"):
            whole(builder, self.request_of(platform, steps(None, "COPY . /v/"), context))


class _Never:
    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        return False
