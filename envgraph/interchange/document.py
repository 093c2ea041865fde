"""What an export is: text, and what of the environment it does not hold."""

from __future__ import annotations

from dataclasses import dataclass

from envgraph.errors import Diagnostic


@dataclass(frozen=True, slots=True)
class Document:
    """A text file for another tool; ``diagnostics`` say what it had no place for."""

    text: str
    diagnostics: tuple[Diagnostic, ...] = ()
