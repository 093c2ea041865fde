"""An image out of the store, as a layout that every tool reads.

The folder or tar is an OCI image layout with the store's own blobs, so digests
stay, and it carries ``manifest.json`` as ``docker save`` writes it, so that
``docker load`` takes it too. Docker before 23 unpacks no zstd (tried: 20.10.24
says "unexpected EOF"), so for it the layout also holds such layers uncompressed,
under their DiffID, which is their digest then. The config is the same blob in both
views: the image id that docker shows is the config digest.

::

    oci-layout  index.json  manifest.json  blobs/sha256/<hex>

Equal images and names give equal bytes: sorted names, root, 1980-01-01.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from envgraph.errors import InputError, IntegrityError
from envgraph.image.bases import open_layer
from envgraph.image.compress import Decompressed
from envgraph.image.tarwrite import END, directory_header, file_header, padding
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    LAYER_TYPES,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER_ZSTD,
    REF_NAME,
    Descriptor,
    Index,
    Manifest,
    document_bytes,
    list_bytes,
    read_config,
    read_document,
)
from envgraph.model.reference import BadReferenceError, parse_registry_reference
from envgraph_store.digest import Digest

_CHUNK: Final = 1 << 20
_CONTAINERD_NAME: Final = "io.containerd.image.name"
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'

Pieces = Iterator[bytes]


class BlobReader(Protocol):
    """The store's blobs: what is opened has been verified."""

    def read(self, digest: Digest, limit: int = ...) -> bytes:
        """A whole blob."""
        ...

    def open(self, digest: Digest) -> BinaryIO:
        """A blob from its first byte."""
        ...

    def size(self, digest: Digest) -> int:
        """Its bytes."""
        ...


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the layout: its bytes are made when they are written."""

    name: str
    size: int
    pieces: Callable[[], Pieces]


def export_oci(
    blobs: BlobReader,
    image: Digest,
    names: Sequence[str],
    out: Path | BinaryIO,
    *,
    docker: bool = True,
) -> int:
    """Write the image (manifest or index) with ``names``; the bytes of all its files.

    ``out`` is a stream that gets a tar, a path that ends in ``.tar``, or a folder
    that is not there yet or empty. A path appears whole or not at all. Without
    ``docker`` there is no ``manifest.json``, and every blob is there once. Of an
    index, ``manifest.json`` shows linux/amd64, or else the first image: docker
    before 25 knows one platform.
    """
    files = _layout_files(blobs, image, names, docker)
    if not isinstance(out, Path):
        _write_tar(files, out)
    elif out.suffix == ".tar":
        _write_tar_file(files, out)
    else:
        _write_folder(files, out)
    return sum(file.size for file in files)


def write_layout_tar(
    path: Path,
    index: Sequence[Descriptor],
    blobs: Mapping[Digest, tuple[int, Callable[[], BinaryIO]]],
) -> int:
    """Write a tar of a layout with these entries and blobs (size, opener); its files' bytes.

    The path appears whole or not at all.
    """
    document = {"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX}
    entries = document_bytes(document | {"manifests": [entry.to_json() for entry in index]})
    files = [_document("index.json", entries), _document("oci-layout", _LAYOUT)]
    for digest in sorted(blobs):
        size, opened = blobs[digest]
        files.append(_File(_blob_name(digest), size, partial(_pieces_of, opened)))
    _write_tar_file(files, path)
    return sum(file.size for file in files)


def _pieces_of(opened: Callable[[], BinaryIO]) -> Pieces:
    with opened() as source:
        while data := source.read(_CHUNK):
            yield data


def _layout_files(
    blobs: BlobReader, image: Digest, names: Sequence[str], docker: bool
) -> list[_File]:
    """Every file, small documents first, then blobs by digest."""
    data = blobs.read(image, DOCUMENT_LIMIT)
    root = read_document(data, "", f"image {image}")
    manifests = _manifests(blobs, image, root)
    found: dict[str, _File] = {}
    for digest in _referenced(image, root, manifests):
        _add_blob(found, blobs, digest)
    documents = [
        _document("index.json", _index(root, image, len(data), names)),
        _document("oci-layout", _LAYOUT),
    ]
    if docker:
        shown = _shown_to_docker(root, manifests)
        layers = _docker_layers(blobs, shown, found)
        documents.append(_document("manifest.json", _docker_manifest(shown, layers, names)))
    return [*sorted(documents, key=_by_name), *sorted(found.values(), key=_by_name)]


def _by_name(file: _File) -> str:
    return file.name


def _manifests(
    blobs: BlobReader, image: Digest, root: Manifest | Index
) -> Mapping[Digest, Manifest]:
    if isinstance(root, Manifest):
        return {image: root}
    manifests: dict[Digest, Manifest] = {}
    for entry in root.manifests:
        what = f"manifest {entry.digest}"
        data = blobs.read(entry.digest, DOCUMENT_LIMIT)
        manifest = read_document(data, entry.media_type, what)
        if not isinstance(manifest, Manifest):
            raise IntegrityError(f"{what}: an index within an index is not exported")
        manifests[entry.digest] = manifest
    return manifests


def _referenced(
    image: Digest, root: Manifest | Index, manifests: Mapping[Digest, Manifest]
) -> Iterator[Digest]:
    yield image
    yield from manifests
    for manifest in manifests.values():
        yield manifest.config.digest
        yield from (layer.digest for layer in manifest.layers)


def _index(root: Manifest | Index, image: Digest, size: int, names: Sequence[str]) -> bytes:
    media_type = OCI_IMAGE_MANIFEST if isinstance(root, Manifest) else OCI_IMAGE_INDEX
    entries = [
        Descriptor(media_type, image, size, annotations=_annotations(name)).to_json()
        for name in sorted(set(names)) or [""]
    ]
    return document_bytes({"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX, "manifests": entries})


def _annotations(name: str) -> dict[str, str]:
    if not name:
        return {}
    try:
        return {REF_NAME: name, _CONTAINERD_NAME: str(parse_registry_reference(name))}
    except BadReferenceError:
        return {REF_NAME: name}


def _shown_to_docker(root: Manifest | Index, manifests: Mapping[Digest, Manifest]) -> Manifest:
    if isinstance(root, Manifest):
        return root
    if not root.manifests:
        raise IntegrityError("the index names no image")
    usual = [e for e in root.manifests if e.platform and e.platform.architecture == "amd64"]
    return manifests[(usual or root.manifests)[0].digest]


def _docker_layers(blobs: BlobReader, manifest: Manifest, found: dict[str, _File]) -> list[str]:
    """The files that docker unpacks; those of zstd layers are added to ``found``."""
    what = f"config {manifest.config.digest}"
    config = read_config(blobs.read(manifest.config.digest, DOCUMENT_LIMIT), what)
    if len(config.diff_ids) != len(manifest.layers):
        raise IntegrityError(f"{what}: it does not list the manifest's layers")
    names = []
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        if LAYER_TYPES[layer.media_type] == OCI_LAYER_ZSTD:
            name = _blob_name(diff_id)
            if name not in found:
                found[name] = _unpacked(blobs, layer, diff_id, name)
            names.append(name)
        else:
            names.append(_blob_name(layer.digest))
    return names


def _docker_manifest(manifest: Manifest, layers: list[str], names: Sequence[str]) -> bytes:
    tags = []
    for name in sorted(set(names)):
        try:
            tags.append(_docker_tag(name))
        except BadReferenceError:
            continue
    image = {"Config": _blob_name(manifest.config.digest), "RepoTags": tags, "Layers": layers}
    return list_bytes([image])


def _docker_tag(name: str) -> str:
    """``name:tag`` as docker shows it, without its default host."""
    reference = parse_registry_reference(name)
    if reference.digest:
        raise BadReferenceError("docker load gives tags, not digests")
    return str(reference).removeprefix("docker.io/").removeprefix("library/")


def _blob_name(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _document(name: str, data: bytes) -> _File:
    return _File(name, len(data), lambda: iter((data,)))


def _add_blob(found: dict[str, _File], blobs: BlobReader, digest: Digest) -> None:
    name = _blob_name(digest)
    if name not in found:
        pieces = partial(_pieces_of, partial(blobs.open, digest))
        found[name] = _File(name, blobs.size(digest), pieces)


def _unpacked(blobs: BlobReader, layer: Descriptor, diff_id: Digest, name: str) -> _File:
    """The layer's tar as a blob; it is read twice, because a tar tells sizes first."""

    def pieces() -> Pieces:
        with blobs.open(layer.digest) as source:
            yield from _raw_pieces(open_layer(source, layer.media_type))

    size, digest = 0, hashlib.sha256()
    for piece in pieces():
        size += len(piece)
        digest.update(piece)
    if digest.hexdigest() != diff_id.hex:
        raise IntegrityError(f"the layer {layer.digest} does not unpack to {diff_id}")
    return _File(name, size, pieces)


def _raw_pieces(reader: Decompressed) -> Pieces:
    buffer = bytearray(_CHUNK)
    try:
        while count := reader.readinto(buffer):
            yield bytes(memoryview(buffer)[:count])
    except ValueError as error:
        raise IntegrityError(f"a layer {error}") from error


def _write_tar(files: Sequence[_File], out: BinaryIO) -> None:
    out.write(directory_header(b"blobs") + directory_header(b"blobs/sha256"))
    for file in files:
        out.write(file_header(file.name.encode(), file.size, executable=False))
        for piece in file.pieces():
            out.write(piece)
        out.write(padding(file.size))
    out.write(END)


def _write_tar_file(files: Sequence[_File], path: Path) -> None:
    """Write beside ``path`` and rename, so that no half of it is ever seen."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as out:
            _write_tar(files, out)
            out.flush()
            os.fchmod(out.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _write_folder(files: Sequence[_File], path: Path) -> None:
    """Write a folder beside ``path`` and rename it there."""
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"{path} is there already", code="exists", hint="name a new folder, or a .tar file"
            )
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        for folder in (temporary / "blobs", temporary / "blobs/sha256"):
            folder.mkdir()
            folder.chmod(0o755)
        for file in files:
            target = temporary / file.name
            with target.open("wb") as out:
                for piece in file.pieces():
                    out.write(piece)
            target.chmod(0o644)
        temporary.chmod(0o755)
        temporary.replace(path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be written: {error.strerror or error}", code="unwritable")
