"""``export``: a version of an environment for other tools."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from envgraph.interchange.document import Document
    from envgraph.model.records import VersionRecord
    from envgraph.workspace import Workspace

FORMATS: Final = (
    "conda-lock", "explicit", "requirements", "pylock", "dockerfile", "oci", "cyclonedx", "spdx",
    "provenance",
)  # fmt: skip

SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    flags=(
        Flag("--format", "see below", "FORMAT", ("-f",)),
        Flag("--output", "a file instead of stdout", "PATH", ("-o",)),
        Flag("--platform", "of formats for one platform; default: the first", "PLATFORM"),
    ),
    notes=(
        "conda-lock: all platforms, conda and pip packages. explicit: conda packages with their "
        "sha256, for conda 24.9 and newer. requirements, pylock: pip packages with their hashes. "
        "cyclonedx and spdx: a bill of materials (JSON) that knows conda packages. "
        "provenance: how BuildKit built the docker steps or the context (SLSA, JSON), where "
        "`builder: {provenance: max}` kept it. "
        "dockerfile: the same packages on the same base by digest, for any builder; it needs the "
        "channels and a micromamba image (--build-arg INSTALLER=…). oci: the "
        "image, as a folder or (when PATH ends in .tar) as an archive that skopeo, podman and "
        "`docker load` read.",
    ),
    examples=(
        ("envgraph export train --format explicit -o train.txt", "for conda create --file"),
        ("envgraph export train:3 --format oci -o train.tar && docker load -i train.tar", "run it"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which version, in which form, to where."""

    reference: str
    format: str
    output: Path | None
    platform: str | None


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError for a format that this version does not write."""
    chosen = values.text("--format")
    if chosen is None:
        raise UsageError(
            "export needs --format", hint=f"one of {', '.join(FORMATS)}", code="no-format"
        )
    if chosen not in FORMATS:
        raise UsageError(
            f"unknown format {chosen!r}", hint=f"one of {', '.join(FORMATS)}", code="no-format"
        )
    output = values.text("--output")
    return Arguments(
        reference(values),
        chosen,
        None if output in (None, "-") else Path(str(output)),
        values.text("--platform"),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Write the document or the image."""
    with session.open_workspace() as workspace:
        record = workspace.find(arguments.reference)
        if arguments.format == "oci":
            return _image(arguments, record, workspace, session)
        document = _document(arguments, record, workspace)
    session.report(document.diagnostics)
    if arguments.output is not None:
        arguments.output.write_text(document.text, encoding="utf-8")
        if session.common.json:
            session.answer({"format": arguments.format, "output": str(arguments.output)})
        else:
            session.console.note(f"wrote {arguments.output}")
    elif session.common.json:
        session.answer({"format": arguments.format, "text": document.text})
    else:
        session.console.raw(document.text)
    return 0


def _document(arguments: Arguments, record: VersionRecord, workspace: Workspace) -> Document:
    title = f"{record.environment}:{record.version}"
    if arguments.format == "conda-lock":
        from envgraph.interchange.condalock import conda_lock

        platforms = [arguments.platform] if arguments.platform else list(record.locks)
        return conda_lock([workspace.lock_of(record, platform) for platform in platforms])
    lock = workspace.lock_of(record, arguments.platform)
    if arguments.format == "provenance":
        from envgraph.interchange.parcel import pack
        from envgraph.interchange.provenance import provenance

        nodes = pack(workspace.store, workspace.config, record).nodes
        return provenance(workspace.store, nodes[lock.platform].built, title)
    if arguments.format == "explicit":
        from envgraph.interchange.explicit import explicit

        return explicit(lock, title)
    if arguments.format == "pylock":
        from envgraph.interchange.pylock import pylock

        return pylock(lock, title)
    if arguments.format == "cyclonedx":
        from envgraph.interchange.cyclonedx import cyclonedx

        return cyclonedx(lock, record.environment, record.version)
    if arguments.format == "dockerfile":
        from envgraph.history.describe import variables_of
        from envgraph.interchange.dockerfile import dockerfile

        return dockerfile(lock, title, variables_of(workspace.store, record))
    if arguments.format == "spdx":
        from envgraph.interchange.spdx import spdx

        return spdx(lock, record.environment, record.version)
    from envgraph.interchange.requirements import requirements

    return requirements(lock, title)


def _image(
    arguments: Arguments, record: VersionRecord, workspace: Workspace, session: Session
) -> int:
    from envgraph.cli.local import fetch_base
    from envgraph.image.oci_export import export_oci

    if arguments.output is None:
        raise UsageError(
            "an image goes to a file or folder, not to the terminal",
            hint="-o image.tar, or -o FOLDER",
        )
    digest = record.image
    if arguments.platform is not None:
        if arguments.platform not in record.images:
            raise NotFoundError(
                f"{record.environment}:{record.version} has no image for {arguments.platform}",
                hint=f"it has {', '.join(record.images)}",
            )
        digest = record.images[arguments.platform]
    fetch_base(workspace, record, [arguments.platform] if arguments.platform else None, session)
    names = [f"{record.image_name}:{_tag(record.version)}"]
    total = export_oci(workspace.store.blobs, digest, names, arguments.output)
    answer = {
        "format": "oci",
        "output": os.fspath(arguments.output),
        "image": str(digest),
        "names": names,
        "bytes": total,
    }
    if session.common.json:
        session.answer(answer)
    else:
        from envgraph.cli.views.text import size

        session.console.note(f"wrote {arguments.output}, {size(total)}: {names[0]}")
    return 0


def _tag(version: str) -> str:
    from envgraph.model.names import escape_tag

    return escape_tag(version)
