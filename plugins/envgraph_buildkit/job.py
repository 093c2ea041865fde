"""One build of a client: checked against the worker, sent, and its results put in their places."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from envgraph.api import BuilderError, SecretReader
from envgraph_buildkit import caches as caching
from envgraph_buildkit import exporters as exporting
from envgraph_buildkit.agents import Agents
from envgraph_buildkit.connection import Connection
from envgraph_buildkit.content import Content, Layout, Store
from envgraph_buildkit.exporters import Exporter, Oci
from envgraph_buildkit.filesync import FileSync, Tree
from envgraph_buildkit.folders import Folder
from envgraph_buildkit.outputs import FileSend
from envgraph_buildkit.progress import Progress, Redactor
from envgraph_buildkit.provenance import provenance_of
from envgraph_buildkit.recipe import Written
from envgraph_buildkit.services import Login, logins, secrets
from envgraph_buildkit.solve import run_solve
from envgraph_buildkit.values import Settings, Solved

_DESCRIPTOR: Final = "containerimage.descriptor"


def run_job(
    connection: Connection, login: Login, request: Any, written: Written,
    folders: Mapping[str, Tree | Folder], layouts: Mapping[str, str | Path],
    settings: Settings, config: bytes | None,
) -> Solved:  # fmt: skip
    """Complete a Solve request with what the settings say, run it, and keep what comes.

    BuilderError before anything is sent for what this worker would ignore without a word.
    """
    exporters = tuple(settings.get("exporters", ()))
    taken = tuple(settings.get("cache_imports", ()))
    left = tuple(settings.get("cache_exports", ()))
    epoch, mode = settings.get("epoch"), settings.get("provenance")
    worker, title = connection.worker(), connection.endpoint.address
    exporting.check(exporters, whole=worker.whole, version=worker.version, title=title)
    caching.check(taken, left, exporters, whole=worker.whole, title=title)
    if not worker.whole and (epoch is not None or mode):
        raise BuilderError(
            f"{title} knows neither epochs nor provenance, and would ignore them",
            code="builder-lacks",
        )
    request.Ref = uuid.uuid4().hex
    if mode:
        request.FrontendAttrs["attest:provenance"] = f"mode={mode}"
    request.Entitlements.extend(settings.get("allow", ()))
    _add_exporters(request, exporters, config, epoch)
    imports, exports = [*caching.imports(taken)], [*caching.exports(left)]
    caching.add(request, imports, exports, frontend=bool(request.Frontend))
    redactor = Redactor()
    progress = Progress(settings.get("on_event", lambda event: None), redactor)
    with _targets(exporters) as sent:
        response = run_solve(
            connection, request,
            {
                **FileSync(folders).handlers(),
                **Content(_stores(exporters, [*imports, *exports], layouts)).handlers(),
                **sent.handlers(),
                **Agents(settings.get("ssh", {})).handlers(),
                **logins(login, redactor),
                **secrets(_readers(settings.get("secrets", {})), redactor),
            },
            progress, written,
            cancel=settings.get("cancel") or threading.Event(), timeout=settings.get("timeout"),
        )  # fmt: skip
    for each in exporters:
        if isinstance(each, Oci) and not each.tar:
            names = [each.name] if each.name else []
            exporting.write_index(Path(each.path), _descriptor(response), names)
    caching.finish(left, response)
    return Solved(
        request.Ref, response, progress.count("done"), progress.count("skipped"),
        provenance_of(connection, request.Ref) if mode else (),
    )  # fmt: skip


def _stores(
    exporters: Sequence[Exporter], entries: Sequence[caching.Entry],
    layouts: Mapping[str, str | Path],
) -> dict[str, Store]:  # fmt: skip
    """Every store that BuildKit may name; image layouts go by both names that it uses."""
    stores: dict[str, Store] = {}
    for entry in entries:
        stores |= entry.stores
    for name, path in layouts.items():
        stores[name] = stores[f"oci:{name}"] = Layout(Path(path))
    for each in exporters:
        if isinstance(each, Oci) and not each.tar:
            stores["export"] = Layout(Path(each.path))
    return stores


def _add_exporters(
    request: Any, exporters: Sequence[Exporter], config: bytes | None, epoch: int | None
) -> None:
    """The first goes where every server looks; several where new ones do."""
    for number, each in enumerate(exporters):
        kind = exporting.type_of(each)
        attributes = exporting.attributes_of(each, config=config, epoch=epoch)
        if number == 0:
            request.Exporter = kind
            request.ExporterAttrs.update(attributes)
        if len(exporters) > 1:
            request.Exporters.add(Type=kind, Attrs=attributes)


@contextmanager
def _targets(exporters: Sequence[Exporter]) -> Iterator[FileSend]:
    """What comes is visible when the block ends well, and gone when it does not."""
    targets = {n: t for n, each in enumerate(exporters) if (t := exporting.target_of(each))}
    try:
        yield FileSend(targets)
        for target in targets.values():
            target.keep()
    except BaseException:
        for target in targets.values():
            with contextlib.suppress(OSError):
                target.drop()
        raise


def _descriptor(response: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = json.loads(base64.b64decode(response[_DESCRIPTOR]))
    except (KeyError, ValueError):
        raise BuilderError("BuildKit does not say what it sent", code="builder-answer") from None
    return dict(found)


def _readers(values: Mapping[str, bytes | SecretReader]) -> dict[str, SecretReader]:
    return {
        name: partial(bytes, value) if isinstance(value, bytes) else value
        for name, value in values.items()
    }
