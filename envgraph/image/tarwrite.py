"""Tar headers, written directly: owner root, fixed modes, 1980-01-01, nothing else.

ustar where a name fits, one pax header before it where it does not (longer than
100 bytes and not splittable, not ASCII, or 8 GiB and more).
"""

from __future__ import annotations

from typing import Final

MTIME: Final = 315_532_800
"""1980-01-01 00:00:00 UTC: the first moment that zip files can hold too."""

END: Final = bytes(1024)
"""Two zero blocks: the end of an archive."""

_BLOCK: Final = 512
_PADDING: Final = tuple(bytes(-n % _BLOCK) for n in range(_BLOCK))
_AFTER_MODE: Final = b"0000000\x000000000\x00"
_MTIME: Final = b"%011o\0" % MTIME
_MAGIC: Final = b"ustar\x0000"
_OWNER: Final = bytes(32) + bytes(32) + b"0000000\x000000000\x00"
_MODES: Final = {0o644: b"0000644\0", 0o755: b"0000755\0", 0o777: b"0000777\0"}
_FIXED_SUM: Final = sum(_AFTER_MODE) + sum(_MTIME) + 8 * 32 + sum(_MAGIC) + sum(_OWNER)
_MAX_OCTAL: Final = 8**11


def padding(size: int) -> bytes:
    """The zeros that fill a file of ``size`` bytes up to whole blocks."""
    return _PADDING[size % _BLOCK]


def file_header(name: bytes, size: int, *, executable: bool) -> bytes:
    """The header of a regular file, 0755 or 0644."""
    return _header(name, b"0", 0o755 if executable else 0o644, size, b"")


def directory_header(name: bytes) -> bytes:
    """The header of a directory, 0755; ``name`` without its final slash."""
    return _header(name + b"/", b"5", 0o755, 0, b"")


def symlink_header(name: bytes, target: bytes) -> bytes:
    """The header of a symbolic link."""
    return _header(name, b"2", 0o777, 0, target)


def hardlink_header(name: bytes, target: bytes, *, executable: bool) -> bytes:
    """The header of a second name for ``target``, a file earlier in the same archive."""
    return _header(name, b"1", 0o755 if executable else 0o644, 0, target)


def _header(name: bytes, kind: bytes, mode: int, size: int, link: bytes) -> bytes:
    short, prefix = _split(name)
    if (
        short is None
        or len(link) > 100
        or size >= _MAX_OCTAL
        or not name.isascii()
        or not link.isascii()
    ):
        return _extended(name, kind, mode, size, link)
    return _block(short, prefix, kind, mode, size, link)


def _split(name: bytes) -> tuple[bytes | None, bytes]:
    """The name and prefix fields of ustar; None where the name has no place."""
    if len(name) <= 100:
        return name, b""
    cut = name.rfind(b"/", 0, 156)
    while cut > 0:
        if 0 < len(name) - cut - 1 <= 100:
            return name[cut + 1 :], name[:cut]
        cut = name.rfind(b"/", 0, cut) if len(name) - cut - 1 < 1 else -1
    return None, b""


def _extended(name: bytes, kind: bytes, mode: int, size: int, link: bytes) -> bytes:
    records = _record(b"path", name)
    if link:
        records += _record(b"linkpath", link)
    if size >= _MAX_OCTAL:
        records += _record(b"size", b"%d" % size)
        size = 0
    extended = _block(b"././@PaxHeader", b"", b"x", 0o644, len(records), b"")
    tail = _block(_plain(name), b"", kind, mode, size, _plain(link))
    return extended + records + padding(len(records)) + tail


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    total = length + len(str(length))
    if len(str(total)) != len(str(length)):
        total = length + len(str(total))
    return b"%d %s=%s\n" % (total, key, value)


def _plain(text: bytes) -> bytes:
    """What an old reader sees: the start of the name, ASCII."""
    return bytes(c if c < 128 else ord("?") for c in text[:100])


def _block(name: bytes, prefix: bytes, kind: bytes, mode: int, size: int, link: bytes) -> bytes:
    mode_field = _MODES[mode]
    size_field = b"%011o\0" % size
    total = (
        _FIXED_SUM
        + sum(name)
        + sum(prefix)
        + kind[0]
        + sum(mode_field)
        + sum(size_field)
        + sum(link)
    )
    return b"".join(
        (
            name.ljust(100, b"\0"),
            mode_field,
            _AFTER_MODE,
            size_field,
            _MTIME,
            b"%06o\0 " % total,
            kind,
            link.ljust(100, b"\0"),
            _MAGIC,
            _OWNER,
            prefix.ljust(167, b"\0"),
        )
    )
