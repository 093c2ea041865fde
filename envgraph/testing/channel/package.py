"""Packages made by hand: a few lines of a test say all that a package holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from envgraph.testing.channel.archive import EPOCH_MS, PLACEHOLDER, Entry, FileMode, Package


@dataclass(frozen=True, slots=True)
class File:
    """A file. ``prefix=None`` finds out: text or binary where it holds PLACEHOLDER."""

    data: bytes | str
    executable: bool = False
    prefix: FileMode | None = None
    no_link: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link with this target, relative to its own folder."""

    target: str


Content = bytes | str | File | Link


def make_package(
    name: str,
    version: str = "1.0",
    build: str = "0",
    depends: Sequence[str] = (),
    files: Mapping[str, Content] | None = None,
    *,
    build_number: int = 0,
    subdir: str | None = None,
    noarch: Literal["", "python", "generic"] = "",
    constrains: Sequence[str] = (),
    entry_points: Sequence[str] = (),
    activate: str | None = None,
    deactivate: str | None = None,
    env_vars: Mapping[str, str] | None = None,
    post_link: str | None = None,
    pre_unlink: str | None = None,
    license: str = "",
    python_site_packages_path: str = "",
    timestamp_ms: int = EPOCH_MS,
    index_extra: Mapping[str, object] | None = None,
    info_files: Mapping[str, bytes] | None = None,
) -> Package:
    """Make a package from contents by path.

    ``subdir`` is ``noarch`` for noarch packages and ``linux-64`` for others. A text
    or bytes that holds :data:`PLACEHOLDER` is marked as conda-build would mark it:
    ``binary`` if it holds a NUL byte, else ``text``. ``activate``, ``deactivate``,
    ``post_link`` and ``pre_unlink`` are shell scripts; ``env_vars`` becomes a file of
    ``etc/conda/env_vars.d``.
    """
    contents: dict[str, Content] = dict(files or {})
    if activate is not None:
        contents[f"etc/conda/activate.d/{name}_activate.sh"] = activate
    if deactivate is not None:
        contents[f"etc/conda/deactivate.d/{name}_deactivate.sh"] = deactivate
    if env_vars is not None:
        contents[f"etc/conda/env_vars.d/{name}.json"] = json.dumps(dict(env_vars), sort_keys=True)
    if post_link is not None:
        contents[f"bin/.{name}-post-link.sh"] = File(post_link, executable=True)
    if pre_unlink is not None:
        contents[f"bin/.{name}-pre-unlink.sh"] = File(pre_unlink, executable=True)
    return Package(
        name=name,
        version=version,
        build=build,
        build_number=build_number,
        subdir=subdir or ("noarch" if noarch else "linux-64"),
        noarch=noarch,
        depends=tuple(depends),
        constrains=tuple(constrains),
        license=license,
        timestamp_ms=timestamp_ms,
        python_site_packages_path=python_site_packages_path,
        entry_points=tuple(entry_points),
        entries=tuple(_entry(path, contents[path]) for path in sorted(contents)),
        index_extra=dict(index_extra or {}),
        info_files=dict(info_files or {}),
    )


def prefix_mode(data: bytes, placeholder: str = PLACEHOLDER) -> FileMode:
    """How a file holds the placeholder: not at all, as text, or in a binary."""
    if placeholder.encode() not in data:
        return ""
    return "binary" if b"\0" in data else "text"


def file_entry(path: str, data: bytes, *, executable: bool = False) -> Entry:
    """A file's entry, with the prefix placeholder found and marked."""
    mode = prefix_mode(data)
    return Entry(
        path,
        data,
        executable=executable,
        placeholder=PLACEHOLDER if mode else "",
        file_mode=mode,
    )


def _entry(path: str, content: Content) -> Entry:
    if isinstance(content, Link):
        return Entry(path, target=content.target)
    if not isinstance(content, File):
        content = File(content)
    data = content.data.encode() if isinstance(content.data, str) else content.data
    mode = prefix_mode(data) if content.prefix is None else content.prefix
    return Entry(
        path,
        data,
        executable=content.executable,
        placeholder=PLACEHOLDER if mode else "",
        file_mode=mode,
        no_link=content.no_link,
    )
