"""What an export is: text, and what of the environment it does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envgraph.errors import Diagnostic
from envgraph.model.locked import LockedPackage


@dataclass(frozen=True, slots=True)
class Document:
    """A text file for another tool; ``diagnostics`` say what it had no place for."""

    text: str
    diagnostics: tuple[Diagnostic, ...] = ()


def private_addresses(packages: Sequence[LockedPackage]) -> list[Diagnostic]:
    """A warning where addresses hold references (``${TOKEN}``) instead of credentials."""
    named = [p for p in packages if "${" in p.url]
    if not named:
        return []
    return [
        Diagnostic(
            "credentials-left-out",
            f"the addresses of {len(named)} packages hold a reference instead of a credential",
            named[0].url,
            hint="set the variable, or let the other tool's own configuration supply the login",
            severity="warning",
        )
    ]
