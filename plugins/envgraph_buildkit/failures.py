"""What BuildKit says of a failed build, as BuilderError.

``grpc-status-details-bin`` holds typed details whose values are JSON: the exit code
(``gatewayapi.ExitMessage``), the vertex and the lines of the Dockerfile (``errdefs.Source``).
Old servers send fewer; then the text is all there is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from envgraph.api import BuilderError
from envgraph.errors import SourceLocation
from envgraph_buildkit.messages import message
from envgraph_buildkit.quiet import grpc
from envgraph_buildkit.recipe import Written

_EXIT: Final = re.compile(
    r"(?:did not complete successfully|returned a non-zero code|executor failed running .*)"
    r":(?: exit code:)? (\d+)",
    re.S,
)
_NO_SOURCE: Final = re.compile(
    r'(?:failed to calculate checksum of ref|failed to compute cache key)[^"]*"([^"]*)": not found'
)
_LINE: Final = re.compile(r"(?:[Dd]ockerfile )?parse error (?:on )?line (\d+)")
_MISSING: Final = (
    "failed to resolve source metadata", "not found", "pull access denied", "no such host",
    "failed to do request", "connection refused", "authorization failed", "content at",
    "pulling from host", "unexpected status", "denied by policy", "source not allowed",
)  # fmt: skip
_PREFIX: Final = re.compile(
    r"\A(?:failed to solve(?: with frontend [\w.]+)?: |failed to build LLB: "
    r"|rpc error: code = \w+ desc = |failed to create LLB definition: )+"
)
_OUTPUT_LINES: Final = 40
_NO_BRIDGE: Final = (
    "this dockerd gives steps no network: start it with a bridge, set `network: host` in"
    " `builder:`, or build with --offline"
)


@dataclass(frozen=True, slots=True)
class Details:
    """What the details of a status hold."""

    status: int | None = None
    line: int | None = None
    vertex: str = ""


def details_of(error: Any) -> Details:
    """Read them; what makes no sense is left out."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            try:
                found = message("RpcStatus").FromString(value).details
            except Exception:  # protobuf's DecodeError, which has no place to import it from
                return Details()
            return _read(found)
    return Details()


def _read(found: Any) -> Details:
    status = line = None
    vertex = ""
    for detail in found:
        try:
            value = json.loads(detail.value)
        except ValueError:
            continue
        if not isinstance(value, dict):
            continue
        if "ExitMessage" in detail.type_url:
            status = _whole(value.get("Code", value.get("code")))
        elif "errdefs.Source" in detail.type_url:
            line = _first_line(value)
        elif "errdefs.Vertex" in detail.type_url and isinstance(value.get("digest"), str):
            vertex = value["digest"]
    return Details(status, line, vertex)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _first_line(source: Mapping[str, Any]) -> int | None:
    try:
        return _whole(source["ranges"][0]["start"]["line"])
    except (KeyError, IndexError, TypeError):
        return None


def build_failure(error: Any, written: Written, name: str, output: str) -> BuilderError:
    """Why a Solve failed; ``name`` is what BuildKit calls the step, ``output`` its last."""
    text = " ".join(_PREFIX.sub("", str(error.details() or "")).split())[:1000]
    details = details_of(error)
    status = details.status
    if status is None and (found := _EXIT.search(text)):
        status = int(found[1])
    line = details.line
    if line is None and (found := _LINE.search(text)):
        line = int(found[1])
    index, source = written.place(line) if line is not None else written.step(name)
    shown = "\n".join(output.splitlines()[-_OUTPUT_LINES:])
    if status is not None:
        what = written.text(index, line) or (f"`{name[:120]}`" if name else "a step")
        return BuilderError(
            f"{what} failed with exit code {status}",
            code="step-failed", detail=shown or text, source=source,
            instruction=index, status=status, output=shown,
        )  # fmt: skip
    if "resolve frontend" in text or ("docker/dockerfile" in text and written.syntax):
        return BuilderError(
            f"the frontend that `# syntax={written.syntax}` names cannot be had",
            code="builder-refused", detail=text, source=source or SourceLocation(written.path, 1),
            hint="BuildKit has a frontend of its own: leave the line out, or name a registry"
            " that BuildKit reaches",
        )  # fmt: skip
    if any(part in text for part in _MISSING) and (base := written.named_in(text)):
        return BuilderError(
            f"BuildKit cannot get the base {base}",
            code="base-missing", detail=text, source=source, instruction=index,
            hint="push it to a registry that the builder reaches, or check that one's login",
        )  # fmt: skip
    what = written.text(index, line)
    if found := _NO_SOURCE.search(text):
        return BuilderError(
            f"{what or 'a copy'} failed: there is no {found[1]} to copy",
            code="step-failed", detail=shown, source=source, instruction=index, output=shown,
            hint="" if "--from" in what else "it is not in the context; a .dockerignore,"
            " .amlignore or .gitignore may leave it out",
        )  # fmt: skip
    if index is not None or line is not None:
        return BuilderError(
            f"{what} failed" if what else "the build failed",
            code="step-failed" if details.vertex or index is not None else "builder-refused",
            detail="\n".join(part for part in (text, shown) if part), source=source,
            instruction=index, output=shown,
            hint=_NO_BRIDGE if "network bridge not found" in text else "",
        )  # fmt: skip
    busy = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
    return BuilderError(
        f"the build failed: {text}",
        code="builder-down" if busy else "builder-refused",
        detail=shown, source=source, output=shown, retryable=busy,
    )  # fmt: skip
