"""Every file of the corpus is recognised and judged as a person would.

The corpus is a sample of public files: environments without their Dockerfiles, jobs
without their neighbours. So a missing neighbour is a right answer here, and each one
is listed. Set ENVGRAPH_CORPUS to its folder.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import pytest

from envgraph.errors import Diagnostic
from envgraph.spec import Judgement, judge_file, load_environment

#: Group → kind and verdict → how many files.
EXPECTED: Mapping[str, Mapping[str, int]] = {
    "azureml-deployments": {
        "conda valid": 7,
        "deployment invalid": 14,
        "deployment recognised": 44,
        "requirements valid": 1,
    },
    "azureml-environment-yaml": {
        "asset invalid": 50,
        "asset recognised": 7,
        "conda invalid": 14,
        "conda valid": 11,
        "environment invalid": 55,
        "environment valid": 20,
        "image-config recognised": 50,
        "requirements invalid": 9,
    },
    "azureml-jobs": {
        "component invalid": 5,
        "component recognised": 151,
        "conda valid": 12,
        "job invalid": 5,
        "job recognised": 45,
        "pipeline invalid": 23,
        "pipeline recognised": 53,
        "requirements valid": 2,
    },
    "conda-environment-yml": {"conda invalid": 15, "conda valid": 258, "requirements valid": 2},
    "conda-lock": {
        "conda valid": 6,
        "conda-lock invalid": 1,
        "conda-lock recognised": 4,
        "pyproject recognised": 2,
        "unknown unknown": 2,
    },
    "explicit-lock": {"explicit-lock recognised": 13},
    "mlflow-models": {
        "conda valid": 24,
        "mlmodel recognised": 111,
        "python-env recognised": 9,
        "requirements valid": 20,
    },
    "pixi-lock": {
        "pixi-lock recognised": 56,
        "pixi-manifest recognised": 63,
        "pyproject recognised": 10,
    },
}

#: Conda files without templates that do not load, and why (each was read by a person).
NOT_LOADING = {
    "BAMresearch+FenicsXConcrete/environment.yml": "not-a-project",  # -e . without the project
    "conda+rattler/test-data/environments/asymmetric_vqgan.environment.yaml": "not-a-project",
    "tensorchord+envd/e2e/language/testdata/python/conda/env.yaml": "not-a-project",
    "conda+conda-lock/tests/test-pip-hash-checking/environment.yml": "pip-hash",  # sha256:1234
    "Azure+MachineLearningNotebooks/how-to-use-azureml/automated-machine-learning/"
    "automl_env.yml": "remote-requirements",
    "Azure+MachineLearningNotebooks/how-to-use-azureml/automated-machine-learning/"
    "automl_env_linux.yml": "remote-requirements",
    "Azure+MachineLearningNotebooks/how-to-use-azureml/automated-machine-learning/"
    "automl_env_mac.yml": "remote-requirements",
}

#: What may be wrong outside of conda files: the neighbours that the sample left out
#: (Dockerfiles, contexts, components of pipelines), unfilled templates, one wrong key (in
#: Azure's own test of wrong files), one future lock.
CODES_ELSEWHERE = {
    "template": 163,
    "missing-dockerfile": 48,
    "missing-file": 54,
    "missing-folder": 24,
    "unknown-key": 1,
    "lock-version": 1,
}


@pytest.fixture(scope="module")
def corpus() -> Path:
    folder = os.environ.get("ENVGRAPH_CORPUS")
    if not folder:
        pytest.skip("ENVGRAPH_CORPUS is not set")
    return Path(folder)


@lru_cache(maxsize=1)
def judged(corpus: Path) -> Mapping[str, Judgement]:
    """Relative path → judgement, of every file but the corpus's own papers."""
    found = {}
    for path in sorted(corpus.rglob("*")):
        name = path.relative_to(corpus).as_posix()
        if path.is_file() and not name.startswith("LICENSES/") and name != "manifest.tsv":
            found[name] = judge_file(path)
    return found


def errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    return [d for d in diagnostics if d.severity == "error"]


def test_verdicts_by_kind(corpus: Path) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, judgement in judged(corpus).items():
        counts[name.partition("/")[0]][f"{judgement.kind} {judgement.verdict}"] += 1
    assert {group: dict(sorted(c.items())) for group, c in counts.items()} == EXPECTED


def test_every_problem_has_a_place_a_code_and_words(corpus: Path) -> None:
    for name, judgement in judged(corpus).items():
        for d in judgement.diagnostics:
            assert d.source is not None, name
            assert d.code, name
            assert d.summary, name
            assert len(d.summary) < 400, (name, d.summary)
            if d.code not in ("no-hash", "file-too-large"):
                assert d.source.line, (name, d)


def test_conda_files_without_templates_load(corpus: Path) -> None:
    group = corpus / "conda-environment-yml"
    failing: dict[str, str] = {}
    for name, judgement in judged(corpus).items():
        if not name.startswith("conda-environment-yml/") or judgement.kind != "conda":
            continue
        codes = {d.code for d in errors(judgement.diagnostics)}
        loaded = load_environment(corpus / name)
        assert (loaded.spec is None) is bool(codes), name
        if codes and codes != {"template"}:
            failing[Path(corpus / name).relative_to(group).as_posix()] = "/".join(sorted(codes))
    assert failing == NOT_LOADING


def test_what_is_wrong_elsewhere(corpus: Path) -> None:
    codes: Counter[str] = Counter()
    for name, judgement in judged(corpus).items():
        if not name.startswith("conda-environment-yml/"):
            codes.update(d.code for d in errors(judgement.diagnostics))
    assert dict(codes) == CODES_ELSEWHERE


def test_templates_point_at_themselves(corpus: Path) -> None:
    """The text at the reported place is the template: in YAML values and in plain lines."""
    count = 0
    for name, judgement in judged(corpus).items():
        lines = (corpus / name).read_text("utf-8-sig").splitlines()
        for d in judgement.diagnostics:
            if d.code != "template" or d.source is None or Path(d.source.file) != corpus / name:
                continue
            assert d.source.line is not None
            assert d.source.column is not None
            text = d.summary.partition(" is a template")[0]
            assert text in lines[d.source.line - 1][d.source.column - 1 :], (name, d)
            count += 1
    assert count > 160


def test_warnings_are_few_and_known(corpus: Path) -> None:
    codes = Counter(
        d.code for j in judged(corpus).values() for d in j.diagnostics if d.severity == "warning"
    )
    assert dict(codes) == {
        "comment-selector": 1,
        "foreign-key": 2,
        "no-hash": 3,
        "pip-without-python": 18,
        "remote-context": 1,
        "reserved-prefix": 2,
    }


def test_environments_in_jobs_and_deployments_are_found(corpus: Path) -> None:
    shapes: Counter[str] = Counter()
    for judgement in judged(corpus).values():
        for use in judgement.environments:
            if use.inline is not None:
                shapes["inline"] += 1
            elif use.reference is None:
                shapes["expression"] += 1
            else:
                place = "registry" if use.reference.registry else "workspace"
                what = "label" if use.reference.label else "version"
                shapes[f"{place} {what}"] += 1
    assert dict(shapes) == {
        "inline": 67,
        "registry label": 85,
        "registry version": 53,
        "workspace label": 18,
        "workspace version": 18,
    }


def test_the_same_text_is_the_same_environment(corpus: Path, tmp_path: Path) -> None:
    """CRLF, a BOM and a missing last newline change no definition of any real file."""
    from envgraph.model.identity import definition_digest, runtime_digest

    compared = 0
    for name, judgement in judged(corpus).items():
        if judgement.kind != "conda" or judgement.verdict != "valid":
            continue
        first = load_environment(corpus / name).spec
        assert first is not None
        if any(line.kind == "project" for line in first.conda.pip):  # type: ignore[union-attr]
            continue
        if len(first.inputs) > 1:
            continue
        text = (corpus / name).read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        for style in (text.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + text.rstrip(b"\n")):
            path = tmp_path / "environment.yml"
            path.write_bytes(style)
            second = load_environment(path).spec
            assert second is not None, name
            assert definition_digest(first) == definition_digest(second), name
            assert runtime_digest(first) == runtime_digest(second), name
        compared += 1
    assert compared > 250
