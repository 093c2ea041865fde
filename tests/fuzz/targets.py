"""Every parser of what somebody else wrote, as a function of bytes, with seeds.

A target returns, or raises one of :data:`OURS`; anything else is a bug. Seeds are small
and right, so that a fuzzer starts inside the format.
"""

from __future__ import annotations

import base64
import bz2
import hashlib
import io
import json
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zstandard

from envgraph.api.manifests import check_repository, read_manifest, read_reference
from envgraph.conda.answers import retry_after as conda_retry_after
from envgraph.conda.specs import split_channel
from envgraph.errors import EnvgraphError
from envgraph.image.archive_errors import ArchiveError
from envgraph.image.compress import open_zstd
from envgraph.image.conda_archive import open_conda_archive
from envgraph.image.tarread import TarReader
from envgraph.image.wheel_archive import WheelArchive
from envgraph.interchange.imports.read import read_foreign
from envgraph.lock.layouts import OciLayout
from envgraph.lock.lockread import read_document as read_lock
from envgraph.lock.sources import TarTree
from envgraph.model.names import escape_name, name_problem, unescape_name
from envgraph.model.oci import OCI_IMAGE_INDEX, OCI_IMAGE_MANIFEST, read_config
from envgraph.model.reference import BadReferenceError, normalise_reference, parse_reference
from envgraph.spec import judge_file, load_workspace
from envgraph.spec.dockerfile import read_dockerfile, step_images, step_secrets
from envgraph.spec.ignore import docker_rules, git_rules
from envgraph.spec.match_spec import normal_form, requirement_problem
from envgraph.spec.problems import Problems
from envgraph.spec.references import BadEnvironmentReferenceError, parse_environment_reference
from envgraph_oci.auth import read_challenges
from envgraph_oci.dockerconfig import DockerConfig
from envgraph_oci.faults import retry_after
from envgraph_store.digest import Digest, DigestError
from envgraph_store.errors import StoreError

OURS: Final = (EnvgraphError, StoreError, ArchiveError, DigestError, BadReferenceError)
"""What a parser may raise."""

_LIMIT: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A parser, and inputs that it reads well."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    """Pieces that a fuzzer may put in: its dictionary."""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of files, as a function of bytes."""

    def run(data: bytes) -> object:
        with tempfile.TemporaryDirectory(prefix="envgraph-fuzz-", dir=_memory()) as folder:
            path = Path(folder, name)
            path.write_bytes(data)
            return read(path)

    return run


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


# -- references and headers ------------------------------------------------------


def references(data: bytes) -> int:
    """References of images and environments, digests, names, requirements: how many it is."""
    text = _text(data)
    found = 0
    for read in (parse_reference, normalise_reference, Digest, check_repository, read_reference):
        with suppress(*OURS):
            read(text)
            found += 1
    with suppress(BadEnvironmentReferenceError):
        parse_environment_reference(text)
        found += 1
    if name_problem(text) is None:
        assert unescape_name(escape_name(text)) == text
    split_channel(text)
    if requirement_problem(text) is None:
        normal_form(text)
        found += 1
    return found


def headers(data: bytes) -> None:
    """What a registry says in headers."""
    text = data.decode("latin-1")
    read_challenges(text)
    retry_after(text, 0.0)
    conda_retry_after(text)


def docker_config(data: bytes) -> object:
    """docker's config.json; helpers are not run."""
    if b"cred" in data:
        return None

    def read(path: Path) -> object:
        return DockerConfig.of({"DOCKER_CONFIG": str(path.parent)}).login("127.0.0.1:5000")

    return _in_file("config.json", read)(data)


# -- archives ----------------------------------------------------------------------


def _read_all(reader: TarReader) -> None:
    for member in reader:
        if member.kind == "file":
            reader.content()


def tar(data: bytes) -> None:
    """A tar: the bytes as they are, without compression before them."""
    packed = zstandard.ZstdCompressor(level=1).compress(data)
    _read_all(TarReader(open_zstd(io.BytesIO(packed)), limit=_LIMIT))


def conda(data: bytes) -> None:
    """A package, ``.conda`` or ``.tar.bz2``."""
    archive = open_conda_archive(io.BytesIO(data))
    archive.document("index.json")
    _read_all(archive.open_payload())


def conda_info(data: bytes) -> None:
    """A package whose metadata part is the input: zip and CRC are right around it."""
    conda(_conda_of(data, _tar_of({"x": b"y"})))


def wheel(data: bytes) -> None:
    """A wheel, and every file in it."""
    archive = WheelArchive(io.BytesIO(data))
    archive.read("METADATA")
    for file in archive.files.values():
        for _ in archive.pieces(file):
            pass


def layout(data: bytes) -> None:
    """An OCI layout in a tar: ``image: oci-archive``, bundles."""

    def read(path: Path) -> None:
        for entry in OciLayout(TarTree(path)).entries():
            assert entry.size >= 0

    _in_file("image.tar", read)(data)


# -- documents ---------------------------------------------------------------------


def manifests(data: bytes) -> int:
    """Manifests, indexes and configs: how many of them it is."""
    found = 0
    for media_type in (OCI_IMAGE_MANIFEST, OCI_IMAGE_INDEX):
        with suppress(*OURS):
            read_manifest(data, media_type, "it")
            found += 1
    with suppress(*OURS):
        read_config(data, "it")
        found += 1
    return found


def dockerfile(data: bytes) -> None:
    """A Dockerfile, and single instructions."""
    problems = Problems()
    facts = read_dockerfile(data, "Dockerfile", problems)
    assert facts is not None or problems.failed
    text = _text(data)
    list(step_images(text))
    list(step_secrets(text))


def ignores(data: bytes) -> None:
    """``.dockerignore`` and ``.gitignore``: read, and asked of a path."""
    lines = _text(data[:2000]).splitlines()
    for make in (docker_rules, git_rules):
        try:
            rules = make(lines)
        except (ValueError, re.error):
            continue
        rules.ignored("a/b/c.txt", False)


def environment(data: bytes) -> object:
    """Any of Azure ML's files, and conda's."""
    return _in_file("environment.yml", judge_file)(data)


def workspace(data: bytes) -> object:
    """envgraph.yaml."""
    return _in_file("envgraph.yaml", lambda path: load_workspace(path.parent))(data)


def lockfile(data: bytes) -> None:
    """Our lockfile, which is conda-lock's."""
    read_lock(data.decode("utf-8", "replace"), "a.conda-lock.yml")


def _foreign(name: str) -> Callable[[bytes], object]:
    return _in_file(name, lambda path: read_foreign(path, python="3.12"))


# -- seeds -------------------------------------------------------------------------


def _tar_of(files: dict[str, bytes], **more: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **more) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def _conda_of(info: bytes, payload: bytes) -> bytes:
    packed = zstandard.ZstdCompressor(level=1).compress
    return _zip_of(
        {
            "metadata.json": b'{"conda_pkg_format_version": 2}',
            "pkg-a-1-0.tar.zst": packed(payload),
            "info-a-1-0.tar.zst": packed(info),
        }
    )


_INFO: Final = {
    "info/index.json": b'{"name": "a", "version": "1", "build": "0", "subdir": "noarch"}',
    "info/paths.json": b'{"paths": [], "paths_version": 1}',
}
_SHA: Final = "sha256:" + "0" * 64
_MANIFEST: Final = {
    "schemaVersion": 2,
    "mediaType": OCI_IMAGE_MANIFEST,
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": _SHA, "size": 2},
    "layers": [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": _SHA, "size": 2}
    ],
}
_INDEX: Final = {
    "schemaVersion": 2,
    "mediaType": OCI_IMAGE_INDEX,
    "manifests": [
        {
            "mediaType": OCI_IMAGE_MANIFEST,
            "digest": _SHA,
            "size": 2,
            "platform": {"os": "linux", "architecture": "amd64"},
        }
    ],
}
_CONFIG: Final = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Env": ["A=b"]},
    "rootfs": {"type": "layers", "diff_ids": [_SHA]},
}
_WHEEL: Final = {
    "a.py": b"",
    "a-1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: a\nVersion: 1\n",
    "a-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
}


def _record() -> bytes:
    def hashed(data: bytes) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")

    lines = [f"{name},sha256={hashed(data)},{len(data)}" for name, data in _WHEEL.items()]
    return "\n".join([*lines, "a-1.dist-info/RECORD,,"]).encode()


_ENVIRONMENT: Final = b"""\
$schema: https://azuremlschemas.azureedge.net/latest/environment.schema.json
name: train
version: 3
image: python:3.12
conda_file:
  channels: [conda-forge]
  dependencies: [python=3.12, numpy>=2, {pip: [click==8.1, "-r x.txt"]}]
docker_steps: ["RUN echo a", "COPY a b"]
environment_variables: {A: b}
inference_config:
  liveness_route: {port: 5001, path: /}
"""
_JOB: Final = b"""\
type: pipeline
jobs:
  one: {type: command, command: x, environment: {image: "python:3"}}
  two: {type: command, command: x, environment: "azureml:train@latest"}
"""
_ZEROS: Final = b"0" * 64
_LOCK: Final = b"""\
version: 1
metadata:
  content_hash: {linux-64: aa}
  channels: [{url: conda-forge, used_env_vars: []}]
  platforms: [linux-64]
  sources: [environment.yml]
package:
- name: a
  version: '1'
  manager: conda
  platform: linux-64
  dependencies: {}
  url: https://x/linux-64/a-1-0.conda
  hash: {md5: 00000000000000000000000000000000, sha256: ZEROS}
  category: main
  optional: false
""".replace(b"ZEROS", b"'" + _ZEROS + b"'")
_PIXI: Final = b"""\
version: 6
environments:
  default:
    channels: [{url: https://x/conda-forge/}]
    packages: {linux-64: [{conda: https://x/conda-forge/linux-64/a-1-0.conda}]}
packages:
- {conda: https://x/conda-forge/linux-64/a-1-0.conda, sha256: 'ZEROS', size: 3}
""".replace(b"ZEROS", _ZEROS)
_PYLOCK: Final = b"""\
lock-version = "1.0"
created-by = "x"
requires-python = ">=3.11"
[[packages]]
name = "a"
version = "1"
[[packages.wheels]]
url = "https://x/a-1-py3-none-any.whl"
size = 3
hashes = {sha256 = "ZEROS"}
""".replace(b"ZEROS", _ZEROS)
_EXPLICIT: Final = b"@EXPLICIT\nhttps://x/conda-forge/linux-64/a-1-0.conda#sha256:" + _ZEROS
_REQUIREMENTS: Final = b"a==1 --hash=sha256:" + _ZEROS + b"\n# c\n"
_DOCKERFILE: Final = b"""\
# syntax=docker/dockerfile:1
ARG V=3
FROM --platform=$BUILDPLATFORM python:${V} AS one
RUN --mount=type=secret,id=a --mount=type=bind,from=debian:12,source=/x,target=/y <<EOF
echo hi
EOF
FROM scratch
COPY --from=one --chown=1 ["a b", "/"]
ADD --checksum=sha256:ZEROS https://x/y /z
""".replace(b"ZEROS", _ZEROS)


def _json(document: object) -> bytes:
    return json.dumps(document).encode()


TARGETS: Final[dict[str, Target]] = {
    "references": Target(
        references,
        (
            b"docker.io/library/python:3.12", b"127.0.0.1:5000/a/b@" + _SHA.encode(), b"oci:a:b",
            b"docker-archive:x", b"azureml:train@latest", b"azureml:train:3", b"numpy>=2,<3",
            b"azureml://registries/r/environments/n/versions/v", b"conda-forge::a[version='1']",
        ),
        (b"azureml://", b"@sha256:", b"::", b"/subscriptions/", b"/versions/", b"/labels/"),
    ),
    "headers": Target(
        headers,
        (
            b'Bearer realm="https://x/t",service="y",scope="repository:a:pull,push"',
            b'Basic realm="a\\"b", Negotiate', b"120", b"Wed, 21 Oct 2026 07:28:00 GMT",
        ),
        (b"Bearer ", b"Basic ", b'realm="', b'\\"', b", "),
    ),
    "docker-config": Target(
        docker_config,
        (_json({"auths": {"127.0.0.1:5000": {"auth": "dTpw"}}}), _json({"auths": {"x": {}}})),
        (b'"auths"', b'"auth"', b'"identitytoken"'),
    ),
    "tar": Target(
        tar,
        (
            _tar_of({"a": b"1", "b/c": b"2"}),
            _tar_of({"a" * 150: b"1"}, format=tarfile.GNU_FORMAT),
            _tar_of({"é" * 90: b"1"}, format=tarfile.PAX_FORMAT),
        ),
        (b"ustar\x0000", b"ustar  \x00", b"././@LongLink", b"20 path=x\n", b"GNU.sparse.size="),
    ),
    "conda": Target(
        conda,
        (
            _conda_of(_tar_of(_INFO), _tar_of({"lib/x": b"1"})),
            bz2.compress(_tar_of(_INFO | {"lib/x": b"1"})),
        ),
        (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b".tar.zst"),
    ),
    "conda-info": Target(conda_info, (_tar_of(_INFO),), (b"info/", b"paths.json", b"ustar")),
    "wheel": Target(
        wheel,
        tuple(
            _zip_of(_WHEEL | {"a-1.dist-info/RECORD": _record()}, method)
            for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        ),
        (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"RECORD", b".dist-info/", b"sha256="),
    ),
    "layout": Target(
        layout,
        (_tar_of({"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": _json(_INDEX)}),),
        (b"oci-layout", b"index.json", b"blobs/sha256/", b"ustar"),
    ),
    "manifests": Target(
        manifests,
        (_json(_MANIFEST), _json(_INDEX), _json(_CONFIG)),
        (b'"layers"', b'"manifests"', b'"subject"', b'"config"', b'"size"', b'"digest"', b"1e400"),
    ),
    "dockerfile": Target(
        dockerfile,
        (_DOCKERFILE, b"FROM a\r\nRUN b \\\r\n c\r\n", b"\xef\xbb\xbfFROM a\nONBUILD COPY a b\n"),
        (b"FROM ", b"<<EOF", b"--mount=type=", b"# escape=`", b"${A:-b}", b"--from=", b"\\\n"),
    ),
    "ignores": Target(ignores, (b"*\n!a\n/b/**/c\n[a-z]?\n# x\n",), (b"**", b"[!", b"[^", b"\\")),
    "environment": Target(
        environment,
        (_ENVIRONMENT, _JOB, b"name: a\ndependencies: [python, pip, {pip: [a]}]\n"),
        (b"conda_file:", b"build:", b"docker_steps:", b"<<: *a", b"&a ", b"!!", b"{{x}}", b"? "),
    ),
    "workspace": Target(
        workspace,
        (
            b"workspace: a\nid: 12345678\nplatforms: [linux-64]\nregistry: {type: dirs, path: x}\n",
            b'workspace: a\nvirtual_packages: {linux-64: {__glibc: "2.28"}}\nsecrets: {a: env:B}\n',
        ),
        (b"builder:", b"channels:", b"image:", b"max_layers:", b"compute:", b"reserved_prefixes:"),
    ),
    "lockfile": Target(lockfile, (_LOCK,), (b"envgraph.lock/", b"custom_metadata:", b"package:")),
    "conda-lock": Target(_foreign("a.conda-lock.yml"), (_LOCK,), (b"hash:", b"manager: pip")),
    "pixi": Target(_foreign("pixi.lock"), (_PIXI,), (b"pypi:", b"conda:", b"version: 4")),
    "pylock": Target(_foreign("pylock.toml"), (_PYLOCK,), (b"[[packages]]", b"sdist", b"marker")),
    "explicit": Target(_foreign("a.txt"), (_EXPLICIT,), (b"@EXPLICIT", b"#", b"md5:", b"file:///")),
    "requirements": Target(
        _foreign("requirements.txt"),
        (_REQUIREMENTS,),
        (
            b"--hash=", b"-r x\n", b"-e .\n", b"-c x\n", b"b @ file:///x\n",
            b"; python_version",
        ),
    ),
}  # fmt: skip


def run(name: str, data: bytes) -> None:
    """One input through one target; whatever is not :data:`OURS` comes out."""
    with suppress(*OURS):
        TARGETS[name].run(data)
