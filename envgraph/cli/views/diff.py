"""Differences for people: as text for a terminal, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from envgraph.cli.views.changes import change_lines
from envgraph.cli.views.console import Styled, harmless, wrap
from envgraph.cli.views.text import many, size

if TYPE_CHECKING:
    from envgraph.cli.session import Session
    from envgraph.diff.packages import PackageChange
    from envgraph.diff.pictures import PictureDiff
    from envgraph.diff.versions import Lines, Moved, VersionDiff

_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}


def show_diff(found: VersionDiff | PictureDiff, session: Session) -> None:
    """From metadata to packages; what is equal is left out."""
    from envgraph.diff.versions import VersionDiff

    console = session.console
    show = console.out
    asked = isinstance(found, VersionDiff)
    for part in wrap(f"{found.before.title} -> {found.after.title}", console.width):
        show(Styled(part, "bold"))
    for line in _summary(found):
        for part in wrap(line, console.width - 2):
            show("  ", part)
    for title, lines in _sections(found):
        show()
        show(Styled(title, "bold"))
        for text in lines:
            for part in wrap(text, console.width - 2):
                show("  ", part)
    for title, changes in _packages(found):
        show()
        show(Styled(title, "bold"))
        for cells in change_lines(changes, console.symbols.arrow, "  ", asked=asked):
            show(*cells)


def as_markdown(found: VersionDiff | PictureDiff) -> str:
    """The same as Markdown, tables and all."""
    lines = [f"### {_code(found.before.title)} → {_code(found.after.title)}", ""]
    lines += [f"- {_plain(line)}" for line in _summary(found)]
    for title, texts in _sections(found):
        lines += ["", f"**{title}**", "", *(f"- {_code(text)}" for text in texts)]
    for title, changes in _packages(found):
        lines += ["", f"**{title}**", "", "| | package | from | to | |", "|---|---|---|---|---|"]
        for c in changes:
            cells = [_SIGNS[c.kind], _code(_name(c)), *map(_plain, _from_to(c))]
            lines.append(f"| {' | '.join([*cells, 'major' if c.major else ''])} |")
    return "\n".join(map(harmless, lines)) + "\n"


def _summary(found: VersionDiff | PictureDiff) -> Iterable[str]:
    from envgraph.diff.pictures import PictureDiff

    if found.same_image and found.before.image is not None and found.is_empty:
        yield f"nothing differs: both are the image {found.before.image}"
        return
    if found.is_empty:
        yield "nothing differs" + (", of what is known" if isinstance(found, PictureDiff) else "")
        return
    if isinstance(found, PictureDiff):
        if found.same_files:
            yield "the same files in every layer"
    else:
        yield from _same(found)
    layers = found.to_json()["layers"]
    if layers is not None and layers["new"]:
        yield (
            f"{layers['from']} -> {layers['to']} layers,"
            f" {layers['new']} of them new ({size(layers['new_bytes'])})"
        )
        if layers.get("recompressed"):
            yield f"{layers['recompressed']} of the new ones are old ones, compressed otherwise"
    elif layers is not None and not found.same_image:
        yield f"{layers['from']} -> {layers['to']} layers, none of them new"


def _same(found: VersionDiff) -> Iterable[str]:
    same = [
        word
        for word, equal in (
            ("definition", found.same_definition),
            ("lock", found.same_lock),
            ("runtime", found.same_runtime),
            ("image", found.same_image),
        )
        if equal
    ]
    if same:
        yield f"same {', '.join(same)}"
    if not found.same_definition and found.same_lock:
        yield "asked for otherwise, resolved the same"


def _packages(
    found: VersionDiff | PictureDiff,
) -> Iterable[tuple[str, Sequence[PackageChange]]]:
    from envgraph.diff.pictures import PictureDiff

    if isinstance(found, PictureDiff):  # an image does not say what was asked for
        if found.packages:
            yield many(len(found.packages), "package"), found.packages
        return
    direct = [c for c in found.packages if c.direct]
    nested = [c for c in found.packages if not c.direct]
    for what, changes in (("asked for", direct), ("that came along", nested)):
        if changes:
            majors = sum(c.major for c in changes)
            text = f"{many(len(changes), 'package')} {what}"
            yield text + (f", {many(majors, 'major change')}" if majors else ""), changes


def _sections(found: VersionDiff | PictureDiff) -> Iterable[tuple[str, list[str]]]:
    from envgraph.diff.pictures import PictureDiff

    if isinstance(found, PictureDiff):
        yield from _picture_sections(found)
        return
    if found.metadata:
        yield "Metadata", [_moved(item) for item in found.metadata]
    if not found.same_base or found.base_labels:
        yield "Base", _base(found)
    for title, lines in (
        ("Requirements", found.asked),
        ("Channels", found.channels),
        ("Docker steps", found.steps),
    ):
        if lines:
            yield title, _lines(lines)
    if found.images:
        yield "Images that steps or the Dockerfile name", [_moved(item) for item in found.images]
    build = [_moved(item) for item in (found.build, found.context) if item is not None]
    if build:
        yield "Build context", build
    for title, moved in (
        ("Build arguments", found.arguments),
        ("Environment variables", found.variables),
        ("Inference routes", found.routes),
    ):
        if moved:
            yield title, [_moved(item) for item in moved]


def _picture_sections(found: PictureDiff) -> Iterable[tuple[str, list[str]]]:
    from envgraph.diff.pictures import base_text

    before, after = found.bases
    if found.same_base is False and before is not None and after is not None:
        yield "Base", [base_text(before), f"-> {base_text(after)}"]
    if found.settings and not found.same_image:
        yield "Settings", [_moved(item) for item in found.settings]
    if found.unknown:
        yield "Not known", list(found.unknown)


def _base(found: VersionDiff) -> list[str]:
    lines = []
    if not found.same_base:
        before, after = found.before.lock.base, found.after.lock.base
        lines.append(f"{before.reference} {before.short} ({many(len(before.layers), 'layer')})")
        lines.append(f"-> {after.reference} {after.short} ({many(len(after.layers), 'layer')})")
    return lines + [f"label {_moved(item)}" for item in found.base_labels]


def _lines(lines: Lines) -> list[str]:
    text = [f"- {line}" for line in lines.removed] + [f"+ {line}" for line in lines.added]
    return text + (["the same lines in another order"] if lines.reordered else [])


def _moved(item: Moved) -> str:
    return f"{item.key}: {_value(item.before)} -> {_value(item.after)}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items() if item is not None)
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "-" if value is None else str(value)


def _name(change: PackageChange) -> str:
    return change.name + (" (pip)" if change.manager == "pip" else "")


def _from_to(change: PackageChange) -> list[str]:
    document = change.to_json()
    return [str(document["from"] or "-"), str(document["to"] or "-")]


def _code(text: str) -> str:
    """Text as Markdown's code, whatever is in it."""
    fence = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in a cell of a table too."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in text).replace("\n", " ")
