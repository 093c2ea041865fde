"""grpcio in a process of its own: it is loaded late, and says nothing on stderr."""

from __future__ import annotations

import subprocess
import sys

FORKING = """
import os, threading
from envgraph_buildkit.quiet import grpc
assert not {"GRPC_VERBOSITY", "GRPC_ENABLE_FORK_SUPPORT"} & set(os.environ)
channel = grpc.insecure_channel("unix:///nowhere/at.all")
calls = [channel.unary_unary("/a/b").future(b"", wait_for_ready=True) for _ in range(3)]
for _ in range(5):
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
for call in calls:
    call.cancel()
"""

LATE = """
import sys
from envgraph_buildkit.options import BuildkitOptions
from envgraph_buildkit.plugin import envgraph_builders
(plugin,) = envgraph_builders()
plugin.connects(BuildkitOptions())
print(sorted({"grpc", "google.protobuf", "ssl", "http.client", "tarfile"} & set(sys.modules)))
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


def test_forks_are_not_remarked_upon() -> None:
    assert python(FORKING).stderr == ""


def test_what_is_heavy_is_loaded_late() -> None:
    assert python(LATE).stdout == "[]\n"
