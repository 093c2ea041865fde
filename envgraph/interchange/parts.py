"""What bills of materials say of a lock's parts: package URLs, licences, who needs whom.

From the lock alone: no archive is opened, nothing is asked.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

from envgraph.model.identity import lock_identity
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.reference import BadReferenceError, RegistryReference, parse_reference

_NAMESPACE: Final = uuid.UUID("0c5c5ad2-3f5e-5f0e-9c59-6e2f5d0e7a11")
"""Under which documents of envgraph are named; any fixed value would do."""


def purl(package: LockedPackage) -> str:
    """The package URL (https://github.com/package-url/purl-spec), qualifiers sorted.

    >>> from envgraph_store.digest import Digest
    >>> numpy = LockedPackage("conda", "numpy", "2.1.0", "py312_0", "linux-64", Digest.of(b""),
    ...                       "conda-forge", file_name="numpy-2.1.0-py312_0.conda")
    >>> purl(numpy)
    'pkg:conda/numpy@2.1.0?build=py312_0&channel=conda-forge&subdir=linux-64&type=conda'
    """
    head = f"pkg:{'pypi' if package.manager == 'pip' else 'conda'}/{_quoted(package.name)}"
    head += f"@{_quoted(package.version)}"
    if package.manager == "pip":
        return head + _qualifiers({"file_name": package.file_name})
    kind = "tar.bz2" if package.file_name.endswith(".tar.bz2") else "conda"
    return head + _qualifiers(
        {
            "build": package.build,
            "channel": package.channel,
            "subdir": package.subdir,
            "type": kind,
        }
    )


def base_purl(base: LockedBase) -> str:
    """The package URL of a base image; empty for one that lies on disk, or none."""
    if base.manifest is None or not base.in_registry:
        return ""
    try:
        reference = parse_reference(base.reference)
    except BadReferenceError:
        return ""
    if not isinstance(reference, RegistryReference):
        return ""
    name = reference.repository.rpartition("/")[2]
    where = f"{reference.domain}/{reference.repository}"
    return f"pkg:oci/{_quoted(name)}@{_quoted(str(base.manifest))}" + _qualifiers(
        {"repository_url": where, "tag": reference.tag or ""}
    )


def _quoted(text: str) -> str:
    return quote(text, safe=".-_~")


def _qualifiers(values: Mapping[str, str]) -> str:
    given = [f"{key}={_quoted(value)}" for key, value in sorted(values.items()) if value]
    return "?" + "&".join(given) if given else ""


def licence_expression(package: LockedPackage) -> str:
    """The package's licence as an SPDX expression; empty where its text is none."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if not package.license:
        return ""
    try:
        return str(canonicalize_license_expression(package.license))
    except InvalidLicenseExpression:
        return ""


def needs(packages: Iterable[LockedPackage]) -> dict[LockedPackage, list[LockedPackage]]:
    """Each package with the locked ones that it depends on, sorted.

    Locks record that of conda packages; wheels carry it inside.
    """
    known = {p.name: p for p in packages if p.manager == "conda"}
    return {
        package: sorted(
            {
                target
                for text in package.depends
                if (target := known.get(text.split(" ")[0].rpartition("::")[2].lower()))
                and target != package
            },
            key=lambda p: p.name,
        )
        for package in known.values()
    }


def document_uuid(lock: LockedEnvironment, kind: str) -> str:
    """The same UUID for the same lock, format and time of locking."""
    return str(uuid.uuid5(_NAMESPACE, f"{kind}\n{lock_identity(lock)}\n{lock.created}"))
