"""envgraph_buildah as an ordinary user: where the machine allows it, and where it does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services import require_tool
from tests.users import User, ordinary_user

pytestmark = [pytest.mark.services, pytest.mark.slow]

PROGRAM = """\
import json, sys, threading
from pathlib import Path
from envgraph.api import (
    BuilderError, BuildRequest, Instruction, Platform, PluginContext, Steps,
)
from envgraph.testing.base import make_base
from envgraph.testing.builder.material import base_of_layout
from envgraph_buildah import BuildahOptions, open_buildah

folder, texts = Path(sys.argv[1]), sys.argv[2:]
made = make_base(folder / "layout")
base = base_of_layout(made.layout, made.name)
steps = Steps(base, tuple(Instruction(text) for text in texts))
context = PluginContext(str(folder), lambda host, scope: None, {})
try:
    with open_buildah(BuildahOptions(storage="storage"), context) as builder:
        found = builder.capabilities()
        answer = {"version": found.version, "features": sorted(found.features), "layers": []}
        for network in (True, False):
            request = BuildRequest(found.platforms[0], steps, network=network)
            with builder.build(request, lambda event: None, threading.Event()) as result:
                answer["layers"].append([str(layer.diff_id) for layer in result.layers])
except BuilderError as error:
    [first] = error.diagnostics
    answer = {"code": first.code, "summary": first.summary, "hint": first.hint}
print(json.dumps(answer))
"""
STEPS = ("RUN id -u > /who; chown 5:6 /who; chmod 4755 /who", "USER 5", "RUN id -u > /tmp/me")


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    require_tool("buildah")
    with ordinary_user() as found:
        yield found


def ask(user: User, *steps: str, **how: bool) -> dict[str, Any]:
    done = user.run(sys.executable, "-c", PROGRAM, str(user.home), *steps, **how)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_same_layers_as_for_root(user: User, tmp_path: Path) -> None:
    import subprocess

    answer = ask(user, *STEPS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *STEPS],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(answer["layers"][0]) == 2
    assert answer["layers"] == json.loads(done.stdout)["layers"]
    assert {"run", "no-network"} <= set(answer["features"])


def test_without_ids_no_step_runs_and_it_is_said_before(user: User) -> None:
    answer = ask(user, "RUN true", ids=False)
    assert answer["code"] == "builder-lacks"
    assert answer["summary"].endswith("this user has no ids in /etc/subuid")
    assert "usermod --add-subuids" in answer["hint"]
    assert "BuildKit" in answer["hint"]


def test_where_user_namespaces_are_forbidden(user: User) -> None:
    answer = ask(user, "RUN true", namespaces=False)
    assert answer["code"] == "builder-down"
    assert "no user namespaces" in answer["hint"]
    assert "kernel.unprivileged_userns_clone=1" in answer["hint"]
    assert "BuildKit" in answer["hint"]
