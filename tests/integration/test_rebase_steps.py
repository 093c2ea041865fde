"""A patched base in a real registry below docker steps and a build context; the real buildah."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.built import BuiltDesk, push_base
from tests.registries import docker_registry
from tests.services import make_demo_channel, require_tool

pytestmark = pytest.mark.services


def patch_base(reference: str, storage: Path) -> None:
    """Put another image under the same tag: the one that is there, and a file."""
    buildah = [require_tool("buildah"), "--root", str(storage), "--runroot", str(storage / "run")]

    def run(*words: str) -> str:
        done = subprocess.run([*buildah, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    name = run("from", "--tls-verify=false", f"docker://{reference}")
    run("config", "--label", "patched=yes", name)
    image = run("commit", "-q", name)
    run("push", "--tls-verify=false", image, f"docker://{reference}")
    run("rm", name)


def test_what_runs_again_is_said_and_a_context_is_named(tmp_path: Path) -> None:
    make_base(tmp_path / "base")
    channel = make_demo_channel(tmp_path / "channel")
    built = BuiltDesk.make(tmp_path / "desk", channel.url, tmp_path / "base", tmp_path / "storage")
    desk = built.desk
    with docker_registry(tmp_path / "bases") as running:
        image = push_base(tmp_path / "base", running.host, "team/base")
        registries = {"bases": {"type": "oci", "url": running.host, "insecure": True}}
        built.settings(registries=registries)
        built.steps("train", "RUN echo hi > /made", "ENV A=b", conda="alpha=1.0", image=image)
        built.context("ctx", f"FROM {image}\nRUN echo ctx > /ctx\n")
        built.context("other", "FROM scratch\nCOPY a /a\n", {"a": "x"})
        desk.apply()
        patch_base(image, tmp_path / "patching")
        shown = desk.run("rebase", "--on", image, "--dry-run")
        assert "runs again: its base moved" in shown.out
        assert shown.out.count("RUN echo hi") == 1
        said = " ".join((shown.out + shown.err).split())
        assert "2 docker steps run again on the new base (train)" in said
        assert "'ctx' is a build context" in said
        assert "'other'" not in said
        answer = desk.run("rebase", "--on", image, "-y", "--json")
        assert (answer.code, answer.errors()) == (1, ["rebase-context"])
        [done] = answer.json["environments"]
        assert (done["name"], done["version"]) == ("train", "2")
        config, _ = built.image("train")
        assert config["config"]["Labels"]["patched"] == "yes"
        ran = desk.ok("run", "train", "--container", "--", "sh", "-c", "cat /made; echo $A")
        assert ran.out == "hi\nb\n"
        # what the hint says
        followed = desk.apply("--follow-base")
        assert "ctx" in [item["name"] for item in followed["environments"]]
        config, _ = built.image("ctx")
        assert config["config"]["Labels"]["patched"] == "yes"
        assert not desk.plan()["changes"]
