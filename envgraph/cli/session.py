"""What a command is given to act with: the common flags, the console, the workspace."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from envgraph.cli.arguments import Common
from envgraph.cli.views.console import Console
from envgraph.cli.views.diagnostics import print_diagnostics, redacted
from envgraph.errors import Diagnostic

if TYPE_CHECKING:
    from envgraph.workspace import Workspace


@dataclass(slots=True)
class Session:
    """One run of one verb. ``problems`` are the errors that decide exit code 1."""

    common: Common
    console: Console
    stdin: TextIO
    environment: Mapping[str, str]
    problems: list[Diagnostic] = field(default_factory=list)
    notices: list[Diagnostic] = field(default_factory=list)

    def open_workspace(self) -> Workspace:
        """The workspace of ``-C``; remarks on its envgraph.yaml are reported."""
        from envgraph.workspace import Workspace

        workspace = Workspace.open(
            self.common.folder,
            store=self.common.store,
            offline=self.common.offline,
            lock_timeout=self.common.lock_timeout,
        )
        self.report(workspace.diagnostics)
        return workspace

    def report(self, diagnostics: Sequence[Diagnostic]) -> None:
        """Keep errors for the end; print the others now, or add them to the JSON answer."""
        self.problems += [d for d in diagnostics if d.severity == "error"]
        others = [d for d in diagnostics if d.severity != "error" and d not in self.notices]
        self.notices += others
        if not self.common.json:
            print_diagnostics(self.console, others)

    def answer(self, document: Mapping[str, object]) -> None:
        """The one JSON object on stdout; remarks go into its ``diagnostics``."""
        whole: dict[str, object] = {"format_version": "1", **document}
        if "diagnostics" not in whole:
            whole["diagnostics"] = [redacted(d) for d in (*self.problems, *self.notices)]
        self.console.raw(json.dumps(whole))

    def path(self, word: str) -> Path:
        """A file that the user named: from the workspace folder, else from here.

        Without ``-C`` the two are one. With it, the file is taken from here only when
        the workspace folder has none of that name.
        """
        path = Path(word)
        if path.is_absolute():
            return path
        there = self.common.folder / path
        return path if not os.path.lexists(there) and os.path.lexists(path) else there

    def paths(self, words: Sequence[str]) -> tuple[Path, ...]:
        """Several files."""
        return tuple(self.path(word) for word in words)
