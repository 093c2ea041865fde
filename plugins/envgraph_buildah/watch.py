"""What buildah says while it builds: which step it is in, and why the last one failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from envgraph.api import BuilderError, Dockerfile, Event, Redactor, Steps
from envgraph.errors import SourceLocation
from envgraph_buildah.storage import refused

_STEP: Final = re.compile(r"(?:\[\d+/\d+\] )?STEP (\d+)/(\d+): (.*)")
_STATUS: Final = re.compile(r"exit status (\d+)\s*\Z")
_NOISE: Final = re.compile(
    r"subprocess exited with status \d+|Error: building at STEP .*|--> (?:Using cache )?[0-9a-f]+"
)
_OVER: Final = "Error: building at STEP "
_NO_FILE: Final = re.compile(r'"([^"]+)": no such file or directory')
_NO_IDS: Final = "error setting supplemental groups"
"""What buildah says of a user without ids in ``/etc/subgid``; it ends with code 1 then."""
_MOST_LINES: Final = 200


@dataclass(slots=True)
class Watch:
    """Follows what buildah says: which step it is in, and what that one said last."""

    on_event: Callable[[Event], None]
    step: int = 0
    """Counts from 1 with ``FROM``; 0 before the first."""

    text: str = ""
    over: bool = False
    """buildah says why it failed, which may take lines."""

    lines: list[str] = field(default_factory=list)
    redactor: Redactor = field(default_factory=Redactor)

    def line(self, line: str) -> None:
        """Take one line of buildah's."""
        line = self.redactor.clean(line)
        found = _STEP.fullmatch(line)
        if found is None and line.startswith("COMMIT"):
            return
        if found is None:
            self.lines = [*self.lines[-_MOST_LINES:], line]
            self.over = self.over or line.startswith(_OVER)
            if self.over or _NOISE.fullmatch(line):
                return
            self.on_event(Event("message", str(self.step), "docker-step", self.text, text=line))
            return
        self.end("done")
        self.step, self.text, self.lines = int(found[1]), found[3], []
        self.on_event(Event("start", str(self.step), "docker-step", self.text))

    def end(self, kind: str) -> None:
        """The step that runs is ``done`` or ``failed``."""
        if self.step:
            done = Event("done" if kind == "done" else "failed", str(self.step), "docker-step",
                         self.text)  # fmt: skip
            self.on_event(done)


def failure(recipe: Steps | Dockerfile, watch: Watch, status: int) -> BuilderError:
    """What went wrong, where, and what was said last."""
    said = [line for line in watch.lines if line.strip()]
    errors = [place for place, line in enumerate(said) if line.startswith("Error:")]
    last = errors[-1] if errors else len(said)
    reason = "\n".join(said[last:])
    shown = said[:last] if reason.startswith(_OVER) else said
    output = "\n".join(line for line in shown if not _NOISE.fullmatch(line))
    if any(_NO_IDS in line for line in said):  # before the step itself began
        return refused("buildah cannot run a step here", "\n".join(said[-10:]))
    found = _STATUS.search(reason)
    if found is None:
        status_of_step = None
        why = reason.removeprefix("Error:").strip() or f"buildah ended with {status}"
        if "image not known" in why or "no such image" in why.lower():
            return BuilderError(f"an image is not to be had: {why}", code="base-missing",
                                detail=output)  # fmt: skip
        problem = refused("", "\n".join(said))
        if problem.diagnostics[0].hint:
            return refused("buildah cannot run a step here", "\n".join(said[-10:]))
    else:
        status_of_step = int(found[1])
        why = f"it ended with exit code {status_of_step}"
    if watch.step < 2 and found is None:
        return BuilderError(f"buildah failed: {why}", code="builder-refused", detail=output)
    index, source = _place(recipe, watch)
    text = watch.text
    if isinstance(recipe, Steps) and index is not None:  # as it was written
        text = recipe.instructions[index].text.split("\n")[0]
    missing = None
    if watch.text.split(None, 1)[0].upper() in ("COPY", "ADD"):
        missing = _NO_FILE.search(why)
        why = f"there is no {missing[1]} to copy" if missing else why
    return BuilderError(
        f"{_short(text)} failed: {why if found or missing else _last(why)}",
        code="step-failed",
        source=source,
        hint="it is not in the context; a .dockerignore, .amlignore or .gitignore may leave it out"
        if missing and "--from" not in watch.text
        else "",
        detail=output,
        instruction=index,
        status=status_of_step,
        output=output,
    )


def _place(recipe: Steps | Dockerfile, watch: Watch) -> tuple[int | None, SourceLocation | None]:
    if isinstance(recipe, Steps):
        index = min(max(watch.step - 2, 0), len(recipe.instructions) - 1)
        return index, recipe.instructions[index].source
    wanted = watch.text.split("\n")[0].strip()
    lines: Sequence[str] = recipe.data.decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, 1):
        begin = line.strip().removesuffix("\\").strip()
        if begin and (wanted == begin or wanted.startswith(begin)):
            return None, SourceLocation(recipe.path, number)
    return None, SourceLocation(recipe.path)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


def _last(why: str) -> str:
    """The end of a chain of reasons, which names the cause."""
    return why.rpartition('": ')[2] or why
