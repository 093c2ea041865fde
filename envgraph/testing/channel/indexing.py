"""A channel's index: ``repodata.json``, ``repodata.json.zst`` and sharded repodata.

:func:`index_channel` writes it here: the same archives give the same bytes, and no
record says when it was indexed. :func:`index_with_rattler` has rattler's own indexer
do it: tests compare the two.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from envgraph.testing.channel.msgpack import pack

Record = dict[str, Any]
"""One package in repodata: index.json's fields with md5, sha256 and size."""

Patch = Callable[[str, Record], Record | None]
"""Takes an archive's file name and record; gives the record to publish, or none."""

_CHILD = """
import asyncio, os, sys, traceback
try:
    from rattler.index import index_fs
    asyncio.run(index_fs(sys.argv[1], write_zst=True, write_shards=True, force=True))
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
os._exit(0)
"""


def index_channel(channel: Path, *, patch: Patch | None = None, shards: bool = True) -> None:
    """Write the index of every subdir that is there, and of ``noarch`` in any case.

    ``patch`` may change or drop records: for channels that say little or lie.
    """
    (channel / "noarch").mkdir(parents=True, exist_ok=True)
    for folder in sorted(path for path in channel.iterdir() if path.is_dir()):
        records: dict[str, Record] = {}
        for path in sorted(folder.iterdir()):
            if not path.name.endswith((".conda", ".tar.bz2")):
                continue
            record: Record | None = read_record(path)
            if patch is not None and record is not None:
                record = patch(path.name, record)
            if record is not None:
                records[path.name] = record
        write_repodata(folder, records, shards=shards)


def read_record(archive: Path) -> Record:
    """The repodata record of one archive on disk."""
    data = archive.read_bytes()
    index = json.loads(_info_file(archive.name, data, "info/index.json"))
    kept = {key: value for key, value in index.items() if value is not None}
    return {
        **kept,
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }


def write_repodata(
    folder: Path, records: Mapping[str, Record], *, shards: bool = True, zst: bool = True
) -> None:
    """Write one subdir's index from its records, by file name."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3)
    folder.mkdir(parents=True, exist_ok=True)
    by_format: dict[str, dict[str, Record]] = {"packages": {}, "packages.conda": {}}
    for name in sorted(records):
        by_format[_section(name)][name] = records[name]
    document = {"info": {"subdir": folder.name}, **by_format, "removed": [], "repodata_version": 1}
    text = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    (folder / "repodata.json").write_bytes(text)
    if zst:
        (folder / "repodata.json.zst").write_bytes(compressor.compress(text))
    if shards:
        _write_shards(folder, records, compressor.compress)


def _write_shards(
    folder: Path, records: Mapping[str, Record], compress: Callable[[bytes], bytes]
) -> None:
    shards: dict[str, dict[str, Any]] = {}
    for file_name in sorted(records):
        record = dict(records[file_name])
        for key in ("md5", "sha256"):
            if record.get(key):
                record[key] = bytes.fromhex(record[key])
        empty: dict[str, Any] = {"packages": {}, "packages.conda": {}, "removed": []}
        shards.setdefault(record["name"], empty)[_section(file_name)][file_name] = record
    (folder / "shards").mkdir(exist_ok=True)
    digests: dict[str, bytes] = {}
    for name, shard in shards.items():
        data = compress(pack(shard))
        digest = hashlib.sha256(data)
        (folder / "shards" / f"{digest.hexdigest()}.msgpack.zst").write_bytes(data)
        digests[name] = digest.digest()
    info = {"subdir": folder.name, "base_url": "", "shards_base_url": "./shards/"}
    index = compress(pack({"info": info, "shards": digests}))
    (folder / "repodata_shards.msgpack.zst").write_bytes(index)


def index_with_rattler(channel: Path) -> None:
    """Have rattler's own indexer write the index, with the time into every record.

    It runs in a process of its own: its background threads can crash an interpreter
    that is about to end, so the child leaves by ``os._exit`` when the index is
    written and its exit code tells the truth. Raises RuntimeError with its message.
    """
    (channel / "noarch").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(channel)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"indexing {channel} failed: {done.stderr.strip()}")


def _section(file_name: str) -> str:
    return "packages.conda" if file_name.endswith(".conda") else "packages"


def _info_file(archive_name: str, data: bytes, wanted: str) -> bytes:
    import zstandard

    if archive_name.endswith(".conda"):
        with zipfile.ZipFile(io.BytesIO(data)) as outer:
            inner = outer.read(f"info-{archive_name.removesuffix('.conda')}.tar.zst")
        tar = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(inner)).read()
    else:
        tar = bz2.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        member = members.extractfile(wanted)
        if member is None:
            raise ValueError(f"{archive_name} has no {wanted}")
        return member.read()
