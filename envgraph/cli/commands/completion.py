"""``completion``: a script that lets a shell complete verbs, flags and environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.options import Operand, Signature, Values
from envgraph.cli.session import Session

NAMES: Final = "names"
SHELLS: Final = ("bash", "zsh", "fish", NAMES)
SIGNATURE: Final = Signature(
    operands=(Operand("SHELL", "the shell, or `names` for what its script asks", choices=SHELLS),),
    notes=(
        "Prints a script that completes verbs, flags, their values, and the names of the "
        "environments that are registered. It is made from what this version takes: make it "
        "anew after an update.",
    ),
    examples=(
        ('eval "$(envgraph completion bash)"', "a line for ~/.bashrc; or keep what it prints"),
        ("envgraph completion zsh > ~/.zfunc/_envgraph", "for zsh, with ~/.zfunc in $fpath"),
        ("envgraph completion fish > ~/.config/fish/completions/envgraph.fish", "for fish"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The shell, or :data:`NAMES`."""

    shell: str


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(values.word("SHELL") or "")


def run(arguments: Arguments, session: Session) -> int:
    """Print the script, or the names of environments, one a line."""
    if arguments.shell == NAMES:
        names = _names(session)
        if session.common.json:
            session.answer({"names": names})
        elif names:
            session.console.raw("\n".join(names))
        return 0
    script = _script(arguments.shell)
    if session.common.json:
        session.answer({"shell": arguments.shell, "script": script})
    else:
        session.console.raw(script)
    return 0


def _script(shell: str) -> str:
    from envgraph.cli.completion import bash, fish, zsh
    from envgraph.cli.completion.words import all_verbs

    scripts = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}
    return scripts[shell](all_verbs())


def _names(session: Session) -> list[str]:
    """The names that ``list`` shows: one ref is read for each, and no record."""
    with session.open_workspace() as workspace:
        if not workspace.store_path.is_dir():
            return []
        return [item.name for item in workspace.versions.listed()]
