"""``build.args``: the values of a Dockerfile's ``ARG``, by docker compose's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from envgraph.errors import SourceLocation
from envgraph.spec.nodes import MapNode, ScalarNode, described
from envgraph.spec.platform_arguments import is_of_platform
from envgraph.spec.problems import Problems, place, quoted

PROXIES: Final = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}
    | {"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"}
)
"""Arguments that docker has without an ``ARG``: they say where a builder stands, not what
it builds, so they are in no hash, layer, lock or record."""

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LIMIT: Final = 16 << 10
_SECRET: Final = re.compile(
    r"(?i)token|passw(or)?d|secret|credential|key(s|\Z|_)|(\A|_)(auth|pword|pwd)(\Z|_)"
)
_PUBLIC: Final = re.compile(r"(?i)public|pubkey")


def read_arguments(
    node: MapNode, file: str, problems: Problems
) -> tuple[dict[str, str], dict[str, str]]:
    """The arguments of a ``build:``, and those that are proxies; problems are noted."""
    found: dict[str, str] = {}
    proxies: dict[str, str] = {}
    given = node.get("args")
    if given is None or (isinstance(given, ScalarNode) and given.is_null):
        return found, proxies
    if not isinstance(given, MapNode):
        problems.add(
            "type", f"build.args must be a mapping, and is {described(given)}",
            place(file, given), hint="write `args: {NAME: value}`",
        )  # fmt: skip
        return found, proxies
    for key, value in given:
        name = key.value
        problem, hint = _problem(name)
        if not problem and not isinstance(value, ScalarNode):
            problem = f"the build argument {quoted(name)} must be text"
        elif not problem and isinstance(value, ScalarNode) and value.is_null:
            problem = f"the build argument {quoted(name)} has no value"
            hint = 'write one ("" is the empty text): nothing is taken from your shell'
        if problem or not isinstance(value, ScalarNode):
            problems.add("build-argument", problem, place(file, key), hint=hint)
            continue
        if len(value.value) > LIMIT:
            problems.add("build-argument", f"the build argument {name} is longer than "
                         f"{LIMIT >> 10} KiB", place(file, value))  # fmt: skip
            continue
        (proxies if name in PROXIES else found)[name] = value.value
        if _SECRET.search(name) and not _PUBLIC.search(name):
            problems.warn(
                "secret-argument",
                f"the build argument {name} looks like a secret, and arguments are kept in"
                " hashes, locks and the image's history",
                place(file, key),
                hint=f"put it under `secrets:` of envgraph.yaml, and use it in the Dockerfile by"
                f" `RUN --mount=type=secret,id={name.lower()}`",
            )
    return found, proxies


def _problem(name: str) -> tuple[str, str]:
    if not NAME.fullmatch(name):
        return f"{quoted(name)} is no name of a build argument", "letters, digits and _"
    if name.startswith("BUILDKIT_") or name == "SOURCE_DATE_EPOCH":
        return (
            f"{name} tells a builder how to work, and envgraph decides that",
            "take it out: only arguments of the Dockerfile belong here",
        )
    if is_of_platform(name):
        return f"{name} follows from the platform", "`platforms:` says what is built for"
    return "", ""


def warn_unused(
    given: Mapping[str, str],
    declared: Iterable[str],
    dockerfile: str,
    problems: Problems,
    source: SourceLocation | None,
) -> None:
    """A warning, as docker has it, for arguments that no ``ARG`` of the Dockerfile takes."""
    unused = sorted(given.keys() - set(declared))
    if unused:
        names = ", ".join(unused)
        problems.warn(
            "unused-argument",
            f"no ARG of {dockerfile} takes the build argument{'s' * (len(unused) > 1)} {names}",
            source,
            hint=f"write `ARG {unused[0]}` where it is used, or take it out of `args:`",
        )
