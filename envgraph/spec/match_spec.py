"""Conda requirements as text: the form that identity sees, and what is wrong early.

The solver reads match specs; this module only trims, collapses spaces, lowers
the name, and finds what no reading could make sense of, with the fix.
"""

from __future__ import annotations

import re
from typing import Final

NAME: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*[A-Za-z0-9_\-])?"
_HEAD: Final = re.compile(rf"(?P<name>{NAME}|\*)(?P<rest>.*)", re.DOTALL)
_BRACKETS: Final = re.compile(r"\[[^\[\]]*\]\s*$")
_VERSION: Final = re.compile(r"(?:===?|==?|!=|>=|<=|~=|>|<)?\s*\^?[A-Za-z0-9_.*+!\-]+\$?", re.ASCII)
_BUILD: Final = re.compile(r"[A-Za-z0-9_.*+^$|()\-\[\]?]+", re.ASCII)
_OPERATOR_RUN: Final = re.compile(r"[=<>!~]+")
_EPOCH: Final = re.compile(r"(?<=[0-9])!(?=[0-9])")
_OPERATORS: Final = frozenset({"=", "==", "===", "!=", ">", ">=", "<", "<=", "~=", "!=="})
MAX_LENGTH: Final = 1000
SELECTOR: Final = re.compile(r"sel\(\s*(?P<platform>[A-Za-z0-9_-]+)\s*\)")
SELECTOR_PLATFORMS: Final = frozenset(
    {"linux", "osx", "win", "unix", "linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64"}
)


def normal_form(text: str) -> str:
    """Trimmed, spaces collapsed, the package's name in lower case.

    >>> normal_form("  conda-forge::NumPy   >=1.2 ")
    'conda-forge::numpy >=1.2'
    """
    text = " ".join(text.split())
    head, mark, rest = text.rpartition("::")
    match = _HEAD.match(rest)
    if match is None:
        return text
    return f"{head}{mark}{match['name'].lower()}{match['rest']}"


def package_name(text: str) -> str:
    """The lower-case name that a requirement begins with; empty when there is none."""
    match = _HEAD.match(text.rpartition("::")[2].strip())
    return match["name"].lower() if match else ""


def requirement_problem(text: str) -> tuple[str, str] | None:
    """What is wrong with a requirement in normal form, and a hint; None when nothing is."""
    if len(text) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters", "one requirement per item"
    if text.startswith("-"):
        option = text.split()[0]
        return (
            f"{option} is an option of pip, not a conda package",
            "put the line under `- pip:`",
        )
    head, mark, rest = text.rpartition("::")
    if mark and not head.strip():
        return "the channel before :: is empty", "write CHANNEL::NAME, or only NAME"
    if "://" in rest or rest.endswith((".conda", ".tar.bz2")):
        return (
            "a package by address is not supported",
            "name the package and its version, and add its channel to `channels:`",
        )
    match = _HEAD.fullmatch(rest)
    if match is None:
        return "not a conda requirement", "write NAME, NAME=1.2, NAME>=1.2,<2 or CHANNEL::NAME"
    constraint = match["rest"]
    while found := _BRACKETS.search(constraint):
        constraint = constraint[: found.start()]
    return _constraint_problem(match["name"], constraint.strip())


def _constraint_problem(name: str, text: str) -> tuple[str, str] | None:
    if not text:
        return None
    if text[0] not in "=<>!~ *0123456789^(" and not text[0].isalpha():
        if text[0] in "@;":
            return (
                f"{text[0]!r} is pip's spelling, not conda's",
                "put the line under `- pip:`",
            )
        if text[0] == ":" and _HEAD.match(text[1:]):
            return f"one colon after {name} names no channel", f"write {name}:{text[:80]}"
        return f"{text[:40]!r} after {name} is no version", f"write {name}=1.2 or {name}>=1.2,<2"
    for run in _OPERATOR_RUN.findall(_EPOCH.sub(".", text)):
        if run not in _OPERATORS:
            return f"{run!r} is no operator", "use =, ==, !=, >, >=, <, <= or ~="
    if text[-1] in "=<>!~,|":
        return f"nothing follows {text[-1]!r}", f"write a version, or only {name}"
    version, build = _split_build(text)
    for part in re.split(r"[,|]", version.replace("(", " ").replace(")", " ")):
        if not _VERSION.fullmatch(part.strip()):
            return (
                f"{part.strip()[:40]!r} is no version constraint",
                f"write {name}=1.2 or {name}>=1.2,<2",
            )
    if build and not _BUILD.fullmatch(build):
        return f"{build[:40]!r} is no build string", f"write {name}=VERSION=BUILD"
    return None


def _split_build(text: str) -> tuple[str, str]:
    """``=1.2=py3*`` and ``>=1.2 py3*`` → version and build."""
    words = re.sub(r"([=<>!~,|])\s+", r"\1", re.sub(r"\s+([,|])", r"\1", text)).split()
    if len(words) > 1:
        return words[0], " ".join(words[1:])
    head = re.match(r"\s*[=<>!~]*", text)
    start = head.end() if head else 0
    cut = re.search(r"(?<![=<>!~,|])=(?![=<>!~])", text[start:])
    if cut is None:
        return text, ""
    at = start + cut.start()
    return text[:at], text[at + 1 :]
