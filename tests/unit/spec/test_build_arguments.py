"""``build.args``: what enters, what is warned of, what ``FROM`` makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.model.identity import definition_digest
from envgraph.spec import LoadResult, load_environment

DOCKERFILE = "ARG TAG=1\nFROM tools:${TAG}\nARG FLAVOUR\nRUN echo $FLAVOUR\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx" / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def load(folder: Path, args: str) -> LoadResult:
    text = f"name: a\nbuild:\n  path: ctx\n  args: {args}\n" if args else (
        "name: a\nbuild:\n  path: ctx\n"
    )  # fmt: skip
    (folder / "e.yml").write_text(text)
    return load_environment(folder / "e.yml")


def said(result: LoadResult) -> list[tuple[str, str, int | None]]:
    return [(d.severity, d.code, d.source.line if d.source else None) for d in result.diagnostics]


def test_arguments_are_text_as_written(folder: Path) -> None:
    result = load(folder, "{TAG: 3.10, FLAVOUR: true}")
    assert said(result) == []
    assert result.spec is not None
    assert result.spec.build is not None
    assert result.spec.build.arguments == {"TAG": "3.10", "FLAVOUR": "true"}
    assert [image.text for image in result.spec.build.images] == ["tools:3.10"]
    assert result.spec.build.base == "tools:3.10"


def test_a_definition_without_arguments_is_what_it_was(folder: Path) -> None:
    digests = []
    for args in ("", "{}", "", "{TAG: '1'}", "{TAG: '2'}"):
        spec = load(folder, args).spec
        assert spec is not None
        digests.append(definition_digest(spec))
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_proxies_are_in_no_hash(folder: Path) -> None:
    plain, proxied = load(folder, "{TAG: '2'}"), load(
        folder, "{TAG: '2', HTTP_PROXY: 'http://u:p@proxy:1', no_proxy: x}"
    )  # fmt: skip
    assert said(proxied) == []
    assert plain.spec is not None
    assert proxied.spec is not None
    assert definition_digest(plain.spec) == definition_digest(proxied.spec)
    assert proxied.spec.build is not None
    assert set(proxied.spec.build.proxies) == {"HTTP_PROXY", "no_proxy"}


def test_an_argument_that_nothing_takes_is_a_warning(folder: Path) -> None:
    result = load(folder, "{OTHER: x, TAG: '1', MORE: y}")
    assert said(result) == [("warning", "unused-argument", 3)]
    assert "MORE, OTHER" in result.diagnostics[0].summary


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("GITHUB_TOKEN", True), ("DB_PASSWORD", True), ("API_KEY", True), ("SSHKEY", True),
        ("aws_secret_access", True), ("PGPASSWD", True), ("PUBLIC_KEY", False),
        ("CUDA_VERSION", False), ("KEYRING", False), ("AUTHOR", False), ("TOOL", False),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_a_warning(folder: Path, name: str, warned: bool) -> None:
    (folder / "ctx" / "Dockerfile").write_text(f"FROM tools:1\nARG {name}\n")
    result = load(folder, f"{{{name}: canary}}")
    assert [d.code for d in result.diagnostics] == ["secret-argument"] * warned
    assert all("secrets:" in d.hint and "canary" not in repr(d) for d in result.diagnostics)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ("[TAG=1]", "type"), ("TAG=1", "type"), ("{TAG: [1]}", "build-argument"),
        ("{TAG: }", "build-argument"), ("{TAG: {a: b}}", "build-argument"),
        ("{'a b': x}", "build-argument"), ("{1A: x}", "build-argument"),
        ("{BUILDKIT_SYNTAX: h/evil}", "build-argument"), ("{TARGETARCH: arm64}", "build-argument"),
        ("{SOURCE_DATE_EPOCH: '1'}", "build-argument"),
        (f"{{TAG: {'x' * 20000}}}", "build-argument"),
    ],
)  # fmt: skip
def test_what_is_no_argument_is_an_error_at_its_place(folder: Path, args: str, code: str) -> None:
    result = load(folder, args)
    assert result.spec is None
    assert [found for found in said(result) if found[0] == "error"] == [("error", code, 4)]


def test_an_empty_text_is_a_value(folder: Path) -> None:
    result = load(folder, "{FLAVOUR: ''}")
    assert result.spec is not None
    assert result.spec.build is not None
    assert result.spec.build.arguments == {"FLAVOUR": ""}


def test_a_remote_context_is_not_asked_while_files_are_read(folder: Path) -> None:
    (folder / "e.yml").write_text(
        "name: a\nbuild:\n  path: https://h.invalid/x.git#main\n  args: {A: b}\n"
    )
    result = load_environment(folder / "e.yml")
    assert result.diagnostics == ()
    assert result.spec is not None
    assert result.spec.build is not None
    assert (result.spec.build.tree, result.spec.build.arguments) == (None, {"A": "b"})
