"""pylock.toml, CycloneDX and SPDX: read and judged by the libraries that own the formats."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL
from packaging.pylock import Pylock
from spdx_tools.spdx.model import Document as SpdxDocument
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from envgraph.interchange.cyclonedx import cyclonedx
from envgraph.interchange.parts import purl
from envgraph.interchange.pylock import pylock
from envgraph.interchange.spdx import spdx
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

HERE = Digest.of(b"definition")


def conda(name: str, *depends: str, **more: object) -> LockedPackage:
    values: dict[str, object] = {
        "url": f"https://example.com/c/noarch/{name}-1.0-h_0.conda",
        "file_name": f"{name}-1.0-h_0.conda",
        "md5": "0" * 32,
        "size": 3,
        "depends": depends,
        "license": "MIT",
    } | more
    digest = Digest.of(name.encode())
    return LockedPackage("conda", name, "1.0", "h_0", "noarch", digest, "c", **values)  # type: ignore[arg-type]


def wheel(name: str, **more: object) -> LockedPackage:
    values: dict[str, object] = {
        "url": f"https://example.com/w/{name}-2.0-py3-none-any.whl",
        "file_name": f"{name}-2.0-py3-none-any.whl",
        "size": 5,
    } | more
    digest = Digest.of(name.encode())
    return LockedPackage("pip", name, "2.0", "", "", digest, "", **values)  # type: ignore[arg-type]


PYTHON = replace(conda("python"), version="3.12.4")
BASE = LockedBase("docker.io/library/debian:12", manifest=Digest.of(b"m"), config=Digest.of(b"c"))


def lock(*packages: LockedPackage, base: LockedBase | None = None) -> LockedEnvironment:
    return LockedEnvironment(
        HERE, HERE, "linux-64", base or LockedBase("scratch"), packages,
        created="2026-11-23T04:25:00Z",
    )  # fmt: skip


WHOLE = lock(
    PYTHON,
    conda("numpy", "python >=3.12", "c::libblas 3.*"),
    conda("libblas", license="odd words"),
    wheel("rich"), base=BASE,
)  # fmt: skip


def read_spdx(text: str, folder: Path) -> SpdxDocument:
    path = folder / "bill.spdx.json"
    path.write_text(text, encoding="utf-8")
    return parse_file(str(path))


def test_packaging_reads_the_pylock_and_finds_every_wheel() -> None:
    document = pylock(WHOLE, "train:1")
    read = Pylock.from_dict(tomllib.loads(document.text))
    [package] = read.packages
    assert package.wheels is not None
    [found] = package.wheels
    assert (package.name, str(package.version)) == ("rich", "2.0")
    assert found.hashes == {"sha256": Digest.of(b"rich").hex}
    assert (found.size, found.url) == (5, "https://example.com/w/rich-2.0-py3-none-any.whl")
    assert str(read.requires_python) == "==3.12.*"
    [problem] = document.diagnostics
    assert "3 conda packages" in problem.summary


def test_a_pylock_without_packages_is_one_too() -> None:
    assert Pylock.from_dict(tomllib.loads(pylock(lock(), "x").text)).packages == []


def test_a_wheel_that_was_built_here_is_no_wheel_for_others() -> None:
    document = pylock(lock(wheel("mine", reproducible=False)), "x")
    assert tomllib.loads(document.text)["packages"] == []
    assert "built here" in document.diagnostics[0].summary


def test_cyclonedx_is_valid_and_whole() -> None:
    text = cyclonedx(WHOLE, "train", "1").text
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = Bom.from_json(json.loads(text))  # type: ignore[attr-defined]
    assert bom.validate()
    by_name = {c.name: c for c in bom.components}
    assert set(by_name) == {"python", "numpy", "libblas", "rich", BASE.reference}
    assert {str(h.content) for h in by_name["rich"].hashes} == {Digest.of(b"rich").hex}
    needs = {str(d.ref): {str(x.ref) for x in d.dependencies} for d in bom.dependencies}
    numpy, blas = purl(WHOLE.packages[1]), purl(WHOLE.packages[2])
    assert blas in needs[numpy]


def test_a_validator_that_could_not_fail_would_say_nothing() -> None:
    document = json.loads(cyclonedx(WHOLE, "train", "1").text)
    document["components"][0]["hashes"][0]["content"] = "no hash"
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(document)) is not None


def test_spdx_is_valid_and_whole(tmp_path: Path) -> None:
    document = read_spdx(spdx(WHOLE, "train", "1").text, tmp_path)
    assert validate_full_spdx_document(document) == []
    assert {p.name for p in document.packages} == {
        "train", BASE.reference, "python", "numpy", "libblas", "rich",
    }  # fmt: skip
    kinds = {r.relationship_type.name for r in document.relationships}
    assert kinds == {"DESCRIBES", "DESCENDANT_OF", "CONTAINS", "DEPENDS_ON"}


def test_package_urls_are_read_back() -> None:
    for package in WHOLE.packages:
        read = PackageURL.from_string(purl(package))
        assert (read.name, read.version) == (package.name, package.version)
        assert read.to_string() == purl(package)


NAMES = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,20}", fullmatch=True)
LICENCES = st.sampled_from(["", "MIT", "GPL-3.0-or-later", "BSD 3-Clause", "LicenseRef-x", "mit"])


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(NAMES, st.tuples(st.booleans(), LICENCES), max_size=6))
def test_whatever_is_locked_the_bills_are_valid(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, tuple[bool, str]]
) -> None:
    packages = [
        conda(name, *found, license=text) if is_conda else wheel(name)
        for name, (is_conda, text) in found.items()
    ]
    one = lock(*packages)
    text = cyclonedx(one, "some name", "1").text
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    hashes = {c["hashes"][0]["content"] for c in json.loads(text)["components"]}
    assert hashes == {p.sha256.hex for p in packages}
    document = read_spdx(spdx(one, "some name", "1").text, tmp_path_factory.mktemp("spdx"))
    assert validate_full_spdx_document(document) == []
    for export in (cyclonedx, spdx):
        assert export(one, "n", "1").text == export(lock(*packages), "n", "1").text
