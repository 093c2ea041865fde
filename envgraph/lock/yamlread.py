"""YAML of a lockfile → plain values, by the C parser's events.

libyaml's composer recurses in C: a file of a hundred thousand ``[`` kills the
interpreter. Events are a flat stream, so depth is bounded here, aliases (bombs) and
tags are refused, and a key that is there twice is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from envgraph.errors import InputError, SourceLocation

DEEPEST: Final = 24
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(
    r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
"""What PyYAML takes for a number (YAML 1.1), and so what it quotes where text is meant:
it writes ``-.0`` and ``1.0e5`` as they are."""
_WORDS: Final[dict[str, object]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "yes": True, "Yes": True, "YES": True,
    "on": True, "On": True, "ON": True,
    "false": False, "False": False, "FALSE": False, "no": False, "No": False, "NO": False,
    "off": False, "Off": False, "OFF": False,
}  # fmt: skip


def load_yaml(text: str, file: str) -> Any:
    """The one document in ``text``. Raises InputError (code ``lock-yaml``) with its place."""
    import yaml

    try:
        return _build(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), file)
    except yaml.MarkedYAMLError as error:
        raise _wrong(f"not YAML: {error.problem}", file, error.problem_mark) from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(
            "not YAML", code="lock-yaml", detail=str(error), source=SourceLocation(file)
        ) from None


def _wrong(problem: str, file: str, mark: Any) -> InputError:
    place = (
        SourceLocation(file, mark.line + 1, mark.column + 1)
        if mark is not None
        else SourceLocation(file)
    )
    return InputError(problem, code="lock-yaml", source=place)


def _scalar(event: Any) -> object:
    value: str = event.value
    if not event.implicit[0]:
        return value
    if value in _WORDS:
        return _WORDS[value]
    first = value[0]
    if first in "0123456789+-.":
        if _INTEGER.fullmatch(value):
            return int(value) if len(value) < 100 else value
        if _FLOAT.fullmatch(value):
            return float(re.sub(r"\.(inf|nan)", r"\1", value.lower()))
    return value


def _build(events: Iterator[Any], file: str) -> Any:
    import yaml

    scalar, alias = yaml.ScalarEvent, yaml.AliasEvent
    opening = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
    closing = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
    document: Any = None
    documents = 0
    stack: list[Any] = []  # lists and dicts that are open
    keys: list[Any] = []  # for each open one: the pending key, or _NO_KEY
    for event in events:
        kind = type(event)
        if kind is scalar or kind in opening:
            if event.tag is not None and not (kind is scalar and event.tag == "!"):
                raise _wrong(f"the tag {event.tag} has no place here", file, event.start_mark)
            value: Any = _scalar(event) if kind is scalar else {} if kind is opening[0] else []
            if not stack:
                document = value
            elif isinstance(stack[-1], list):
                stack[-1].append(value)
            elif keys[-1] is _NO_KEY:
                if kind is not scalar:
                    raise _wrong("a key must be text", file, event.start_mark)
                if value in stack[-1]:
                    raise _wrong(f"the key {value!r} is there twice", file, event.start_mark)
                keys[-1] = value
            else:
                stack[-1][keys[-1]] = value
                keys[-1] = _NO_KEY
            if kind is not scalar:
                if len(stack) >= DEEPEST:
                    raise _wrong("nested too deeply", file, event.start_mark)
                stack.append(value)
                keys.append(_NO_KEY)
        elif kind in closing:
            stack.pop()
            keys.pop()
        elif kind is alias:
            raise _wrong("aliases have no place in a lockfile", file, event.start_mark)
        elif kind is yaml.DocumentStartEvent:
            documents += 1
            if documents > 1:
                raise _wrong("more than one document", file, event.start_mark)
    return document


_NO_KEY: Final = object()
