"""Layers that belong to no package: the first one, and the entrypoint wrapper's."""

from __future__ import annotations

from collections.abc import Mapping

from envgraph.image.content import LayerContent
from envgraph.image.layerwriter import LayerWriter, Write, parents_of
from envgraph.image.options import LayerOptions

OPAQUE: str = ".wh..wh..opq"
"""An OCI whiteout: what the base has in this folder is hidden."""

_HISTORY = b"==> 1980-01-01 00:00:00 <==\n# cmd: envgraph apply\n"
"""Without ``conda-meta/history`` no conda takes the folder for an environment. It
names no package: which ones are there is said by their own files, and a layer that
named them would be new for every combination."""


def write_root_layer(options: LayerOptions, write: Write) -> LayerContent:
    """The prefix with an opaque whiteout (nothing of the base shows through) and conda's mark."""
    writer = LayerWriter(options, write, parents_of(["conda-meta/history"]))
    writer.add_whiteout(OPAQUE)
    writer.add_file("conda-meta/history", _HISTORY, executable=False)
    return writer.finish()


def write_files_layer(
    files: Mapping[str, bytes], options: LayerOptions, write: Write
) -> LayerContent:
    """A tiny layer with ``files`` by path below the prefix, the same for equal files.

    Those that begin with ``#!`` are executable.
    """
    writer = LayerWriter(options, write, parents_of(files))
    for path in sorted(files):
        writer.add_file(path, files[path], executable=files[path].startswith(b"#!"))
    return writer.finish()
