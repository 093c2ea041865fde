"""What was pushed, pulled or shared: for people, or as the last JSON line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Values
from envgraph.cli.views.console import Styled
from envgraph.cli.views.diagnostics import print_diagnostics, redacted
from envgraph.cli.views.text import size

if TYPE_CHECKING:
    from envgraph.apply.library import Pulled
    from envgraph.apply.reports import PushReport
    from envgraph.cli.session import Session
    from envgraph.model.records import VersionRecord


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ValueError("not a whole number from 1 to 1024")
    return int(text)


PARALLELISM: Final = Flag("--parallelism", "blobs at a time; default: 4", "N", check=_at_least_one)


def at_once(values: Values) -> int:
    """How many blobs move at a time; at least as many as there are processors."""
    return int(values.text("--parallelism") or max(4, os.cpu_count() or 1))


def conclude_push(
    record: VersionRecord,
    report: PushReport,
    registry: str | None,
    session: Session,
    *,
    shared: bool = False,
) -> int:
    """Say what became of a push; its exit code."""
    from envgraph.apply.cataloguing import moves_json
    from envgraph.history.timeline import change_words

    for failure in report.failures:
        session.report(failure.diagnostics)
    done = report.count > 0 and not report.failures
    _answer(
        session,
        {
            "environments": [_document(record, registry or "registry")] if done else [],
            "pushed": report.count,
            "bytes_moved": report.bytes_moved,
            **({"moves": moves_json(report.moves)} if shared else {}),
        },
    )
    if done and not session.common.json:
        name = f"{record.environment}:{record.version}"
        there = "shared" if shared else "in the registry"
        sent = f", {size(report.bytes_moved)} sent" if report.bytes_moved else ", nothing to send"
        session.console.out(Styled(name, "bold"), f"  {record.image_name}")
        session.console.out("  image ", str(record.image))
        where = f" as `{registry}`" if registry else ""
        session.console.out(f"It is {there}{where}{sent}.")
        for change in report.moves:
            about = "" if change.event == "label" else f"version {change.version} "
            session.console.out("  ", about, change_words(change))
    if report.interrupted:
        if not session.common.json:
            print_diagnostics(session.console, session.problems)
        raise KeyboardInterrupt
    return max((failure.exit_code for failure in report.failures), default=0)


def show_pulled(pulled: Sequence[Pulled], session: Session) -> None:
    """Say what was pulled, and how it is called here."""
    moved = sum(item.bytes_moved for item in pulled)
    _answer(
        session,
        {
            "environments": [
                _document(item.record, item.registry) | {"registered": item.registered}
                for item in pulled
            ],
            "bytes_moved": moved,
        },
    )
    if session.common.json:
        return
    show = session.console.out
    for item in pulled:
        record = item.record
        name = f"{record.environment}:{record.version}"
        show(Styled(name, "bold"), f"  {record.kind}")
        show("  image ", str(record.image))
        if not item.registered:
            show(
                f"  use it as azureml://registries/{item.registry}/environments/"
                f"{record.environment}/versions/{record.version}"
            )
    show(f"Fetched {size(moved)}." if moved else "It was here already.")


def _document(record: VersionRecord, registry: str) -> dict[str, object]:
    return {
        "name": record.environment,
        "version": record.version,
        "kind": record.kind,
        "definition": str(record.definition),
        "image": str(record.image),
        "image_name": record.image_name,
        "registry": registry,
    }


def _answer(session: Session, document: dict[str, object]) -> None:
    if not session.common.json:
        return
    said = [redacted(d) for d in (*session.problems, *session.notices)]
    whole = {"format_version": "1", "type": "result", **document, "diagnostics": said}
    session.console.raw(json.dumps(whole))
