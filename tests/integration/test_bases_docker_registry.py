"""Bases in a real registry, through the command line: pinned, offline, fetched, run, followed."""

from __future__ import annotations

import gzip
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from envgraph.testing.layouts import AMD64, LayoutMaker, MadeImage, tar_bytes
from tests.daemons import Daemon
from tests.desk import Desk
from tests.registries import docker_registry
from tests.services import Channel, require_tool

SETTINGS = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]}


class Registry:
    """A docker-registry that can be stopped, with bases that skopeo pushed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.host = self._stack.enter_context(docker_registry(folder / "registry")).host
        made = make_base(folder / "base")
        manifest = json.loads(self._blob(folder / "base", made.manifest))
        self._raw = gzip.decompress(self._blob(folder / "base", manifest["layers"][0]["digest"]))

    def _blob(self, layout: Path, digest: str) -> bytes:
        return (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()

    @property
    def image(self) -> str:
        """What ``image:`` says."""
        return f"{self.host}/team/base:1"

    def push(self, patch: str = "", kind: str = "oci") -> MadeImage:
        """Push this machine's libc and shell, and a file that says the patch."""
        layout = LayoutMaker(self._folder / f"layout-{patch}-{kind}")
        tars = [self._raw, tar_bytes({"etc/patch": patch.encode()})]
        made = layout.add_image(tars, config=SETTINGS)
        named = made.manifest
        if kind == "index":
            named = layout.add_index({AMD64: made})
        layout.name(named, "base")
        how = ["--format", "v2s2"] if kind == "v2s2" else ["--all", "--preserve-digests"]
        self._skopeo("copy", *how, "--dest-tls-verify=false",
                     f"oci:{layout.folder}:base", f"docker://{self.image}")  # fmt: skip
        return made

    def types(self) -> set[str]:
        """The media types of what the tag names."""
        raw = json.loads(
            self._skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{self.image}")
        )
        parts = raw.get("manifests") or [raw["config"], *raw["layers"]]
        return {raw["mediaType"], *(part["mediaType"] for part in parts)}

    def _skopeo(self, *words: str) -> str:
        done = subprocess.run(
            [require_tool("skopeo"), "--insecure-policy", *words],
            capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        """It is gone."""
        self._stack.close()

    def docker_push(self, daemon: Daemon) -> None:
        """Push it as docker does: imported from a tar, pushed by the daemon."""
        tar = self._folder / "base.tar"
        tar.write_bytes(self._raw)
        for words in (("import", str(tar), self.image), ("push", self.image)):
            done = subprocess.run(
                [require_tool("docker"), "--host", daemon.address, *words],
                capture_output=True, text=True, check=False,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    return Desk(tmp_path / "desk", demo_channel.url)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    found = Registry(tmp_path)
    yield found
    found.stop()


def use(desk: Desk, image: str, name: str = "train", *packages: str) -> None:
    conda = {"channels": ["demo"], "dependencies": list(packages or ("alpha",))}
    path = desk.folder / "environments" / f"{name}.yml"
    path.write_text(json.dumps({"name": name, "image": image, "conda_file": conda}))


def kept(desk: Desk, image: MadeImage) -> list[bool]:
    """Which of the base's layers lie in the store."""
    return [digest.hex in desk.blobs() for digest in image.layers]


@pytest.mark.parametrize("kind", ["oci", "v2s2", "index"])
def test_pinned_built_and_run_with_the_registry_gone(
    desk: Desk, registry: Registry, kind: str
) -> None:
    require_tool("bwrap")
    base = registry.push("one", kind)
    use(desk, registry.image)
    image = desk.apply()["environments"][0]["image"]
    assert kept(desk, base) == [False, False]
    shown = desk.ok("show", "train", "--json").json
    assert shown["base"]["reference"] == registry.image
    assert any("docker" in name for name in registry.types()) == (kind == "v2s2")
    if kind != "v2s2":  # skopeo writes another manifest for that
        assert shown["base"]["digest"] == str(base.manifest.digest)
    refused = desk.run("--offline", "--json", "run", "train", "--container", "--", "true")
    assert refused.code == 1
    assert "offline" in refused.errors()
    told = desk.ok("run", "train", "--container", "--", "cat", "/etc/patch")
    assert told.out == "one"
    assert "fetched 2 layers of the base" in told.err
    assert kept(desk, base) == [True, True]
    registry.stop()
    assert not desk.plan("--no-memo", "--offline")["changes"]
    assert not desk.plan("--no-memo")["changes"]
    script = "cat /etc/patch /opt/env/share/alpha/version"
    again = desk.ok("run", "train", "--container", "--renew", "--", "sh", "-c", script)
    assert again.out == "one2.0"
    use(desk, registry.image, "train", "alpha", "beta")
    assert desk.apply("--offline")["environments"][0]["image"] != image
    desk.ok("export", "train", "--format", "oci", "-o", "out.tar")
    assert desk.ok("store", "verify", "--json").json["bad"] == []


@pytest.mark.parametrize("server", ["old_dockerd", "current_dockerd"])
def test_what_docker_pushed_is_a_base(
    desk: Desk, registry: Registry, server: str, request: pytest.FixtureRequest
) -> None:
    registry.docker_push(request.getfixturevalue(server))
    use(desk, registry.image)
    desk.apply()
    script = ["run", "train", "--container", "--", "sh", "-c", "cat /opt/env/share/alpha/version"]
    assert desk.ok(*script).out == "2.0"
    assert any("docker" in name for name in registry.types()) == (server == "old_dockerd")
    assert desk.ok("store", "verify", "--json").json["bad"] == []


def test_a_lockfile_alone_needs_the_registry_for_two_documents(
    desk: Desk, registry: Registry
) -> None:
    base = registry.push("one")
    use(desk, registry.image)
    first = desk.apply()["environments"][0]["image"]
    registry.push("two")
    shutil.rmtree(desk.store)
    assert desk.apply()["environments"][0]["image"] == first, "by digest, whatever the tag means"
    assert kept(desk, base) == [False, False]


def answered(desk: Desk, *answers: str) -> tuple[int, str]:
    """``apply`` on a terminal; the exit code and what the terminal showed."""
    primary, secondary = pty.openpty()
    os.write(primary, "".join(f"{answer}\n" for answer in answers).encode())
    with os.fdopen(secondary, "r+b", buffering=0) as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "envgraph", "apply"], cwd=desk.folder, env=desk.environ(),
            stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, timeout=300, check=False,
        )  # fmt: skip
    with os.fdopen(primary, "rb", buffering=0) as reader:
        return done.returncode, reader.read(1 << 16).decode()


def test_a_moved_tag_is_asked_about(desk: Desk, registry: Registry) -> None:
    old = registry.push("one")
    desk.settings(base_images="ask")
    use(desk, registry.image)
    first = desk.apply()["environments"][0]["image"]
    new = registry.push("two")
    shorts = [made.manifest.digest.hex[:12] for made in (old, new)]
    plan = desk.ok("plan")
    assert all(short in plan.err for short in shorts)
    assert "--follow-base" in plan.err
    assert "No changes" in plan.out
    assert desk.apply()["environments"][0]["image"] == first, "nobody was there to say yes"
    code, shown = answered(desk, "no")
    assert code == 0
    assert "Take the moved bases? (yes/no)" in shown
    assert desk.ok("show", "train", "--json").json["base"]["digest"] == str(old.manifest.digest)
    code, shown = answered(desk, "yes", "yes")
    assert code == 0, shown
    assert f"{shorts[0]} → {shorts[1]}" in shown
    assert desk.ok("show", "train", "--json").json["base"]["digest"] == str(new.manifest.digest)


def test_a_moved_tag_is_followed_and_shown(desk: Desk, registry: Registry) -> None:
    registry.push("one")
    desk.settings(base_images="follow")
    use(desk, registry.image)
    desk.apply()
    assert desk.ok("plan").out.startswith("No changes")
    registry.push("two")
    shown = desk.ok("plan", environ={"PYTHONIOENCODING": "ascii"})
    assert " -> " in shown.out
    assert "moved" in shown.out
    desk.apply()
    assert not desk.plan()["changes"]
    frozen = desk.plan("--offline")
    assert not frozen["changes"]
    assert [d["code"] for d in frozen["diagnostics"]] == ["base-not-asked"]


def test_the_lock_verb_moves_a_frozen_base(desk: Desk, registry: Registry) -> None:
    old = registry.push("one")
    use(desk, registry.image)
    desk.apply()
    new = registry.push("two")
    assert not desk.plan("--no-memo")["changes"]
    told = desk.ok("lock", "--update-base")
    assert f"{old.manifest.digest.hex[:12]} → {new.manifest.digest.hex[:12]}" in told.out
    [change] = desk.plan()["environments"]
    assert change["base"]["previous"] == str(old.manifest.digest)
    assert change["packages"] == {"added": [], "removed": [], "changed": []}


def test_what_the_registry_does_not_have(desk: Desk, registry: Registry) -> None:
    registry.push("one")
    use(desk, f"{registry.host}/team/base:2", "no-tag")
    use(desk, f"{registry.host}/nobody/nothing:1", "no-repository")
    use(desk, registry.image, "good")
    answer = desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    assert [item["name"] for item in answer.json["environments"]] == ["good"]
    assert answer.errors() == ["base-tag", "base-tag"]
