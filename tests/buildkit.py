"""Builders of envgraph_buildkit for tests, and an image in a registry for them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envgraph.api import Builder, Credentials, PluginContext
from envgraph_buildkit.options import BuildkitOptions
from envgraph_buildkit.plugin import open_builder
from tests.services import require_tool


@contextmanager
def opened(
    address: str = "", logins: Mapping[str, Credentials] | None = None, **options: Any
) -> Iterator[Builder]:
    """A builder at an address."""
    known = dict(logins or {})
    context = PluginContext("/", lambda host, scope: known.get(host), {})
    with open_builder(BuildkitOptions(address=address, **options), context) as builder:
        yield builder


def push(layout: Path, name: str, to: str) -> None:
    """Copy an image of an OCI layout into a registry on loopback, with the same digest."""
    skopeo = require_tool("skopeo")
    subprocess.run(
        [skopeo, "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
         f"oci:{layout}:{name}", f"docker://{to}"],
        check=True,
    )  # fmt: skip
