"""The builder: a request becomes one run of ``buildah build``."""

from __future__ import annotations

import platform as machines
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from envgraph.api import (
    CAN_BASE_BLOBS,
    CAN_DOCKERFILE,
    CAN_NO_NETWORK,
    CAN_PINNED_BASES,
    CAN_RUN,
    CAN_SECRETS,
    BuilderError,
    BuildRequest,
    BuildResult,
    Cancel,
    Capabilities,
    Dockerfile,
    Event,
    Platform,
    Steps,
)
from envgraph.errors import SourceLocation
from envgraph_buildah.results import read_result
from envgraph_buildah.storage import BaseImage, Storage, refused, stage

_MACHINES: Final = {
    "x86_64": Platform("linux", "amd64"), "aarch64": Platform("linux", "arm64"),
    "ppc64le": Platform("linux", "ppc64le"), "s390x": Platform("linux", "s390x"),
    "riscv64": Platform("linux", "riscv64"),
}  # fmt: skip
_STEP: Final = re.compile(r"(?:\[\d+/\d+\] )?STEP (\d+)/(\d+): (.*)")
_STATUS: Final = re.compile(r"exit status (\d+)\s*\Z")
_NOISE: Final = re.compile(r"subprocess exited with status \d+|Error: building at STEP .*")
_HEREDOC: Final = re.compile(r"(?im)^\s*(?:RUN|COPY|ADD)\b[^\n]*<<-?[\"']?[A-Za-z_]")
_FROM_ARGUMENT: Final = re.compile(r"(?im)^\s*FROM\s+(?:--\S+\s+)*(\S*\$\S*)")
_DECLARES: Final = re.compile(rb"(?im)^\s*ARG\s")
"""buildah's cache compares `ENV A=$B` as text: what an argument is does not count in it."""
_ARGUMENT: Final = re.compile(r"\$\{[^}]*\}|\$[A-Za-z_][A-Za-z0-9_]*")
_NO_IDS: Final = "error setting supplemental groups"
"""What buildah says of a user without ids in ``/etc/subgid``; it ends with code 1 then."""
_BASE_NAME: Final = "envgraph-base"
_MOST_LINES: Final = 200


@dataclass(slots=True)
class _Watch:
    """Follows what buildah says: which step it is in, and what that one said last."""

    on_event: Callable[[Event], None]
    step: int = 0
    """Counts from 1 with ``FROM``; 0 before the first."""

    text: str = ""
    lines: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    def hide(self, secret: bytes) -> None:
        """Put stars in the place of a secret from now on: of all of it, and of its lines."""
        text = secret.decode("utf-8", "replace")
        parts = {text.strip(), *(part.strip() for part in text.splitlines())}
        self.secrets = sorted({*self.secrets, *parts} - {""}, key=len, reverse=True)

    def line(self, line: str) -> None:
        """Take one line of buildah's."""
        for secret in self.secrets:
            line = line.replace(secret, "***")
        found = _STEP.fullmatch(line)
        if found is None and line.startswith("COMMIT"):
            return
        if found is None:
            self.lines = [*self.lines[-_MOST_LINES:], line]
            if _NOISE.fullmatch(line):
                return
            self.on_event(Event("message", str(self.step), "docker-step", self.text, text=line))
            return
        self.end("done")
        self.step, self.text, self.lines = int(found[1]), found[3], []
        self.on_event(Event("start", str(self.step), "docker-step", self.text))

    def end(self, kind: str) -> None:
        if self.step:
            done = Event("done" if kind == "done" else "failed", str(self.step), "docker-step",
                         self.text)  # fmt: skip
            self.on_event(done)


class BuildahBuilder:
    """Builds with ``buildah``; safe for threads."""

    def __init__(self, storage: Storage) -> None:
        """Bind; starts nothing."""
        self._storage = storage

    @property
    def title(self) -> str:
        """``buildah``, or the path that was given."""
        return self._storage.options.program

    def capabilities(self) -> Capabilities:
        """Start buildah once: what it can do here."""
        version = self._storage.version
        driver = self._storage.words[-1]
        own = _MACHINES.get(machines.machine(), Platform("linux", machines.machine()))
        features = {CAN_RUN, CAN_DOCKERFILE, CAN_PINNED_BASES, CAN_BASE_BLOBS, CAN_SECRETS}
        if self._storage.without_network:
            features.add(CAN_NO_NETWORK)
        return Capabilities((own,), frozenset(features), f"{version}, {driver}")

    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        """Build; the result's layers are files of a folder that is gone afterwards."""
        until = None if request.timeout is None else time.monotonic() + request.timeout
        own = self.capabilities()
        if request.platform.os != "linux" or request.platform.architecture not in {
            p.architecture for p in own.platforms
        }:
            raise BuilderError(
                f"buildah builds for {own.platforms[0]} here, not for {request.platform}",
                code="builder-lacks",
            )
        if not request.network and CAN_NO_NETWORK not in own.features:
            raise BuilderError(
                "buildah cannot build without network here",
                code="builder-lacks",
                hint="`unshare --net` has to work: as root, or with ids in /etc/subuid",
            )
        with self._storage.building(), self._storage.scratch() as folder:
            watch = _Watch(on_event)
            result = self._build(request, folder, watch, cancel, until)
            yield result

    def _build(
        self,
        request: BuildRequest,
        folder: Path,
        watch: _Watch,
        cancel: Cancel,
        until: float | None,
    ) -> BuildResult:
        recipe = request.recipe
        named = recipe.images if isinstance(recipe, Steps) else recipe.bases
        images: dict[str, BaseImage] = {}
        for text, base in named.items():
            images[text] = self._storage.bring(base, folder, cancel, until)
        if isinstance(recipe, Steps) and recipe.base is not None:
            images[_BASE_NAME] = self._storage.bring(recipe.base, folder, cancel, until)
        if cancel.is_set():
            raise BuilderError("the build was cancelled", code="cancelled")
        data = _dockerfile(recipe)
        self._check(data)
        (folder / "Dockerfile").write_bytes(data)
        (folder / "ignore").write_bytes(b"")
        (folder / "ids").write_bytes(b"")
        if request.context is None:
            (folder / "context").mkdir()
        else:
            stage(request.context, folder / "context", request.epoch)
        command = self._command(request, folder, images, watch)
        status = self._storage.run(command, watch.line, cancel=cancel, until=until)
        if status != 0:
            watch.end("failed")
            raise _failed(recipe, watch, status)
        watch.end("done")
        identity = (folder / "ids").read_text().strip().removeprefix("sha256:")
        out = folder / "image"
        self._storage.ask(
            "push", "-q", "--disable-compression", "--signature-policy",
            str(self._storage.policy), identity, f"dir:{out}", cancel=cancel, until=until,
        )  # fmt: skip
        if isinstance(recipe, Dockerfile):
            return read_result(out, list(images.values()), request.epoch)
        bases = [images[_BASE_NAME]] if _BASE_NAME in images else []
        texts = [instruction.text for instruction in recipe.instructions]
        result = read_result(out, bases, request.epoch, instructions=texts)
        if identity not in {image.identity for image in images.values()}:
            self._storage.run([*self._storage.words, "rmi", identity], lambda line: None)
        return result

    def _check(self, text: bytes) -> None:
        if not self._storage.has_heredocs and _HEREDOC.search(text.decode("utf-8", "replace")):
            raise BuilderError(
                f"buildah {self._storage.version} knows no heredocs (<<EOF)",
                code="builder-lacks",
                hint="use buildah 1.33 or newer, or a BuildKit; or write the lines with &&",
            )

    def _command(
        self, request: BuildRequest, folder: Path, images: dict[str, BaseImage], watch: _Watch
    ) -> list[str]:
        options = self._storage.options
        words = [
            *(() if request.network else self._storage.without_network),
            *self._storage.words, "build", "--layers", "--force-rm", "--pull=never",
            "--format", "docker", "--identity-label=false", "--timestamp", str(request.epoch),
            "--isolation", options.isolation, "--network", "host", "--no-hosts",
            "--signature-policy", str(self._storage.policy),
            "--ignorefile", str(folder / "ignore"), "--iidfile", str(folder / "ids"),
            "--file", str(folder / "Dockerfile"),
        ]  # fmt: skip
        if isinstance(request.recipe, Steps) or _DECLARES.search(request.recipe.data):
            words.append("--no-cache")
        if isinstance(request.recipe, Dockerfile) and request.recipe.target:
            words += ["--target", request.recipe.target]
        for text, image in _by_every_text(request.recipe, images).items():
            words += ["--build-context", f"{text}=container-image://{image.identity}"]
        for name, value in request.arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        for count, (name, read) in enumerate(request.secrets.items()):
            path = folder / f"secret-{count}"
            path.touch(0o600)
            secret = read()
            watch.hide(secret)
            path.write_bytes(secret)
            words += ["--secret", f"id={name},src={path}"]
        return [*words, str(folder / "context")]


def _by_every_text(
    recipe: Steps | Dockerfile, images: dict[str, BaseImage]
) -> dict[str, BaseImage]:
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


def _dockerfile(recipe: Steps | Dockerfile) -> bytes:
    if isinstance(recipe, Dockerfile):
        return recipe.data
    base = "scratch" if recipe.base is None else _BASE_NAME
    lines = [f"FROM {base}", *(instruction.text for instruction in recipe.instructions)]
    return ("\n".join(lines) + "\n").encode()


def _failed(recipe: Steps | Dockerfile, watch: _Watch, status: int) -> BuilderError:
    """What went wrong, where, and what was said last."""
    said = [line for line in watch.lines if line.strip()]
    reason = next((line for line in reversed(said) if line.startswith("Error:")), "")
    output = "\n".join(line for line in said if not _NOISE.fullmatch(line))
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
    return BuilderError(
        f"{_short(watch.text)} failed: {why if found else _last(why)}",
        code="step-failed",
        source=source,
        detail=output,
        instruction=index,
        status=status_of_step,
        output=output,
    )


def _place(recipe: Steps | Dockerfile, watch: _Watch) -> tuple[int | None, SourceLocation | None]:
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
