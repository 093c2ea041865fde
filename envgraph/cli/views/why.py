"""An explanation for people: one paragraph for each identity that differs, then the cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from envgraph.cli.views.console import Styled, wrap
from envgraph.cli.views.text import listed, many, size

if TYPE_CHECKING:
    from envgraph.cli.session import Session
    from envgraph.diff.deciding import Explanation
    from envgraph.diff.pictures import PictureWhy
    from envgraph.diff.why import Why

_MOST: Final = 20


def show_why(found: Why | PictureWhy, session: Session) -> None:
    """What is the same in one line; what differs with the inputs that decide."""
    console = session.console
    show = console.out

    def line(text: str, indent: str = "  ") -> None:
        for part in wrap(text, console.width - len(indent)):
            show(indent, part)

    for text in wrap(f"{found.diff.before.title} and {found.diff.after.title}", console.width):
        show(Styled(text, "bold"))
    parts = _parts(found)
    if found.diff.same_image and all(part.same for part in parts):
        line(f"both are the same image, {found.diff.before.image}")
        show()
        show("There is nothing to explain, and it costs nothing.")
        return
    same = [part.identity for part in parts if part.same]
    if same:
        line(f"same {listed(same)}")
    for part in (part for part in parts if not part.same):
        show()
        show(Styled(_title(part), "bold"))
        for item in part.inputs[: None if session.common.verbose else _MOST]:
            arrow = console.symbols.arrow
            line(f"{item.name}" + (f": {item.before} {arrow} {item.after}"
                                   if item.before != item.after else ""))  # fmt: skip
        hidden = len(part.inputs) - _MOST
        if hidden > 0 and not session.common.verbose:
            line(f"{console.symbols.dots} and {hidden:,} more (-v lists them)")
        if part.idle:
            line(f"no part in it: {listed(part.idle)}")
    show()
    show(_cost(found))
    if found.note:
        line(f"note: {found.note}", "")


def _parts(found: Why | PictureWhy) -> list[Explanation]:
    from envgraph.diff.pictures import PictureWhy

    if isinstance(found, PictureWhy):
        return [found.image]
    everything = (found.definition, found.lock, found.runtime, found.image)
    return [part for part in everything if part is not None]


def _title(part: Explanation) -> str:
    if not part.inputs:
        return f"Another {part.identity}"
    return f"Another {part.identity}, because of {many(len(part.inputs), 'input')}"


def _cost(found: Why | PictureWhy) -> str:
    layers = found.diff.to_json()["layers"]
    if layers is None:
        return "What it costs in layers is not known: an image is not in the store."
    if not layers["new"]:
        return "It costs no layer: every one of them is in the first image, too."
    text = f"It costs {many(layers['new'], 'layer')}, {size(layers['new_bytes'])} compressed"
    if layers.get("recompressed"):
        text += f"; {layers['recompressed']} hold what the first has, compressed otherwise"
    return text + "."
