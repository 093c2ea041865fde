"""``plugin list``, ``plugin check``: what plugins offer, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from envgraph.cli.options import Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.console import wrap
from envgraph.cli.views.text import many

if TYPE_CHECKING:
    from envgraph.api import BuilderPlugin, RegistryPlugin
    from envgraph.plugins import Found, Plugins

TASKS: Final = ("list", "check")

SIGNATURE: Final = Signature(
    operands=(Operand("TASK", "what to do", choices=TASKS),),
    notes=(
        "Plugins are Python packages with an entry point in the group `envgraph`, installed "
        "beside envgraph. list says what each offers, with the keys that envgraph.yaml may hold. "
        "check imports each and exits with 1 when anything is wrong: an import that fails, a hook "
        "or descriptor that this version does not take, options that are no frozen dataclass, two "
        "plugins with one name.",
    ),
    examples=(
        ("envgraph plugin list", "which `type:` a registry or a builder may have"),
        ("envgraph plugin check", "for authors, and after an upgrade"),
    ),
)

_SHOWN: Final = ("envgraph_registries", "envgraph_builders")
"""Hooks whose offers are listed themselves."""
_KINDS: Final = {str: "text", int: "number", bool: "true|false"}


@dataclass(frozen=True, slots=True)
class Arguments:
    """The task."""

    task: str


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(values.word("TASK") or "")


def run(arguments: Arguments, session: Session) -> int:
    """Load every plugin and tell; check is 1 when something is wrong."""
    from envgraph.plugins import Plugins

    plugins = Plugins()
    wrong = {found.title: _problems(plugins, found) for found in plugins.found}
    good = not any(wrong.values())
    code = 0 if good or arguments.task == "list" else 1
    if session.common.json:
        documents = [_document(plugins, found, wrong[found.title]) for found in plugins.found]
        session.answer({"good": good, "plugins": documents})
        return code
    show = session.console.out
    for found in plugins.found:
        show(found.title)
        if arguments.task == "list" or session.common.verbose:
            for line in _offers(plugins, found, session.console.width):
                show("  ", line)
        for problem in wrong[found.title]:
            show("  wrong: ", problem)
        if found.printed:
            first = found.printed.strip().partition("\n")[0]
            show("  remark: it prints while it is imported: ", first[:200])
    count = many(len(plugins.found), "plugin")
    bad = sum(1 for problems in wrong.values() if problems)
    if arguments.task == "check" or not plugins.found:
        show(f"{count}, {f'{bad} with problems' if bad else 'all good'}.")
    return code


def _problems(plugins: Plugins, found: Found) -> list[str]:
    """What is wrong with one plugin, its name clashes too."""
    clashes = [plugins.clash(kind) for kind in found.registries]
    clashes += [plugins.clash(kind, "builder") for kind in found.builders]
    return [*found.problems, *dict.fromkeys(filter(None, clashes))]


def _offers(plugins: Plugins, found: Found, width: int) -> list[str]:
    lines: list[str] = []
    for word, plugin in _offered(plugins, found):
        keys = ", ".join(_key(option) for option in _options(plugin))
        lines += wrap(f"{word} type {plugin.name}: {plugin.summary}", width - 2)
        lines += [f"    {line}" for line in wrap(f"keys: {keys or 'none'}", width - 6)]
    others = [hook for hook in found.hooks if hook not in _SHOWN]
    return lines + [f"hook {hook}" for hook in others]


def _offered(plugins: Plugins, found: Found) -> list[tuple[str, RegistryPlugin | BuilderPlugin]]:
    """Every type that a plugin offers, with the word for what it is."""
    registries = [("registry", plugins.registries[kind]) for kind in found.registries]
    return [*registries, *(("builder", plugins.builders[kind]) for kind in found.builders)]


def _document(plugins: Plugins, found: Found, problems: list[str]) -> dict[str, object]:
    return {
        "name": found.name,
        "distribution": found.distribution,
        "version": found.version,
        "module": found.value,
        "registries": _types(plugins, found, "registry"),
        "builders": _types(plugins, found, "builder"),
        "hooks": list(found.hooks),
        "problems": problems,
        "printed": found.printed,
    }


def _types(plugins: Plugins, found: Found, wanted: str) -> list[dict[str, object]]:
    return [
        {"type": plugin.name, "summary": plugin.summary, "options": _options(plugin)}
        for word, plugin in _offered(plugins, found)
        if word == wanted
    ]


def _options(plugin: RegistryPlugin | BuilderPlugin) -> list[dict[str, object]]:
    """The keys beside ``type``: name, type, whether one must be there."""
    from envgraph.plugins.options import kind_of

    hints = typing.get_type_hints(plugin.options)
    return [
        {
            "name": field.name,
            "type": _KINDS.get(kind_of(hints[field.name]), "list"),
            "required": field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING,
        }
        for field in dataclasses.fields(plugin.options)
    ]


def _key(option: dict[str, Any]) -> str:
    text = f"{option['name']} ({option['type']})"
    return text if option["required"] else f"[{text}]"
