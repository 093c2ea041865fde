"""BuildKit's messages: those fields of its protocol that this client uses, as protobuf classes.

The classes are made from :data:`SCHEMA` when this module is imported, so that no generated code
is kept, whose generator and runtime would have to fit each other. Numbers and types are
those of BuildKit's ``api/services/control``, ``solver/pb``, ``session/*``, of tonistiigi's
``fsutil`` and containerd's content service; fields that are not here are skipped in what is
read.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMA: Final = """
BytesMessage: data=1 bytes
Empty:
Timestamp: seconds=1 int64, nanos=2 int32

SolveRequest: Ref=1 string, Exporter=3 string, ExporterAttrs=4 map, Session=5 string,
  Frontend=6 string, FrontendAttrs=7 map, Cache=8 CacheOptions, Entitlements=9 *string,
  SourcePolicy=12 Policy
CacheOptions: Exports=4 *CacheEntry, Imports=5 *CacheEntry
CacheEntry: Type=1 string, Attrs=2 map
Policy: version=1 int64, rules=2 *PolicyRule
PolicyRule: action=1 int32, selector=2 PolicySelector
PolicySelector: identifier=1 string
SolveResponse: ExporterResponse=1 map

StatusRequest: Ref=1 string
StatusResponse: vertexes=1 *Vertex, statuses=2 *VertexStatus, logs=3 *VertexLog
Vertex: digest=1 string, name=3 string, cached=4 bool, started=5 Timestamp,
  completed=6 Timestamp, error=7 string
VertexStatus: ID=1 string, vertex=2 string, name=3 string, current=4 int64, total=5 int64
VertexLog: vertex=1 string, stream=3 int64, msg=4 bytes

ListWorkersRequest:
ListWorkersResponse: record=1 *WorkerRecord
WorkerRecord: ID=1 string, Labels=2 map, platforms=3 *Platform, BuildkitVersion=5 BuildkitVersion
Platform: Architecture=1 string, OS=2 string, Variant=3 string
BuildkitVersion: package=1 string, version=2 string

HealthCheckResponse: status=1 int32

Packet: type=1 int32, stat=2 Stat, ID=3 uint32, data=4 bytes
Stat: path=1 string, mode=2 uint32, uid=3 uint32, gid=4 uint32, size=5 int64, modTime=6 int64,
  linkname=7 string

CredentialsRequest: Host=1 string
CredentialsResponse: Username=1 string, Secret=2 string
GetSecretRequest: ID=1 string
GetSecretResponse: data=1 bytes

InfoRequest: digest=1 string
InfoResponse: info=1 ContentInfo
ContentInfo: digest=1 string, size=2 int64
ReadContentRequest: digest=1 string, offset=2 int64, size=3 int64
ReadContentResponse: offset=1 int64, data=2 bytes
WriteContentRequest: action=1 int32, ref=2 string, total=3 int64, expected=4 string,
  offset=5 int64, data=6 bytes
WriteContentResponse: action=1 int32, offset=4 int64, total=5 int64, digest=6 string

RpcStatus: code=1 int32, message=2 string, details=3 *Any
Any: type_url=1 string, value=2 bytes
"""

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS: Final = {
    "string": _Field.TYPE_STRING, "bytes": _Field.TYPE_BYTES, "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32, "int64": _Field.TYPE_INT64, "uint32": _Field.TYPE_UINT32,
}  # fmt: skip
_PACKAGE: Final = "envgraph.buildkit"


def _file() -> Any:
    """The schema as a file descriptor."""
    file = descriptor_pb2.FileDescriptorProto(
        name="envgraph_buildkit.proto", package=_PACKAGE, syntax="proto3"
    )
    for line in SCHEMA.replace(",\n ", ",").strip().splitlines():
        name, _, fields = line.partition(":")
        if not name:
            continue
        message = file.message_type.add(name=name)
        for field in filter(None, (part.split() for part in fields.split(","))):
            (key, number), kind = field[0].split("="), field[1]
            made = message.field.add(name=key, number=int(number))
            made.label = _Field.LABEL_REPEATED if kind[0] in "*m" else _Field.LABEL_OPTIONAL
            if kind == "map":
                entry = message.nested_type.add(name=f"{key[0].upper()}{key[1:]}Entry")
                entry.options.map_entry = True
                for part, place in (("key", 1), ("value", 2)):
                    entry.field.add(
                        name=part, number=place, type=_Field.TYPE_STRING,
                        label=_Field.LABEL_OPTIONAL,
                    )  # fmt: skip
                made.type, made.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{name}.{entry.name}"
            elif (plain := kind.lstrip("*")) in _KINDS:
                made.type = _KINDS[plain]
            else:
                made.type, made.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{plain}"
    return file


_POOL: Final = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


_CLASSES: Final = {
    each.name: message_factory.GetMessageClass(
        _POOL.FindMessageTypeByName(f"{_PACKAGE}.{each.name}")
    )
    for each in _file().message_type
}
for _each in _CLASSES.values():
    # protobuf makes classes and their parts when they are first used, and not in a way that is
    # safe for threads: two threads at once crashed the interpreter. So here, in one thread.
    _each.FromString(_each().SerializeToString())


def message(name: str) -> Any:
    """The class of a message of the schema; KeyError when it has none of that name."""
    return _CLASSES[name]


def encode(value: Any) -> bytes:
    """A message's bytes."""
    return bytes(value.SerializeToString())
