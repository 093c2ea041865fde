"""Just enough MessagePack to write sharded repodata (CEP 16): no floats, no timestamps."""

from __future__ import annotations

import struct


def pack(value: object) -> bytes:
    """Encode None, bool, int, str, bytes, lists, tuples and dicts with string keys.

    Raises TypeError for anything else and ValueError for an int beyond 64 bits.
    """
    out: list[bytes] = []
    _pack(value, out)
    return b"".join(out)


def _pack(value: object, out: list[bytes]) -> None:
    if isinstance(value, str):
        data = value.encode()
        out.append(_head(len(data), 0xA0, 32, (0xD9, 0xDA, 0xDB)))
        out.append(data)
    elif value is None or isinstance(value, bool):
        out.append({None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value])
    elif isinstance(value, int):
        out.append(_integer(value))
    elif isinstance(value, bytes):
        out.append(_head(len(value), None, 0, (0xC4, 0xC5, 0xC6)))
        out.append(value)
    elif isinstance(value, dict):
        out.append(_head(len(value), 0x80, 16, (None, 0xDE, 0xDF)))
        for key, item in value.items():
            _pack(key, out)
            _pack(item, out)
    elif isinstance(value, list | tuple):
        out.append(_head(len(value), 0x90, 16, (None, 0xDC, 0xDD)))
        for item in value:
            _pack(item, out)
    else:
        raise TypeError(f"cannot pack {type(value).__name__}")


def _head(length: int, short: int | None, below: int, tags: tuple[int | None, int, int]) -> bytes:
    one, two, four = tags
    if short is not None and length < below:
        return bytes((short | length,))
    if one is not None and length < 0x100:
        return bytes((one, length))
    if length < 0x10000:
        return struct.pack(">BH", two, length)
    return struct.pack(">BI", four, length)


def _integer(value: int) -> bytes:
    if 0 <= value < 0x80:
        return bytes((value,))
    if -0x20 <= value < 0:
        return struct.pack(">b", value)
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"{value} does not fit in 64 bits")
    if value < 0:
        return struct.pack(">Bq", 0xD3, value)
    for tag, code in ((0xCC, "B"), (0xCD, "H"), (0xCE, "I")):
        if value < 1 << 8 * struct.calcsize(code):
            return struct.pack(f">B{code}", tag, value)
    return struct.pack(">BQ", 0xCF, value)
