"""The verbs: which module answers each, and which ones a later version will have."""

from __future__ import annotations

from typing import Final

GROUPS: Final[tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = (
    (
        "From a file to an image",
        (
            ("init", "write a commented envgraph.yaml and an example environment"),
            ("validate", "check environment files: every problem, with line and column"),
            ("lock", "pin what is not pinned, or check that the locks are current"),
            ("plan", "show what apply would do, and why; changes nothing"),
            ("apply", "do it: lock, build what is missing, store, register a version"),
        ),
    ),
    (
        "Look and use",
        (
            ("list", "environments with their kind, version and image"),
            ("show", "everything about one version"),
            ("history", "versions with what changed, and every move of a label"),
            ("diff", "what differs between two versions, down to packages"),
            ("why", "which input made another hash, and what it costs in layers"),
            ("graph", "the build graph as dot, mermaid, json or svg"),
            ("export", "the environment for conda, pip and container tools"),
            ("run", "run a command on this machine with the same packages"),
            ("shell", "your shell with an environment's packages"),
        ),
    ),
    (
        "Over the years",
        (
            ("edit", "change an environment in your editor, or make one from another"),
            ("clone", "a new environment from an existing version"),
            ("label", "let a label mean a version"),
            ("archive", "hide a version or an environment"),
            ("restore", "show again what was archived"),
            ("delete", "take a version away; its definition and lock are kept"),
        ),
    ),
    (
        "To and from others",
        (
            ("push", "a version into a registry: only what it lacks"),
            ("pull", "a version out of a registry, verified, without building"),
            ("share", "a version by name in a registry's catalogue"),
            ("bundle", "versions as one file, for machines without a network"),
            ("import", "another tool's lock as an environment; nothing is solved again"),
        ),
    ),
    (
        "Look after it",
        (
            ("drift", "what moved since: bases, channels, packages, the policy"),
            ("impact", "every environment that stands on a base image"),
            ("rebase", "the same packages on a patched base, without a solve"),
            ("registry", "keep a login for a registry; list the workspace's registries"),
            ("store", "verify, collect garbage, show what takes the space"),
            ("plugin", "what plugins offer, and what is wrong with them"),
            ("doctor", "what this machine lacks, and how to get it"),
            ("completion", "a script that lets your shell complete all of this"),
        ),
    ),
)
"""Groups of (verb, summary) in the order in which help shows them."""

VERBS: Final = {verb: summary for _, verbs in GROUPS for verb, summary in verbs}

LATER: Final = frozenset({"job", "deployment", "audit", "studio"})
"""Verbs of the command-line contract that this version does not have."""


def module_of(verb: str) -> str:
    """The module that answers a verb of :data:`VERBS`."""
    return f"envgraph.cli.commands.{'import_' if verb == 'import' else verb}"
