"""``completion``: a script that lets a shell complete verbs, flags and environments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import UsageError

SHELLS: Final = ("bash", "zsh", "fish")
SIGNATURE: Final = Signature(
    operands=(Operand("SHELL", "the shell to make it for", "optional", SHELLS),),
    flags=(Flag("--names", "the names of all environments, for these scripts", hidden=True),),
    notes=(
        "Prints a script that completes verbs, flags, their values, and the names of the "
        "environments that are registered. It is made from what this version takes: make it "
        "anew after an update.",
    ),
    examples=(
        (
            "envgraph completion bash > ~/.local/share/bash-completion/completions/envgraph",
            "for bash, if the package bash-completion is there; else source it in ~/.bashrc",
        ),
        ("envgraph completion zsh > ~/.zfunc/_envgraph", "for zsh, with ~/.zfunc in $fpath"),
        ("envgraph completion fish > ~/.config/fish/completions/envgraph.fish", "for fish"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The shell; empty for the names that its script asks for."""

    shell: str


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError when no shell is named."""
    shell = values.word("SHELL") or ""
    if not shell and not values.on("--names"):
        raise UsageError("envgraph completion needs a SHELL: bash, zsh or fish")
    return Arguments(shell)


def run(arguments: Arguments, session: Session) -> int:
    """Print the script, or the names one a line."""
    text = _script(arguments.shell) if arguments.shell else _names(session)
    if session.common.json:
        answer = {"shell": arguments.shell, "script": text}
        session.answer(answer if arguments.shell else {"names": text.splitlines()})
        return 0
    for line in text.splitlines():
        session.console.raw(line)
    return 0


def _script(shell: str) -> str:
    from envgraph.cli.completion import bash, fish, zsh
    from envgraph.cli.completion.words import all_verbs

    scripts = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}
    return scripts[shell](all_verbs())


def _names(session: Session) -> str:
    """Names alone: no record is read, so ten thousand are as quick as one."""
    from envgraph.history.read import environment_names

    with session.open_workspace() as workspace:
        if not workspace.store_path.is_dir():
            return ""
        return "\n".join(environment_names(workspace.store, workspace.config.id))
