"""One version for people: what it is, where its image is, which packages it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from envgraph.cli.views.console import Piece, Styled, wrap
from envgraph.cli.views.text import listed, many, moment, size, table

if TYPE_CHECKING:
    from envgraph.cli.session import Session

_COLUMN: Final = 13
_MOST_PACKAGES: Final = 12
_MOST_LAYERS: Final = 6


def show_version(document: Mapping[str, Any], session: Session) -> None:
    """The object of ``show --json``, as a page."""
    console = session.console
    show = console.out

    def row(label: str, text: str) -> None:
        if not text:
            return
        first, *others = wrap(text, console.width - _COLUMN - 2)
        show("  ", Styled(label.ljust(_COLUMN), "dim"), first)
        for line in others:
            show(" " * (_COLUMN + 2), line)

    state = "  (archived)" if document.get("archived") else ""
    title: list[Piece] = [Styled(f"{document['name']}:{document['version']}", "bold")]
    show(*title, f"  {document['kind']}{state}")
    row("description", str(document.get("description") or ""))
    row("created", _created(document))
    row("labels", listed(document.get("labels") or (), 20))
    row("tags", _pairs(document.get("tags")))
    row("properties", _pairs(document.get("properties")))
    row("locked", moment(str(document.get("locked") or "")))
    row("definition", str(document["definition"]))
    row("lock", str(document["lock"]))
    row("image", str(document["image"]))
    row("", str(document["image_name"]))
    row("base", _base(document.get("base") or {}))
    row("context", _context(document.get("context") or {}))
    row("arguments", _pairs((document.get("context") or {}).get("arguments")))
    row("platforms", listed(_names(document.get("platforms")), 20))
    settings = document.get("runtime_settings") or {}
    row("variables", _pairs(settings.get("environment_variables")))
    row("routes", _routes(settings.get("inference_config")))
    row("used by", listed([str(u) for u in document.get("used_by") or ()], 10))
    show()
    _packages(document.get("packages") or (), session)
    show()
    _layers(document.get("layers") or (), session)


def _created(document: Mapping[str, Any]) -> str:
    text = moment(str(document.get("created") or ""))
    changed = document.get("changed") or ()
    if changed:
        text += f", because {listed(changed)} changed"
    if parent := document.get("parent"):
        text += f", from {parent}"
    return text


def _base(base: Mapping[str, Any]) -> str:
    reference = str(base.get("reference") or "")
    return f"{reference} {base['digest']}" if base.get("digest") else reference


def _context(context: Mapping[str, Any]) -> str:
    origin = context.get("origin") or {}
    return f"{origin['address']} {origin['pinned']}" if origin else str(context.get("tree") or "")


def _pairs(values: object) -> str:
    if not isinstance(values, Mapping):
        return ""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _routes(config: object) -> str:
    if not isinstance(config, Mapping):
        return ""
    return ", ".join(
        f"{name} {r.get('path')} on port {r.get('port')}" for name, r in config.items()
    )


def _names(values: object) -> list[str]:
    return [str(v) for v in values] if isinstance(values, Mapping | list | tuple) else []


def _packages(packages: Sequence[Mapping[str, Any]], session: Session) -> None:
    show = session.console.out
    total = sum(int(p.get("size") or 0) for p in packages)
    direct = [p for p in packages if p.get("direct")]
    text = f"{many(len(packages), 'package')}"
    if direct:
        text += f", {len(direct):,} of them asked for"
    show(Styled(text, "bold"), f"; {size(total)} of archives" if total else "")
    listing = packages if session.common.verbose or not direct else direct
    limit = len(listing) if session.common.verbose else _MOST_PACKAGES
    rows = [
        [
            str(p["name"]) + (" (pip)" if p.get("manager") == "pip" else ""),
            str(p["version"]),
            str(p.get("build") or ""),
            size(int(p.get("size") or 0)),
        ]
        for p in listing[:limit]
    ]
    for line in table(rows, indent="  ", right=(3,)):
        show(*line)
    hidden = len(packages) - len(rows)
    if hidden:
        what = "more" if rows else "packages"
        show(f"  {session.console.symbols.dots} and {hidden:,} {what} (-v lists them)")


def _layers(layers: Sequence[Mapping[str, Any]], session: Session) -> None:
    show = session.console.out
    total = sum(int(layer.get("size") or 0) for layer in layers)
    show(Styled(many(len(layers), "layer"), "bold"), f"; {size(total)} compressed")
    ordered = layers
    if not session.common.verbose:
        ordered = sorted(layers, key=lambda item: -int(item.get("size") or 0))[:_MOST_LAYERS]
    rows = [
        [
            str(layer["digest"]).removeprefix("sha256:")[:12],
            size(int(layer.get("size") or 0)),
            listed(_package_names(layer), 4 if not session.common.verbose else 10**6),
        ]
        for layer in ordered
    ]
    for line in table(rows, indent="  ", right=(1,)):
        show(*line)
    hidden = len(layers) - len(rows)
    if hidden:
        show(f"  {session.console.symbols.dots} and {hidden:,} smaller ones (-v lists them)")


def _package_names(layer: Mapping[str, Any]) -> list[str]:
    """The packages in a layer, or what else it is."""
    return [
        str(p) for p in layer.get("packages") or (layer.get("step") or layer.get("kind") or "",)
    ]
