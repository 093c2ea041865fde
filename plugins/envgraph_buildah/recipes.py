"""A recipe as the Dockerfile that this buildah can build; or why it cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from envgraph.api import BuilderError, Dockerfile, Steps
from envgraph.errors import SourceLocation
from envgraph_buildah.heredocs import has_heredoc, shell_of, without_heredoc
from envgraph_buildah.storage import IDS_HINT, BaseImage, Storage

BASE_NAME: Final = "envgraph-base"
"""What our own Dockerfiles call the base of steps."""

_HEREDOC: Final = re.compile(r"(?im)^\s*(RUN|COPY|ADD)\b[^\n]*<<-?[\"']?[A-Za-z_]")
_RUN: Final = re.compile(r"(?im)^\s*(RUN)\b")
_FROM_ARGUMENT: Final = re.compile(r"(?im)^\s*FROM\s+(?:--\S+\s+)*(\S*\$\S*)")
_ARGUMENT: Final = re.compile(r"\$\{[^}]*\}|\$[A-Za-z_][A-Za-z0-9_]*")


def dockerfile_of(
    recipe: Steps | Dockerfile, storage: Storage, images: Mapping[str, BaseImage]
) -> bytes:
    """The user's, as it is; or one of a base and instructions.

    BuilderError ``builder-lacks`` for what this buildah, or this user, cannot.
    """
    if isinstance(recipe, Dockerfile):
        data = recipe.data
    else:
        base = "scratch" if recipe.base is None else BASE_NAME
        lines = [f"FROM {base}", *_instructions(recipe, storage, images.get(BASE_NAME))]
        data = ("\n".join(lines) + "\n").encode()
    text = data.decode("utf-8", "replace")
    if storage.lacks_ids and (found := _RUN.search(text)):
        raise BuilderError(
            "buildah cannot run a step here: this user has no ids in /etc/subuid",
            code="builder-lacks",
            source=_line(recipe, text, found.start(1)),
            hint=IDS_HINT,
        )
    heredoc = _HEREDOC.search(text) if isinstance(recipe, Dockerfile) else None
    if heredoc is not None and not storage.has_heredocs:
        raise _no_heredocs(storage, _line(recipe, text, heredoc.start(1)))
    return data


def _instructions(recipe: Steps, storage: Storage, base: BaseImage | None) -> list[str]:
    """The texts; heredocs of ``RUN`` written for a buildah that knows none."""
    texts = [instruction.text for instruction in recipe.instructions]
    if storage.has_heredocs:
        return texts
    settings = {} if base is None else base.config.get("config") or {}
    written = []
    for index, instruction in enumerate(recipe.instructions):
        text = instruction.text
        if has_heredoc(text):
            shell = shell_of(texts[:index], settings.get("Shell"))
            plain = without_heredoc(text, shell)
            if plain is None:
                raise _no_heredocs(storage, instruction.source)
            text = plain
        written.append(text)
    return written


def _no_heredocs(storage: Storage, source: SourceLocation | None) -> BuilderError:
    return BuilderError(
        f"buildah {storage.version} knows no heredocs (<<EOF)",
        code="builder-lacks",
        source=source,
        hint="use buildah 1.33 or newer, or a BuildKit; or write the lines with &&",
    )


def _line(recipe: Steps | Dockerfile, text: str, place: int) -> SourceLocation | None:
    """The line of a place in a Dockerfile; of one of our own the host knows better."""
    if isinstance(recipe, Steps):
        return None
    return SourceLocation(recipe.path, text.count("\n", 0, place) + 1)


def by_every_text(recipe: Steps | Dockerfile, images: dict[str, BaseImage]) -> dict[str, BaseImage]:
    """The images by what the text calls them: buildah looks before it puts arguments in.

    BuilderError ``builder-lacks`` where an argument leaves open which of them is meant.
    """
    if isinstance(recipe, Steps):
        return images
    found = dict(images)
    for raw in _FROM_ARGUMENT.findall(recipe.data.decode("utf-8", "replace")):
        pattern = ".*".join(re.escape(part) for part in re.split(_ARGUMENT, raw.strip("\"'")))
        fitting = {t: i for t, i in images.items() if re.fullmatch(pattern, t)}
        if len({image.identity for image in fitting.values()}) > 1:
            raise BuilderError(
                f"buildah cannot be told which image `FROM {raw}` means: {', '.join(fitting)}",
                code="builder-lacks",
                hint="use a BuildKit, or write the image out",
            )
        for image in fitting.values():
            found[raw] = image
    return found
