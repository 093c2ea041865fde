"""The builder: a request becomes one run of ``buildah build``."""

from __future__ import annotations

import platform as machines
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from envgraph_buildah.cleaning import Cleaner
from envgraph_buildah.recipes import BASE_NAME, by_every_text, dockerfile_of
from envgraph_buildah.results import read_result
from envgraph_buildah.staging import stage
from envgraph_buildah.storage import BaseImage, Storage
from envgraph_buildah.watch import Watch, failure

_MACHINES: Final = {
    "x86_64": Platform("linux", "amd64"), "aarch64": Platform("linux", "arm64"),
    "ppc64le": Platform("linux", "ppc64le"), "s390x": Platform("linux", "s390x"),
    "riscv64": Platform("linux", "riscv64"),
}  # fmt: skip
_DECLARES: Final = re.compile(rb"(?im)^\s*ARG\s")
"""buildah's cache compares `ENV A=$B` as text: what an argument is does not count in it."""


class BuildahBuilder:
    """Builds with ``buildah``; safe for threads."""

    def __init__(self, storage: Storage, cleaner: Cleaner) -> None:
        """Bind; starts nothing."""
        self._storage = storage
        self._cleaner = cleaner

    @property
    def title(self) -> str:
        """``buildah``, or the path that was given."""
        return self._storage.options.program

    def capabilities(self) -> Capabilities:
        """Start buildah once: what it can do here."""
        version = self._storage.version
        says = f"{version}, {self._storage.driver}"
        own = _MACHINES.get(machines.machine(), Platform("linux", machines.machine()))
        features = {CAN_DOCKERFILE, CAN_PINNED_BASES, CAN_BASE_BLOBS, CAN_SECRETS}
        if self._storage.lacks_ids:
            says += ", without RUN: this user has no ids in /etc/subuid"
        else:
            features.add(CAN_RUN)
        if self._storage.without_network:
            features.add(CAN_NO_NETWORK)
        return Capabilities((own,), frozenset(features), says)

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
            watch = Watch(on_event)
            result = self._build(request, folder, watch, cancel, until)
            yield result

    def _build(
        self,
        request: BuildRequest,
        folder: Path,
        watch: Watch,
        cancel: Cancel,
        until: float | None,
    ) -> BuildResult:
        recipe = request.recipe
        named = recipe.images if isinstance(recipe, Steps) else recipe.bases
        images: dict[str, BaseImage] = {}
        for text, base in named.items():
            images[text] = self._storage.bring(base, folder, cancel, until)
        if isinstance(recipe, Steps) and recipe.base is not None:
            images[BASE_NAME] = self._storage.bring(recipe.base, folder, cancel, until)
        if cancel.is_set():
            raise BuilderError("the build was cancelled", code="cancelled")
        data = dockerfile_of(recipe, self._storage, images)
        self._cleaner.used(image.identity for image in images.values())
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
            raise failure(recipe, watch, status)
        watch.end("done")
        identity = (folder / "ids").read_text().strip().removeprefix("sha256:")
        out = folder / "image"
        self._storage.ask(
            "push", "-q", "--disable-compression", "--signature-policy",
            str(self._storage.policy), identity, f"dir:{out}", cancel=cancel, until=until,
        )  # fmt: skip
        if isinstance(recipe, Dockerfile):
            self._cleaner.used([identity])
            return read_result(out, list(images.values()), request.epoch)
        bases = [images[BASE_NAME]] if BASE_NAME in images else []
        texts = [instruction.text for instruction in recipe.instructions]
        result = read_result(out, bases, request.epoch, instructions=texts)
        if identity not in {image.identity for image in images.values()}:
            self._storage.run([*self._storage.words, "rmi", identity], lambda line: None)
        return result

    def _command(
        self, request: BuildRequest, folder: Path, images: dict[str, BaseImage], watch: Watch
    ) -> list[str]:
        options = self._storage.options
        words = [
            *(() if request.network else self._storage.without_network),
            *self._storage.words, "build", "--layers", "--force-rm", "--pull=never",
            "--format", "docker", "--identity-label=false", "--timestamp", str(request.epoch),
            "--isolation", options.isolation, "--network", "host", "--no-hosts",
            *(("--ulimit", "core=0:0") if request.secrets else ()),
            "--signature-policy", str(self._storage.policy),
            "--ignorefile", str(folder / "ignore"), "--iidfile", str(folder / "ids"),
            "--file", str(folder / "Dockerfile"),
        ]  # fmt: skip
        if isinstance(request.recipe, Steps) or _DECLARES.search(request.recipe.data):
            words.append("--no-cache")
        if isinstance(request.recipe, Dockerfile) and request.recipe.target:
            words += ["--target", request.recipe.target]
        for text, image in by_every_text(request.recipe, images).items():
            words += ["--build-context", f"{text}=container-image://{image.identity}"]
        for name, value in request.arguments.items():
            words += ["--build-arg", f"{name}={value}"]
        for count, (name, read) in enumerate(request.secrets.items()):
            path = folder / f"secret-{count}"
            path.touch(0o600)
            secret = read()
            watch.redactor.learn(secret)
            path.write_bytes(secret)
            words += ["--secret", f"id={name},src={path}"]
        return [*words, str(folder / "context")]
