"""How something was built, as BuildKit itself wrote it down: SLSA provenance, parsed.

Every build is in the worker's history with its provenance, whatever was exported. To read it
there changes no image. The other way, an attestation beside an image (``provenance="max"`` of a
build), makes an index of it, and so another digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from envgraph.api import BuilderError
from envgraph_buildkit.connection import CONTROL, Connection
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.quiet import grpc

_READ: Final = "/containerd.services.content.v1.Content/Read"
_TYPE: Final = "in-toto.io/predicate-type"
_LIMIT: Final = 64 << 20
_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Provenance:
    """One statement: its predicate, and what kind that is."""

    predicate_type: str
    """``https://slsa.dev/provenance/v1``, or ``…/v0.2`` of older servers."""

    predicate: dict[str, Any]
    platform: str = ""
    """Of which of several results; empty where there was one."""


def provenance_of(connection: Connection, ref: str) -> tuple[Provenance, ...]:
    """What the history of the worker says of a build; BuilderError ``builder-lacks`` else."""
    listen = connection.channel.unary_stream(
        CONTROL + "ListenBuildHistory",
        request_serializer=encode,
        response_deserializer=message("BuildHistoryEvent").FromString,
    )
    asked = message("BuildHistoryRequest")(Ref=ref, EarlyExit=True)
    found: list[Provenance] = []
    try:
        for event in listen(asked, timeout=_SECONDS):
            record = event.record
            results = {"": record.Result, **dict(record.Results)}
            for platform, result in results.items():
                for each in result.Attestations:
                    kind = each.annotations[_TYPE]
                    data = json.loads(_content(connection, each.digest))
                    # the history keeps predicates, and a statement around one is read too
                    found.append(Provenance(kind, data.get("predicate", data), platform))
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise BuilderError(
                f"the BuildKit at {connection.endpoint.address} keeps no history of builds",
                code="builder-lacks",
            ) from None
        raise connection.failure(error) from None
    if not found:
        raise BuilderError(f"there is no provenance of the build {ref}", code="builder-lacks")
    return tuple(found)


def _content(connection: Connection, digest: str) -> bytes:
    read = connection.channel.unary_stream(
        _READ,
        request_serializer=encode,
        response_deserializer=message("ReadContentResponse").FromString,
    )
    data = bytearray()
    for part in read(message("ReadContentRequest")(digest=digest), timeout=_SECONDS):
        data += part.data
        if len(data) > _LIMIT:
            raise BuilderError("the provenance is too long", code="builder-answer")
    return bytes(data)
