"""Dockerfiles: which images they name, and what of them cannot be built the same twice.

The grammar is BuildKit's own parser (the ``dockerfile`` package binds it): heredocs, line
continuations, the ``escape`` directive and flags are read as docker reads them. The only
importer of it. Arguments are put in as docker does: those before the first ``FROM`` with
what is given for them, else their defaults, and the platform's (``TARGETARCH`` …), which
are known when it is locked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from envgraph.errors import PlatformError, SourceLocation
from envgraph.model.reference import (
    BadReferenceError,
    parse_registry_reference,
)
from envgraph.model.spec import NamedImage
from envgraph.spec.looks_secret import HINT, secret_names, warning
from envgraph.spec.platform_arguments import VARIABLE, is_of_platform
from envgraph.spec.problems import Problems, nearest, printable, quoted
from envgraph.spec.templates import templates_in
from envgraph.spec.text import decode

BUILTIN_FRONTENDS: Final = ("docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream")
"""``# syntax=`` of these, at any tag, is the grammar that every builder has: nothing is fetched."""

INSTRUCTIONS: Final = frozenset(
    {
        "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
        "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
    }
)  # fmt: skip
_DIRECTIVE: Final = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*\Z")
_GO_TEMPLATE: Final = re.compile(
    r"\{\{-?\s*(?:[.$\"`(]|(?:range|end|if|else|with|json|len|index|printf?|println|join|define"
    r"|template|block|slice|split|and|or|not|eq|ne|lt|gt|title|upper|lower|pad|truncate)\b)"
)
"""What a step hands to docker, go or helm (``--format '{{.Version}}'``): no template of ours."""

_MOUNT: Final = re.compile(r"(?:\A|,)\s*(from|type|id|src|source)\s*=\s*([^,]*)")
_REMOTE: Final = re.compile(r"(?i)(https?|git|ssh)://|git@")
_COMMIT: Final = re.compile(r"#[0-9a-f]{40}(:|\Z)")


@dataclass(slots=True)
class _Stages:
    """What was read so far."""

    file: str
    problems: Problems
    given: Mapping[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    declared: dict[str, None] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    bases: list[str] = field(default_factory=list)
    """The image that each stage stands on in the end; a template where the platform decides."""

    images: dict[str, NamedImage] = field(default_factory=dict)
    platforms: dict[str, None] = field(default_factory=dict)
    secrets: dict[str, None] = field(default_factory=dict)

    def error(self, code: str, summary: str, line: int, hint: str = "") -> None:
        self.problems.add(code, summary, SourceLocation(self.file, line), hint=hint)


@dataclass(frozen=True, slots=True)
class DockerfileFacts:
    """What a Dockerfile names: every image, the last stage's base, the secrets it mounts."""

    images: tuple[NamedImage, ...]
    base: str
    secrets: tuple[str, ...]
    platforms: tuple[str, ...]
    """What ``FROM --platform=`` says: the platform that is built for has to be it."""

    arguments: frozenset[str] = frozenset()
    """Every name that an ``ARG`` declares, before the first ``FROM`` or in a stage."""


def read_dockerfile(
    data: bytes, file: str, problems: Problems, given: Mapping[str, str] | None = None
) -> DockerfileFacts | None:
    """Read a Dockerfile; None after a problem that leaves nothing to say.

    ``given`` are the values of arguments: they win over the Dockerfile's own.
    Reported are templates, what does not parse, foreign frontends that no digest pins,
    ``ADD`` of addresses without a checksum, and images whose names are none.
    """
    text = decode(data, file, problems)
    if text is None:
        return None
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        for found in templates_in(line):
            if not found.startswith("{%") and not _GO_TEMPLATE.match(found):
                problems.add(
                    "template",
                    f"{found[:120]} is a template that nothing has filled in",
                    SourceLocation(file, number),
                    hint="render the Dockerfile with the tool that made it",
                )
    stages = _Stages(file, problems, given or {})
    _check_directives(text, stages)
    if problems.failed:
        return None
    commands = _parse(text, stages)
    if commands is None:
        return None
    for command in commands:
        word = (command.cmd or "").upper()  # None: a continuation of nothing
        if word not in INSTRUCTIONS:
            stages.error("dockerfile", f"{quoted(command.cmd or chr(92))} is no instruction",
                         command.start_line, nearest(word, INSTRUCTIONS))  # fmt: skip
        _READERS.get(word, _nothing)(command, stages)
        for name in secret_names(str(command.original)):
            where = SourceLocation(file, command.start_line)
            problems.warn("secret-in-image", warning(word, name), where, hint=HINT)
    if not stages.bases:
        if not problems.failed:
            stages.error("dockerfile", "the Dockerfile has no FROM", 1)
        return None
    return DockerfileFacts(
        tuple(stages.images.values()),
        stages.bases[-1],
        tuple(stages.secrets),
        tuple(stages.platforms),
        frozenset(stages.declared),
    )


def _check_directives(text: str, stages: _Stages) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            return
        if match[1].lower() != "syntax":
            continue
        try:
            frontend = parse_registry_reference(match[2].split()[0])
        except BadReferenceError as error:
            stages.error("frontend", f"syntax: {error}", number)
            return
        name = f"{frontend.domain}/{frontend.repository}"
        if name not in BUILTIN_FRONTENDS:
            stages.error(
                "frontend-unpinned" if not frontend.digest else "frontend",
                f"`# syntax={match[2][:100]}` is a program that would build the image",
                number,
                "take the line out, or write `# syntax=docker/dockerfile:1`, which every builder"
                " has: no other frontend is run",
            )


def _parse(text: str, stages: _Stages) -> tuple[Any, ...] | None:
    try:
        import dockerfile
    except ImportError:
        raise PlatformError(
            "Dockerfiles cannot be read here: the package `dockerfile` is missing",
            code="no-dockerfile-parser",
            hint="pip install dockerfile (where no wheel is made for this machine, it needs Go)",
        ) from None
    try:
        commands: tuple[Any, ...] = dockerfile.parse_string(text)
        return commands
    except dockerfile.GoParseError as error:
        said = str(error)
        line = re.search(r"line (\d+)", said)
        stages.error("dockerfile", f"the Dockerfile does not parse: {said[:300]}",
                     int(line[1]) if line else 1)  # fmt: skip
        return None


def _nothing(command: Any, stages: _Stages) -> None:
    del command, stages


def _argument(command: Any, stages: _Stages) -> None:
    for item in command.value:
        name, has_default, value = item.partition("=")
        stages.declared[name] = None
        if stages.bases:
            continue  # belongs to its stage: no FROM can use it
        if name in stages.given:
            stages.arguments[name] = stages.given[name]
        elif has_default:
            expanded = _expand(value.strip("\"'"), stages, command.start_line)
            stages.arguments[name] = expanded if expanded is not None else ""
        else:
            stages.arguments.setdefault(name, "")


def _from(command: Any, stages: _Stages) -> None:
    words = list(command.value)
    if not words or len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        stages.error("dockerfile", "FROM needs an image, or `IMAGE AS NAME`", command.start_line)
        return
    for flag in command.flags:
        asked = flag.partition("--platform=")[2]
        if asked and "$" not in asked:
            stages.platforms[asked] = None
    name = words[2].lower() if len(words) == 3 else ""
    image = _expand(words[0], stages, command.start_line)
    base = "scratch"
    if image is not None:
        if image.lower() in stages.names:
            base = stages.bases[stages.names.index(image.lower())]
        else:
            base = _named(image, command.start_line, stages)
    stages.names.append(name)
    stages.bases.append(base)


def _copy(command: Any, stages: _Stages) -> None:
    for flag in command.flags:
        if flag.lower().startswith("--from="):
            _used(flag.partition("=")[2], "--from", command.start_line, stages)
    if command.cmd.upper() == "ADD":
        _check_remote(command, stages)


def _run(command: Any, stages: _Stages) -> None:
    for flag in command.flags:
        if flag.lower().startswith("--mount="):
            options = dict(_MOUNT.findall(flag.partition("=")[2]))
            if "from" in options:
                _used(options["from"], "--mount", command.start_line, stages)
            if options.get("type") == "secret":
                stages.secrets[_secret_name(options)] = None


_READERS: Final[Mapping[str, Callable[[Any, _Stages], None]]] = {
    "ARG": _argument, "FROM": _from, "COPY": _copy, "ADD": _copy, "RUN": _run,
}  # fmt: skip


def _secret_name(options: Mapping[str, str]) -> str:
    source = options.get("src") or options.get("source") or ""
    return options.get("id") or source.rpartition("/")[2]


def _used(text: str, flag: str, line: int, stages: _Stages) -> None:
    """A stage or an image that an instruction reads from."""
    if "$" in text:
        stages.error(
            "dockerfile", f"{flag}={quoted(text)}: docker puts no arguments in there", line,
            "name a stage, and let its FROM use the argument",
        )  # fmt: skip
    elif text.isdigit() and text.isascii():
        if int(text) >= max(1, len(stages.bases) - 1):
            stages.error("dockerfile", f"{flag}={text}: there is no stage {text} before", line)
    elif text.lower() not in stages.names[:-1]:
        _named(text, line, stages)


def _named(text: str, line: int, stages: _Stages) -> str:
    """Note an image; its normal form, or the template that the platform completes."""
    if text == "scratch":
        return text
    where = SourceLocation(stages.file, line)
    if "$" not in text:
        try:
            reference = str(parse_registry_reference(text))
        except BadReferenceError as error:
            stages.error("image-reference", f"{quoted(text)}: {error}", line)
            return "scratch"
        stages.images.setdefault(text, NamedImage(text, reference, where))
        return text
    stages.images.setdefault(text, NamedImage(text, "", where))
    return text


def _check_remote(command: Any, stages: _Stages) -> None:
    if any(flag.startswith("--checksum=") for flag in command.flags):
        return
    for source in command.value[:-1]:
        if _REMOTE.match(source) and not _COMMIT.search(source):
            stages.error(
                "unpinned-add",
                f"what is behind {quoted(printable(source))} may change at any time",
                command.start_line,
                "add --checksum=sha256:… (for git: #COMMIT with 40 digits)",
            )


def _expand(text: str, stages: _Stages, line: int) -> str | None:
    """``text`` with arguments put in; the platform's stay. None after a problem."""
    wrong: list[str] = []

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name is None:
            return "$"
        if name not in stages.arguments and is_of_platform(name):
            return "${" + name + "}"
        known = stages.arguments.get(name, "")
        operator, word = match[3] or "", match[4] or ""
        if operator.endswith("-"):
            return known or word
        if operator.endswith("+"):
            return word if known else ""
        if not known:
            wrong.append(name)
        return known

    expanded = VARIABLE.sub(value, text.strip("\"'"))
    for name in wrong:
        stages.error(
            "dockerfile-argument", f"the argument {name!r} has no value where FROM uses it", line,
            f"write `ARG {name}=VALUE` before the first FROM",
        )  # fmt: skip
    if wrong:
        return None
    rest = VARIABLE.sub("", expanded)
    if "$" in rest:
        stages.error("dockerfile-argument", f"{quoted(text)} cannot be read as docker reads it",
                     line, "write ${NAME} or ${NAME:-VALUE}")  # fmt: skip
        return None
    return expanded


def step_images(instruction: str) -> Iterator[str]:
    """The images that one docker step reads from: ``--from=`` and ``--mount=…from=``."""
    for flag in _step_flags(instruction):
        if flag.startswith("--from="):
            yield flag.partition("=")[2]
        elif flag.startswith("--mount="):
            options = dict(_MOUNT.findall(flag.partition("=")[2]))
            if "from" in options:
                yield options["from"]


def step_secrets(instruction: str) -> Iterator[str]:
    """The names of the secrets that one instruction mounts."""
    for flag in _step_flags(instruction):
        if flag.startswith("--mount="):
            options = dict(_MOUNT.findall(flag.partition("=")[2]))
            if options.get("type") == "secret":
                yield _secret_name(options)


_FLAGS: Final = re.compile(r"(?:\s|\\\n)*(--[a-z-]+(?:=\S*)?)")


def _step_flags(instruction: str) -> Iterator[str]:
    word, _, rest = instruction.partition(" ")
    if word.upper() not in ("RUN", "COPY", "ADD"):
        return
    place = 0
    while match := _FLAGS.match(rest, place):
        yield match[1]
        place = match.end()
