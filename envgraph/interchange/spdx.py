"""An SPDX 2.3 bill of materials of a lock, as JSON: equal locks give equal text."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import envgraph
from envgraph.interchange.document import Document, private_addresses
from envgraph.interchange.parts import (
    base_purl,
    document_uuid,
    licence_expression,
    needs,
    purl,
)
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage

_NEVER: Final = "1970-01-01T00:00:00Z"
"""Stands for the time of a lock that records none; the format demands one."""

_NOT_ID: Final = re.compile(r"[^A-Za-z0-9.-]")


def spdx(lock: LockedEnvironment, name: str, version: str) -> Document:
    """Every package with checksums, licence and package URL, and who needs whom."""
    packages = sorted(lock.packages, key=lambda p: (p.manager, p.name))
    root: dict[str, Any] = {
        **_common("SPDXRef-Environment", name, version, "NOASSERTION"),
        "primaryPackagePurpose": "CONTAINER",
        "comment": f"definition {lock.definition}, platform {lock.platform}",
    }
    entries = [root, *(_package(p) for p in packages)]
    relationships = [_related("SPDXRef-DOCUMENT", "DESCRIBES", root["SPDXID"])]
    if not lock.base.is_scratch:
        base = _base(lock.base)
        entries.insert(1, base)
        relationships.append(_related(root["SPDXID"], "DESCENDANT_OF", base["SPDXID"]))
    relationships += [_related(root["SPDXID"], "CONTAINS", _id(p)) for p in packages]
    relationships += [
        _related(_id(package), "DEPENDS_ON", _id(target))
        for package, targets in needs(packages).items()
        for target in targets
    ]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}:{version}",
        "documentNamespace": f"https://spdx.org/spdxdocs/envgraph-{document_uuid(lock, 'spdx')}",
        "creationInfo": {
            "created": lock.created or _NEVER,
            "creators": [f"Tool: envgraph-{envgraph.__version__}"],
        },
        "packages": entries,
        "relationships": relationships,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return Document(text, tuple(private_addresses(packages)))


def _id(package: LockedPackage) -> str:
    """An id that is the package's own: names differ by more than the format allows in ids."""
    name = _NOT_ID.sub("-", package.name)
    return f"SPDXRef-{package.manager}-{name}-{package.sha256.hex[:16]}"


def _common(identifier: str, name: str, version: str, location: str) -> dict[str, Any]:
    return {
        "SPDXID": identifier,
        "name": name,
        "versionInfo": version,
        "downloadLocation": location,
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    }


def _package(package: LockedPackage) -> dict[str, Any]:
    has_address = package.url.startswith(("https://", "http://")) and "${" not in package.url
    location = package.url if has_address and package.reproducible else "NOASSERTION"
    checksums = [{"algorithm": "SHA256", "checksumValue": package.sha256.hex}]
    if package.md5:
        checksums.append({"algorithm": "MD5", "checksumValue": package.md5})
    entry = {
        **_common(_id(package), package.name, package.version, location),
        "checksums": checksums,
        "externalRefs": [_purl_reference(purl(package))],
        **({"packageFileName": package.file_name} if package.file_name else {}),
    }
    expression = licence_expression(package)
    if expression and "LicenseRef-" not in expression:
        entry["licenseDeclared"] = expression
    elif package.license:
        entry["licenseComments"] = f"The package says: {package.license}"
    return entry


def _base(base: LockedBase) -> dict[str, Any]:
    assert base.manifest is not None
    address = base_purl(base)
    return {
        **_common("SPDXRef-Base", base.reference, str(base.manifest), "NOASSERTION"),
        "checksums": [{"algorithm": "SHA256", "checksumValue": base.manifest.hex}],
        "primaryPackagePurpose": "CONTAINER",
        **({"externalRefs": [_purl_reference(address)]} if address else {}),
    }


def _purl_reference(address: str) -> dict[str, str]:
    return {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": address,
    }


def _related(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
