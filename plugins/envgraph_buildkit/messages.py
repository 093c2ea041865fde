"""BuildKit's messages: those fields of its protocol that this client uses, as protobuf classes.

The classes are made from :data:`SCHEMA` when this module is imported, so that no generated code
is kept, whose generator and runtime would have to fit each other. Numbers and types are
those of BuildKit's ``api/services/control``, ``solver/pb``, ``session/*``, of tonistiigi's
``fsutil`` and containerd's content service; fields that are not here are skipped in what is
read. ``*`` is repeated, ``?`` is told even when it is 0, ``map:TYPE`` has keys of text.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMA: Final = """
BytesMessage: data=1 bytes
Empty:
Timestamp: seconds=1 int64, nanos=2 int32

SolveRequest: Ref=1 string, Definition=2 Definition, Exporter=3 string, ExporterAttrs=4 map,
  Session=5 string, Frontend=6 string, FrontendAttrs=7 map, Cache=8 CacheOptions,
  Entitlements=9 *string, SourcePolicy=12 Policy, Exporters=13 *Exporter
Exporter: Type=1 string, Attrs=2 map
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

PruneRequest: filter=1 *string, all=2 bool, keepDuration=3 int64, reservedSpace=4 int64,
  maxUsedSpace=5 int64
DiskUsageRequest: filter=1 *string
DiskUsageResponse: record=1 *UsageRecord
UsageRecord: ID=1 string, Mutable=2 bool, InUse=3 bool, Size=4 int64, CreatedAt=6 Timestamp,
  LastUsedAt=7 Timestamp, UsageCount=8 int64, Description=9 string, RecordType=10 string,
  Shared=11 bool

BuildHistoryRequest: Ref=2 string, EarlyExit=3 bool
BuildHistoryEvent: type=1 int32, record=2 BuildHistoryRecord
BuildHistoryRecord: Ref=1 string, Result=10 BuildResultInfo, Results=11 map:BuildResultInfo
BuildResultInfo: Attestations=2 *HistoryDescriptor
HistoryDescriptor: media_type=1 string, digest=2 string, size=3 int64, annotations=5 map

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
CheckAgentRequest: ID=1 string
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

Definition: def=1 *bytes, metadata=2 map:OpMetadata
OpMetadata: ignore_cache=1 bool, description=2 map, caps=5 map:bool
Op: inputs=1 *Input, exec=2 ExecOp, source=3 SourceOp, file=4 FileOp, merge=6 MergeOp,
  diff=7 DiffOp, platform=10 Platform, constraints=11 WorkerConstraints
WorkerConstraints: filter=1 *string
Input: digest=1 string, index=2 int64
SourceOp: identifier=1 string, attrs=2 map
ExecOp: meta=1 Meta, mounts=2 *Mount, network=3 int32, security=4 int32, secretenv=5 *SecretEnv
Meta: args=1 *string, env=2 *string, cwd=3 string, user=4 string, extraHosts=6 *HostIP,
  hostname=7 string, removeMountStubsRecursive=11 bool, validExitCodes=12 *int32
HostIP: Host=1 string, IP=2 string
SecretEnv: ID=1 string, name=2 string, optional=3 bool
Mount: input=1 int64, selector=2 string, dest=3 string, output=4 int64, readonly=5 bool,
  mountType=6 int32, TmpfsOpt=19 TmpfsOpt, cacheOpt=20 CacheOpt, secretOpt=21 SecretOpt,
  SSHOpt=22 SecretOpt
TmpfsOpt: size=1 int64
CacheOpt: ID=1 string, sharing=2 int32
SecretOpt: ID=1 string, uid=2 uint32, gid=3 uint32, mode=4 uint32, optional=5 bool
FileOp: actions=2 *FileAction
FileAction: input=1 int64, secondaryInput=2 int64, output=3 int64, copy=4 CopyAction,
  mkfile=5 MkFileAction, mkdir=6 MkDirAction, rm=7 RmAction, symlink=8 SymlinkAction
CopyAction: src=1 string, dest=2 string, owner=3 ChownOpt, mode=4 int32, followSymlink=5 bool,
  dirCopyContents=6 bool, attemptUnpackDockerCompatibility=7 bool, createDestPath=8 bool,
  allowWildcard=9 bool, allowEmptyWildcard=10 bool, timestamp=11 int64,
  include_patterns=12 *string, exclude_patterns=13 *string
MkFileAction: path=1 string, mode=2 int32, data=3 bytes, owner=4 ChownOpt, timestamp=5 int64
MkDirAction: path=1 string, mode=2 int32, makeParents=3 bool, owner=4 ChownOpt,
  timestamp=5 int64
RmAction: path=1 string, allowNotFound=2 bool, allowWildcard=3 bool
SymlinkAction: oldpath=1 string, newpath=2 string, owner=3 ChownOpt, timestamp=4 int64
ChownOpt: user=1 UserOpt, group=2 UserOpt
UserOpt: byName=1 NamedUserOpt, byID=2 ?uint32
NamedUserOpt: name=1 string, input=2 int64
MergeOp: inputs=1 *MergeInput
MergeInput: input=1 int64
DiffOp: lower=1 DiffInput, upper=2 DiffInput
DiffInput: input=1 int64
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
            many = kind[0] == "*" or kind.startswith("map")
            made.label = _Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL
            if kind.startswith("map"):
                entry = message.nested_type.add(name=f"{key[0].upper()}{key[1:]}Entry")
                entry.options.map_entry = True
                for part, place, what in (("key", 1, ""), ("value", 2, kind[4:])):
                    inner = entry.field.add(name=part, number=place, label=_Field.LABEL_OPTIONAL)
                    _type(inner, what or "string")
                made.type, made.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{name}.{entry.name}"
            else:
                _type(made, kind.lstrip("*?"))
            if kind[0] == "?":  # it is told even when it is 0
                made.proto3_optional, made.oneof_index = True, len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{key}")
    return file


def _type(field: Any, kind: str) -> None:
    """Set a field's type: one of ours by name, or a message."""
    if kind in _KINDS:
        field.type = _KINDS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


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
    """A message's bytes, the same for equal messages: maps are sorted."""
    return bytes(value.SerializeToString(deterministic=True))
