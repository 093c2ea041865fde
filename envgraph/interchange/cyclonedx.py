"""A CycloneDX 1.6 bill of materials of a lock, as JSON.

``uuid``, times and order follow from the lock alone: equal locks give equal text.
"""

from __future__ import annotations

import json
from typing import Any

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


def cyclonedx(lock: LockedEnvironment, name: str, version: str) -> Document:
    """Every package with hashes, licence, channel and build, and who needs whom.

    What lies in the base image is not known to a lock: the base is one component by
    digest, and the composition is said to be incomplete.
    """
    packages = sorted(lock.packages, key=lambda p: (p.manager, p.name))
    root = f"envgraph:{name}:{version}"
    base = None if lock.base.is_scratch else _base(lock.base)
    direct = [p for p in packages if p.direct] or packages
    edges = [
        {
            "ref": root,
            "dependsOn": sorted([*map(purl, direct), *([base["bom-ref"]] if base else [])]),
        }
    ]
    edges += [
        {"ref": purl(package), "dependsOn": sorted(map(purl, targets))}
        for package, targets in needs(packages).items()
    ]
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{document_uuid(lock, 'cyclonedx')}",
        "version": 1,
        "metadata": {
            **({"timestamp": lock.created} if lock.created else {}),
            "tools": {
                "components": [
                    {"type": "application", "name": "envgraph", "version": envgraph.__version__}
                ]
            },
            "component": {
                "type": "container",
                "bom-ref": root,
                "name": name,
                "version": version,
                "properties": [
                    {"name": "envgraph:definition", "value": str(lock.definition)},
                    {"name": "envgraph:platform", "value": lock.platform},
                ],
            },
        },
        "components": [*([base] if base else []), *(_component(p) for p in packages)],
        "dependencies": edges,
        "compositions": [{"aggregate": "incomplete" if base else "complete", "assemblies": [root]}],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return Document(text, tuple(private_addresses(packages)))


def _component(package: LockedPackage) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": package.sha256.hex}]
    if package.md5:
        hashes.append({"alg": "MD5", "content": package.md5})
    properties = {
        "envgraph:manager": package.manager,
        "envgraph:channel": package.channel,
        "envgraph:subdir": package.subdir,
        "envgraph:build": package.build,
        "envgraph:direct": "true" if package.direct else "",
        "envgraph:reproducible": "" if package.reproducible else "false",
    }
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package.name,
        "version": package.version,
        "hashes": hashes,
        "purl": purl(package),
        "properties": [{"name": k, "value": v} for k, v in sorted(properties.items()) if v],
    }
    expression = licence_expression(package)
    if expression:
        component["licenses"] = [{"expression": expression}]
    elif package.license:
        component["licenses"] = [{"license": {"name": package.license}}]
    if package.url and package.reproducible and "${" not in package.url:
        component["externalReferences"] = [{"type": "distribution", "url": package.url}]
    return component


def _base(base: LockedBase) -> dict[str, Any]:
    address = base_purl(base)
    assert base.manifest is not None
    return {
        "type": "container",
        "bom-ref": address or f"base:{base.manifest}",
        "name": base.reference,
        "version": str(base.manifest),
        "hashes": [{"alg": "SHA-256", "content": base.manifest.hex}],
        **({"purl": address} if address else {}),
    }
