"""``drift-policy.yaml`` → DriftPolicy: how old and how far behind is still good.

::

    # yaml-language-server: $schema=.envgraph/schema/drift-policy.json
    max_age_days: 30        # of a base image; 30 when the key is left out
    max_behind: 3           # newer releases of a package that are no finding; default 0
    require_digest: true    # every base is named by its digest; default false
    allow:                  # findings that are accepted, each with a reason
      - code: package-gone
        environment: "train-*"      # globs; default: all
        package: numpy
        until: 2026-12-31           # the last day; without one, for ever
        reason: our mirror keeps the archive
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Final

from envgraph.errors import InputError, SourceLocation
from envgraph.model.drift import CODES, Allowance, DriftPolicy
from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode, described
from envgraph.spec.problems import nearest, place, quoted
from envgraph.spec.reading import Reading

FILE_NAME: Final = "drift-policy.yaml"
DEFAULT_MAX_AGE: Final = 30
"""Days: bases are patched every two weeks, and none that is known to be vulnerable is older."""

KNOWN: Final = frozenset({"max_age_days", "max_behind", "require_digest", "allow"})
ENTRY: Final = frozenset({"code", "environment", "package", "until", "reason"})
_NUMBER: Final = re.compile(r"[0-9]{1,6}", re.ASCII)


def load_drift_policy(path: Path) -> DriftPolicy:
    """The policy in a file; InputError with every problem, each at its line and column."""
    from envgraph.spec.yaml_text import load_yaml

    file = str(path)
    reading = Reading()
    tree: Node | None = None
    data = reading.read(file, SourceLocation(file), "")
    if data is not None:
        tree, _ = load_yaml(data, file, reading.problems)
    mapping = reading.mapping(tree, file, "the policy")
    policy = _Reader(reading, file).read(mapping if mapping is not None else MapNode([], 1, 1))
    if reading.problems.failed:
        raise InputError(reading.problems.result())
    return policy


class _Reader:
    def __init__(self, reading: Reading, file: str) -> None:
        self.reading = reading
        self.file = file

    def error(self, code: str, summary: str, node: Node | None, hint: str = "") -> None:
        self.reading.problems.add(code, summary, place(self.file, node), hint=hint)

    def read(self, doc: MapNode) -> DriftPolicy:
        self.reading.check_keys(doc, KNOWN, self.file, "the policy")
        age = self.number(doc, "max_age_days")
        return DriftPolicy(
            max_age_days=DEFAULT_MAX_AGE if age is None else age,
            max_behind=self.number(doc, "max_behind") or 0,
            require_digest=self.switch(doc, "require_digest"),
            allow=self.allow(doc.get("allow")),
            file=self.file,
        )

    def number(self, doc: MapNode, key: str) -> int | None:
        text = self.reading.text(doc, key, self.file)
        if text is None:
            return None
        if not _NUMBER.fullmatch(text):
            self.error("number", f"{key} must be a whole number, and is {quoted(text)}",
                       doc.get(key))  # fmt: skip
            return None
        return int(text)

    def switch(self, doc: MapNode, key: str) -> bool:
        node = doc.get(key)
        if node is None:
            return False
        value = node.boolean if isinstance(node, ScalarNode) else None
        if value is None:
            self.error("type", f"{key} must be true or false", node)
        return bool(value)

    def allow(self, node: Node | None) -> tuple[Allowance, ...]:
        if node is None:
            return ()
        if not isinstance(node, ListNode):
            self.error("type", f"allow must be a list, and is {described(node)}", node)
            return ()
        entries = [self.entry(item) for item in node.items]
        return tuple(entry for entry in entries if entry is not None)

    def entry(self, node: Node) -> Allowance | None:
        doc = self.reading.mapping(node, self.file, "an entry of allow")
        if doc is None:
            return None
        self.reading.check_keys(doc, ENTRY, self.file, "an entry of allow")
        code = self.reading.text(doc, "code", self.file)
        if code is None:
            self.error("no-code", "an entry of allow needs `code: KIND`", doc,
                       "kinds: " + ", ".join(CODES))  # fmt: skip
            return None
        if code not in CODES:
            self.error("unknown-code", f"{quoted(code)} is no kind of finding", doc.get("code"),
                       nearest(code, CODES))  # fmt: skip
            return None
        reason = self.reading.text(doc, "reason", self.file)
        if not reason:
            self.error("no-reason", "an entry of allow needs `reason: TEXT`", doc)
        return Allowance(
            code=code,
            environment=self.reading.text(doc, "environment", self.file) or "*",
            package=self.reading.text(doc, "package", self.file) or "*",
            until=self.day(doc),
            reason=reason or "",
            source=place(self.file, doc),
        )

    def day(self, doc: MapNode) -> str:
        text = self.reading.text(doc, "until", self.file)
        if text is None:
            return ""
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            self.error("day", f"until must be a day, and is {quoted(text)}", doc.get("until"),
                       "write it as 2026-12-31")  # fmt: skip
            return ""
