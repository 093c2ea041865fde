"""A BuildKit client: builds from graphs and Dockerfiles, and what a worker keeps.

One client has one connection, and any number of threads may build over it at once. Every
failure is :class:`envgraph.api.BuilderError`, with a code, the output of the step and a hint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Unpack

from envgraph.api import BuilderError, Platform
from envgraph_buildkit.connection import Connection, Worker
from envgraph_buildkit.filesync import Tree, tree_of_file
from envgraph_buildkit.folders import Folder
from envgraph_buildkit.job import run_job
from envgraph_buildkit.llb import State
from envgraph_buildkit.messages import message
from envgraph_buildkit.options import BuildkitOptions, find_endpoint
from envgraph_buildkit.provenance import Provenance, provenance_of
from envgraph_buildkit.recipe import Written
from envgraph_buildkit.services import Login
from envgraph_buildkit.values import Settings, Solved, Usage, usage_of

_REMOTE: Final = ("http://", "https://", "git://", "ssh://", "git@")


class BuildkitClient:
    """A connection to a buildkitd, or to the BuildKit in a dockerd; safe for threads."""

    def __init__(
        self, address: str = "", *, ca: str = "", cert: str = "", key: str = "",
        server_name: str = "", credentials: Login = lambda host: None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        """Dial; BuilderError with a hint when nothing answers.

        ``address``: ``unix:///PATH`` or ``tcp://HOST:PORT``; empty: ``BUILDKIT_HOST``,
        ``DOCKER_HOST``, docker's context, the usual sockets. ``ca``, ``cert``, ``key``: PEM
        files; any of them makes it TLS. ``credentials``: the login for a registry's host.
        """
        options = BuildkitOptions(
            address=address, ca=ca, cert=cert, key=key, server_name=server_name
        )
        self._connection = Connection(find_endpoint(options, environ, Path.cwd()))
        self._credentials = credentials

    def __enter__(self) -> BuildkitClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Close the connection; builds that run end with BuilderError."""
        self._connection.close()

    @property
    def address(self) -> str:
        """Where it is."""
        return self._connection.endpoint.address

    def solve(
        self, state: State, *, config: bytes | None = None,
        local: Mapping[str, str | Path] | None = None,
        oci_layouts: Mapping[str, str | Path] | None = None,
        **settings: Unpack[Settings],
    ) -> Solved:  # fmt: skip
        """Build a graph.

        ``config``: the config (JSON) of images that are exported; without it BuildKit writes a
        bare one. ``local``, ``oci_layouts``: folders behind the names in the graph.
        """
        folders = {name: Folder(Path(path)) for name, path in (local or {}).items()}
        unique = {name: _listing(folder) for name, folder in folders.items()}
        definition = state.definition(self._platform(settings), lambda name: unique.get(name, ""))
        if missing := [name for name in definition.locals if name not in folders]:
            raise BuilderError(
                f"the graph reads a folder that nobody named: {', '.join(missing)}",
                code="builder-options", hint="solve(state, local={NAME: FOLDER})",
            )  # fmt: skip
        worker = self._connection.worker()
        if not worker.whole and definition.abilities:
            raise BuilderError(
                f"{self.address} lacks {', '.join(sorted(definition.abilities))}",
                code="builder-lacks",
                hint="use a buildkitd, or a dockerd with containerd's image store",
            )
        request = message("SolveRequest")()
        if definition.data:
            request.Definition.ParseFromString(definition.data)
        request.Entitlements.extend(definition.allowed)
        return run_job(
            self._connection, self._credentials, request, Written(b"", "", {}), folders,
            oci_layouts or {}, settings, config,
        )  # fmt: skip

    def build_dockerfile(
        self, context: str | Path = ".", *, dockerfile: str | Path | bytes = "Dockerfile",
        target: str = "", args: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        contexts: Mapping[str, str | Path] | None = None, no_cache: bool = False,
        pull: bool = False, network: Literal["", "host", "none"] = "",
        oci_layouts: Mapping[str, str | Path] | None = None,
        attributes: Mapping[str, str] | None = None, **settings: Unpack[Settings],
    ) -> Solved:  # fmt: skip
        """Build a Dockerfile, with BuildKit's own frontend.

        ``context``: a folder, whose ``.dockerignore`` holds, or a URL of git or of a tar.
        ``dockerfile``: a path in the context or elsewhere, or the text itself. ``contexts``:
        other folders (a Path), or sources (``docker-image://…``), by name. ``args`` are in the
        history of the image: secrets do not belong there. ``attributes``: others of the
        frontend.
        """
        made = {"platform": str(self._platform(settings))}
        made |= {f"build-arg:{name}": value for name, value in (args or {}).items()}
        made |= {f"label:{name}": value for name, value in (labels or {}).items()}
        for key, value in (
            ("target", target), ("force-network-mode", network),
            ("image-resolve-mode", "pull" if pull else ""),
        ):  # fmt: skip
            if value:
                made[key] = value
        if no_cache:
            made["no-cache"] = ""
        folders: dict[str, Tree | Folder] = {}
        data, path = b"", str(dockerfile)
        if isinstance(context, str) and context.startswith(_REMOTE):
            made["context"] = context
            if not isinstance(dockerfile, bytes):
                made["filename"] = path
        else:
            folders["context"] = Folder(Path(context))
        if isinstance(dockerfile, bytes):
            data, path = dockerfile, "Dockerfile"
            folders["dockerfile"] = tree_of_file("Dockerfile", data)
        elif "context" not in made:
            place = Path(context) / path
            data = _read(place)
            made["filename"] = place.name
            only = (place.name, f"{place.name}.dockerignore")
            folders["dockerfile"] = Folder(place.parent, only)
        for name, source in (contexts or {}).items():
            if isinstance(source, Path):
                made[f"context:{name}"] = f"local:{name}"
                folders[name] = Folder(source)
            else:
                made[f"context:{name}"] = source
        if (epoch := settings.get("epoch")) is not None:
            made["build-arg:SOURCE_DATE_EPOCH"] = str(epoch)
        made |= attributes or {}
        request = message("SolveRequest")(Frontend="dockerfile.v0", FrontendAttrs=made)
        if network == "host":
            request.Entitlements.append("network.host")
        return run_job(
            self._connection, self._credentials, request, Written(data, path, made), folders,
            oci_layouts or {}, settings, None,
        )  # fmt: skip

    def workers(self) -> tuple[Worker, ...]:
        """Every worker: labels, platforms, the version of BuildKit."""
        answer = self._ask("ListWorkers", "ListWorkersRequest", "ListWorkersResponse")
        return tuple(
            Worker(
                dict(each.Labels),
                tuple(Platform(p.OS, p.Architecture, p.Variant) for p in each.platforms),
                each.BuildkitVersion.version,
            )
            for each in answer.record
        )

    def disk_usage(self, *filters: str) -> tuple[Usage, ...]:
        """What the workers keep. ``filters``: BuildKit's (``type==source.local``)."""
        answer = self._ask(
            "DiskUsage", "DiskUsageRequest", "DiskUsageResponse", filter=list(filters)
        )
        return tuple(map(usage_of, answer.record))

    def prune(
        self, *filters: str, everything: bool = False, keep_seconds: float = 0, keep_bytes: int = 0
    ) -> tuple[Usage, ...]:
        """Remove what no build uses, and tell what it was.

        ``everything``: frontends and images that others share too. ``keep_seconds``: what was
        used since then stays. ``keep_bytes``: so much stays, of what was used last.
        """
        request = message("PruneRequest")(
            filter=list(filters), all=everything, keepDuration=int(keep_seconds * 1_000_000_000),
            reservedSpace=keep_bytes,
        )  # fmt: skip
        return tuple(map(usage_of, self._connection.stream("Prune", request, "UsageRecord")))

    def provenance(self, ref: str) -> tuple[Provenance, ...]:
        """How a build was made (:attr:`Solved.ref`), out of the worker's history.

        It changes no image: every build has it there. BuilderError ``builder-lacks`` from
        workers that keep no history.
        """
        return provenance_of(self._connection, ref)

    def _ask(self, method: str, request: str, answer: str, **values: Any) -> Any:
        return self._connection.unary(method, message(request)(**values), answer)

    def _platform(self, settings: Settings) -> Platform:
        offered = self._connection.worker().platforms
        return settings.get("platform") or (offered[0] if offered else Platform("linux", "amd64"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuilderError(
            f"the Dockerfile {path} cannot be read: {error.strerror}", code="builder-options"
        ) from None


def _listing(folder: Folder) -> str:
    """Equal for folders that hold the same files with the same times."""
    found = folder.entries()
    lines = sorted(f"{e.path}\0{e.mode}\0{e.size}\0{e.link}\0{time}" for e, time in found.values())
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
