"""A small honest base image from this machine: glibc, its loader, a shell.

It is what an environment needs that brings all its other libraries along, as conda
packages do. It is made of this machine's own files, so it is not portable and must
never be called so: its labels record glibc's version and the system packages that
every file came from.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from envgraph.testing.channel.elf import is_elf, read_needs, system_libraries
from envgraph.testing.channel.libraries import source_packages

GLIBC_SONAMES = (
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1",
    "libresolv.so.2", "libanl.so.1",
)  # fmt: skip
"""What of glibc a base holds in any case; newer ones keep most of them as empty shells."""

_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_TIME = "1980-01-01T00:00:00Z"
_TEXTS = {
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
}
_FOLDERS = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var")


@dataclass(frozen=True, slots=True)
class Base:
    """A base that was made: where it is, and what is in it."""

    layout: Path
    name: str
    manifest: str
    """``sha256:…`` of the manifest."""

    glibc: str
    """``2.36``."""

    shell: str
    """``busybox``, ``sh`` (this machine's, with its libraries), or empty: none at all."""

    sources: Mapping[str, str]
    """File in the image → system package and version; empty where nobody says."""

    size: int
    """Bytes of the compressed layer."""

    @property
    def reference(self) -> str:
        """``oci:PATH:NAME``, as an environment file's ``image:`` takes it."""
        return f"oci:{self.layout}:{self.name}"


def make_base(
    layout: Path,
    *,
    elf_files: Iterable[Path] = (),
    name: str = "base",
    busybox: Path | None = None,
) -> Base:
    """Write an OCI layout with one base image, made of this machine's files.

    It holds glibc and every library outside of ``elf_files``' own folders that they
    need, plus a static busybox (``busybox``, or the one on PATH; else this machine's
    ``sh``). Equal files give an equal image. Raises RuntimeError on a machine without
    glibc, or where a library is not found.
    """
    glibc = _glibc_version()
    system = system_libraries()
    if "libc.so.6" not in system:
        raise RuntimeError("ldconfig knows no libc.so.6 here: a base needs a machine with glibc")
    files: dict[str, Path] = {}
    links: dict[str, str] = {}
    shell, needed = _add_shell(busybox, files, links)
    elves = [Path(path) for path in elf_files]
    beside = {path.name for path in elves}
    for elf in elves:
        needed |= set(read_needs(elf.read_bytes()).needed) - beside
    needed |= {soname for soname in GLIBC_SONAMES if soname in system}
    _add_libraries(needed, system, files)
    owners = source_packages(files.values())
    sources = {path: owners[real] for path, real in sorted(files.items())}
    raw = _layer(files, links)
    layer = gzip.compress(raw, compresslevel=6, mtime=0)
    manifest = _write_layout(layout, name, raw, layer, _labels(glibc, sources))
    return Base(layout, name, manifest, glibc, shell, sources, len(layer))


def _glibc_version() -> str:
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        said = ""
    if not said.startswith("glibc "):
        raise RuntimeError("this machine's C library is not glibc")
    return said.removeprefix("glibc ")


def _add_shell(
    busybox: Path | None, files: dict[str, Path], links: dict[str, str]
) -> tuple[str, set[str]]:
    """Choose a shell; what it is, and the libraries that it needs."""
    found = str(busybox) if busybox else shutil.which("busybox")
    if found is not None and _is_static(Path(found)):
        files["bin/busybox"] = Path(found)
        done = subprocess.run([found, "--list"], capture_output=True, text=True, check=False)
        for applet in sorted(set(done.stdout.split()) | {"sh"}):
            if applet not in ("busybox", "linuxrc") and "/" not in applet:
                links[f"bin/{applet}"] = "busybox"
        links["usr/bin/env"] = "../../bin/busybox"
        return "busybox", set()
    shell = shutil.which("sh")
    if shell is None:
        return "", set()
    files["bin/sh"] = Path(shell).resolve()
    return "sh", set(read_needs(files["bin/sh"].read_bytes()).needed)


def _is_static(path: Path) -> bool:
    data = path.read_bytes()
    needs = read_needs(data)
    return is_elf(data) and not needs.interpreter and not needs.needed


def _add_libraries(needed: set[str], system: Mapping[str, Path], files: dict[str, Path]) -> None:
    """Follow what is needed. All lie where libc lies: there the loader looks without a cache."""
    libc = system["libc.so.6"]
    interpreter = read_needs(libc.read_bytes()).interpreter
    if interpreter:
        files[interpreter.lstrip("/")] = Path(interpreter).resolve()
    folder = str(libc.parent).lstrip("/")
    waiting = sorted(needed)
    while waiting:
        soname = waiting.pop()
        place = f"{folder}/{soname}"
        if place in files or soname == Path(interpreter).name:
            continue
        if soname not in system:
            raise RuntimeError(f"{soname} is needed and not on this machine")
        files[place] = system[soname].resolve()
        waiting.extend(read_needs(files[place].read_bytes()).needed)


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    folders = set(_FOLDERS)
    for path in (*files, *links, *_TEXTS):
        folders.update(str(parent) for parent in Path(path).parents if str(parent) != ".")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folders | set(files) | set(links) | set(_TEXTS)):
            member = tarfile.TarInfo(path)
            if path in folders:
                member.type, member.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
                tar.addfile(member)
            elif path in links:
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, links[path], 0o777
                tar.addfile(member)
            else:
                data = files[path].read_bytes() if path in files else _TEXTS[path].encode()
                member.size, member.mode = len(data), 0o755 if path in files else 0o644
                tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _labels(glibc: str, sources: Mapping[str, str]) -> dict[str, str]:
    return {
        "io.envgraph.base.glibc": glibc,
        "io.envgraph.base.packages": "; ".join(sorted({s for s in sources.values() if s})),
        "io.envgraph.base.portable": "no: made of one machine's own files",
    }


def _write_layout(
    layout: Path, name: str, raw: bytes, layer: bytes, labels: Mapping[str, str]
) -> str:
    path_variable = "PATH=/usr/local/bin:/usr/bin:/bin"
    config = {
        "architecture": "amd64",
        "config": {"Env": [path_variable], "Cmd": ["/bin/sh"], "Labels": dict(labels)},
        "created": _TIME,
        "history": [{"created": _TIME, "created_by": "envgraph.testing.base"}],
        "os": "linux",
        "rootfs": {"diff_ids": [f"sha256:{hashlib.sha256(raw).hexdigest()}"], "type": "layers"},
    }
    manifest = {
        "config": _blob(layout, _CONFIG_TYPE, _json(config)),
        "layers": [_blob(layout, _LAYER_TYPE, layer)],
        "mediaType": _MANIFEST_TYPE,
        "schemaVersion": 2,
    }
    described = _blob(layout, _MANIFEST_TYPE, _json(manifest))
    named = {**described, "annotations": {"org.opencontainers.image.ref.name": name}}
    index = {"manifests": [named], "mediaType": _INDEX_TYPE, "schemaVersion": 2}
    (layout / "index.json").write_bytes(_json(index))
    (layout / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return str(described["digest"])


def _blob(layout: Path, media_type: str, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    path = layout / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"digest": f"sha256:{digest}", "mediaType": media_type, "size": len(data)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
