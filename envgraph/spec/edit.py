"""Change one scalar of a YAML file where it stands; every other byte stays as it is."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from envgraph.errors import InputError, SourceLocation, StalePlanError
from envgraph.spec.problems import Problems, quoted
from envgraph.spec.text import decode

_BOM: Final = b"\xef\xbb\xbf"
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./](?:[A-Za-z0-9_./@:+-]*[A-Za-z0-9_./])?", re.ASCII)
"""Scalars that need no quotes anywhere in YAML: every docker reference is one."""


@dataclass(frozen=True, slots=True)
class ScalarEdit:
    """A file before and after. ``source`` is where the scalar begins."""

    file: str
    source: SourceLocation
    key: str
    old: str
    new: str
    before: bytes
    after: bytes

    def to_json(self) -> dict[str, object]:
        """The edit for programs."""
        return {
            "file": self.file,
            "line": self.source.line,
            "column": self.source.column,
            "key": self.key,
            "from": self.old,
            "to": self.new,
        }

    def write(self) -> None:
        """Put the new file in the old one's place, whole.

        StalePlanError when the file is not what it was; InputError when it cannot be
        written. A link stays one.
        """
        path = Path(os.path.realpath(self.file))
        temporary: str | None = None
        try:
            now = path.read_bytes()
            if now == self.after:
                return
            if now != self.before:
                raise StalePlanError(
                    f"{self.file} was changed meanwhile: it still says `{self.key}: {self.old}`",
                    code="edit-stale",
                    source=self.source,
                    hint=f"write `{self.key}: {self.new}` there: the lock has it already",
                )
            handle, temporary = tempfile.mkstemp(
                dir=path.parent, prefix=".envgraph-", suffix=".tmp"
            )
            with os.fdopen(handle, "wb") as stream:
                stream.write(self.after)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(path.stat().st_mode & 0o7777)
            Path(temporary).replace(path)
            temporary = None
        except OSError as error:
            raise InputError(
                f"{self.file} cannot be written",
                code="edit-write",
                detail=error.strerror or str(error),
                source=self.source,
                hint=f"write `{self.key}: {self.new}` there: the lock has it already",
            ) from None
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)


def edit_scalar(file: str, key: str, new: str) -> ScalarEdit | None:
    """The edit that makes the scalar under a top-level ``key`` say ``new``; writes nothing.

    None when the file has no such key. InputError with the place where it cannot be done
    without changing more: the value is merged in, an alias, has an anchor or a tag, is no
    scalar, spans lines or is a template.
    """
    before = Path(file).read_bytes()
    bom = _BOM if before.startswith(_BOM) else b""
    problems = Problems()
    text = decode(before, file, problems)
    if text is None:
        raise InputError(problems.result())
    found = _find(text, file, key)
    if found is None:
        return None
    event, place = found
    start, end = event.start_mark.index, event.end_mark.index
    changed = text[:start] + _written(new, event.style) + text[end:]
    return ScalarEdit(
        file, place, key, event.value.strip(), new, before, bom + changed.encode("utf-8")
    )


def _find(text: str, file: str, key: str) -> tuple[Any, SourceLocation] | None:
    """The event of the value, and its place; the pure parser's marks count characters."""
    import yaml

    depth, at_key, wanted, merged = 0, True, False, False
    try:
        event: Any
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            starts = isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent))
            ends = isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent))
            node = starts or isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent))
            if depth == 1 and node:
                if wanted:
                    return event, _check(event, text, file, key)
                if at_key and isinstance(event, yaml.ScalarEvent):
                    wanted = event.value == key
                    merged = merged or event.value == "<<"
                at_key = not at_key
            depth += 1 if starts else -1 if ends else 0
    except yaml.YAMLError as error:
        raise InputError(f"{file} is no YAML", detail=str(error)) from None
    if merged:
        place = SourceLocation(file, 1, 1)
        raise _cannot(file, key, place, "it comes from a mapping that is merged in")
    return None


def _check(event: Any, text: str, file: str, key: str) -> SourceLocation:
    from yaml import AliasEvent, ScalarEvent

    mark, end = event.start_mark, event.end_mark.index
    place = SourceLocation(file, mark.line + 1, mark.column + 1)
    if isinstance(event, AliasEvent):
        raise _cannot(file, key, place, f"its value is the alias *{event.anchor}")
    if not isinstance(event, ScalarEvent):
        raise _cannot(file, key, place, "its value is no text")
    if event.anchor:
        raise _cannot(file, key, place, f"its value has the anchor &{event.anchor}, used elsewhere")
    if event.tag:
        raise _cannot(file, key, place, "its value has a tag")
    if event.style in ("|", ">") or "\n" in text[mark.index : end]:
        raise _cannot(file, key, place, "its value spans lines")
    if "{{" in event.value or "{%" in event.value:
        raise _cannot(file, key, place, f"{quoted(event.value)} is a template")
    return place


def _cannot(file: str, key: str, place: SourceLocation, why: str) -> InputError:
    return InputError(
        f"`{key}:` cannot be changed in place: {why}",
        code="edit-refused",
        source=place,
        hint=f"change `{key}:` yourself, then `envgraph apply`",
    )


def _written(new: str, style: str | None) -> str:
    """The scalar in the style that it had, where that can hold it."""
    if style == "'":
        return "'" + new.replace("'", "''") + "'"
    if style is None and _PLAIN.fullmatch(new) and ": " not in new:
        return new
    return json.dumps(new, ensure_ascii=False)
