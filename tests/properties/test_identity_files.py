"""What a user writes, and which identity it moves: rows M41 to M45 and M50, from files."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envgraph.model.identity import (
    definition_digest,
    image_name,
    runtime_digest,
)
from envgraph.model.spec import EnvironmentSpec
from envgraph.spec import load_environment
from envgraph_store.digest import Digest

ENVIRONMENT = """\
name: train
version: 3
description: what it is for
tags: {team: fraud}
image: python:3.12
conda_file: conda.yml
docker_steps:
- RUN apt-get update
"""
CONDA = """\
name: inner
channels:
- conda-forge
- bioconda
dependencies:
- python=3.12
- numpy >=1.26,<3
- pip
- pip:
  - -r requirements.txt
  - Flask_Login==0.6.3
"""
REQUIREMENTS = "requests[socks]>=2\nurllib3==2.2.1\n"


def load(folder: Path, environment: str = ENVIRONMENT, **files: str) -> EnvironmentSpec:
    """The environment of ``folder`` after writing these files (``conda``, ``requirements``)."""
    folder.mkdir(exist_ok=True)
    conda = files.get("conda", CONDA)
    requirements = files.get("requirements", REQUIREMENTS)
    for name, text in (
        ("environment.yml", environment),
        ("conda.yml", conda),
        ("requirements.txt", requirements),
    ):
        (folder / name).write_bytes(text.encode())
    result = load_environment(folder / "environment.yml")
    assert result.spec is not None, result.diagnostics
    return result.spec


def definition(folder: Path, environment: str = ENVIRONMENT, **files: str) -> Digest:
    return definition_digest(load(folder, environment, **files))


def test_m41_the_definition_is_the_same_everywhere(tmp_path: Path) -> None:
    """Another folder, umask, locale, time zone, hash seed and working folder: one digest."""
    here = definition(tmp_path / "here")
    load(tmp_path / "there")
    code = (
        "import os, sys; os.umask(0o077)\n"
        "from envgraph.spec import load_environment\n"
        "from envgraph.model.identity import definition_digest\n"
        "print(definition_digest(load_environment(sys.argv[1]).spec))\n"
    )
    for seed, zone, locale in (("0", "UTC", "C"), ("1234", "Asia/Kathmandu", "tr_TR.UTF-8")):
        environ = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale}
        for folder, path in (("/", tmp_path / "there/environment.yml"),
                             (tmp_path / "there", "environment.yml")):  # fmt: skip
            run = subprocess.run(
                [sys.executable, "-c", code, str(path)],
                cwd=folder, env=environ, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert run.stdout.strip() == str(here)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": ENVIRONMENT.replace("3.12", "3.13")},
        {"environment": ENVIRONMENT.replace("apt-get update", "apt-get upgrade")},
        {"environment": ENVIRONMENT + "- RUN true\n"},
        {"conda": CONDA.replace("numpy", "scipy")},
        {"conda": CONDA.replace("conda-forge", "defaults")},
        {"conda": CONDA.replace("0.6.3", "0.6.4")},
        {"requirements": REQUIREMENTS.replace("2.2.1", "2.2.2")},
        {"requirements": REQUIREMENTS + "six\n"},
        {"requirements": REQUIREMENTS + "--extra-index-url https://host.example/simple\n"},
    ],
)
def test_m42_base_steps_and_packages_are_in_it(tmp_path: Path, change: dict[str, str]) -> None:
    assert definition(tmp_path, **change) != definition(tmp_path)


def test_m42_files_that_steps_copy_are_in_it(tmp_path: Path) -> None:
    text = ENVIRONMENT + "- COPY tool.sh data /opt/\n"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("1")
    (tmp_path / "tool.sh").write_text("#!/bin/sh\n")
    first = definition(tmp_path, text)
    (tmp_path / "tool.sh").chmod(0o755)
    executable = definition(tmp_path, text)
    (tmp_path / "data/a").write_text("2")
    edited = definition(tmp_path, text)
    (tmp_path / "data/b").write_text("")
    added = definition(tmp_path, text)
    assert len({first, executable, edited, added}) == 4
    (tmp_path / "data/b").unlink()
    (tmp_path / "data/a").write_text("1")
    (tmp_path / "tool.sh").chmod(0o640)
    assert definition(tmp_path, text) == first


def test_m42_local_projects_and_constraints_are_in_it(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/pyproject.toml").write_text("[project]\nname='x'\n")
    (tmp_path / "c.txt").write_text("six<2\n")
    conda = CONDA + "  - -e ./lib\n  - -c c.txt\n"
    first = definition(tmp_path, conda=conda)
    (tmp_path / "lib/new.py").write_text("")
    second = definition(tmp_path, conda=conda)
    (tmp_path / "c.txt").write_text("six<3\n")
    assert len({first, second, definition(tmp_path, conda=conda)}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"environment": ENVIRONMENT.replace("name: train", "name: other")},
        {"environment": ENVIRONMENT.replace("version: 3", "version: 4.10")},
        {"environment": ENVIRONMENT.replace("what it is for", "something else")},
        {"environment": ENVIRONMENT.replace("team: fraud", "cost: 12")},
        {"environment": ENVIRONMENT.replace("python:3.12", "docker.io/library/python:3.12")},
        {"environment": "# a comment\n" + ENVIRONMENT.replace("\n", "\r\n")},
        {"environment": "\ufeff" + ENVIRONMENT.rstrip("\n")},
        {"environment": ENVIRONMENT + "platforms: [linux-64, linux-aarch64]\n"},
        {"environment": ENVIRONMENT + "os_type: Linux\n$schema: https://x\nid: 1\n"},
        {"conda": CONDA.replace("name: inner", "name: other\nprefix: /opt/x")},
        {"conda": CONDA.replace("\n", "\r\n")},
        {"conda": CONDA.replace("numpy >=", "'  NumPy   >='".strip("'"))},
        {
            "conda": CONDA.replace(
                "- conda-forge\n- bioconda", "- 'conda-forge'   # why\n- bioconda"
            )
        },
        {"conda": CONDA.replace("Flask_Login", "flask.login")},
        {"requirements": "\n# comment\n  Requests[socks]>=2   # why\nURLLIB3==2.2.1"},
        {"requirements": REQUIREMENTS.replace("\n", "\r\n")},
    ],
)
def test_m43_what_has_no_effect(tmp_path: Path, change: dict[str, str]) -> None:
    assert definition(tmp_path, **change) == definition(tmp_path)


def test_m43_the_file_name_and_the_way_of_inclusion_have_no_effect(tmp_path: Path) -> None:
    first = definition(tmp_path)
    for name in ("environment.yml", "conda.yml"):
        (tmp_path / name).rename(tmp_path / f"renamed-{name}")
    text = ENVIRONMENT.replace("conda.yml", "file:./renamed-conda.yml")
    (tmp_path / "renamed-environment.yml").write_text(text)
    result = load_environment(tmp_path / "renamed-environment.yml")
    assert result.spec is not None
    assert definition_digest(result.spec) == first
    inline = ENVIRONMENT.replace(
        "conda_file: conda.yml",
        "conda_file:\n" + "\n".join("  " + line for line in CONDA.splitlines()),
    )
    assert definition(tmp_path, inline) == first
    without = CONDA.replace("-r requirements.txt", REQUIREMENTS.strip().replace("\n", "\n  - "))
    assert definition(tmp_path, conda=without) == first


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.randoms(use_true_random=False))
def test_m43_the_style_of_the_yaml_has_no_effect(tmp_path: Path, rng: random.Random) -> None:
    spec = load(tmp_path)
    assert spec.conda is not None
    texts = ["python=3.12", "numpy >=1.26,<3", "pip"]
    assert definition(tmp_path, conda=styled(rng, texts)) == definition_digest(spec)


def styled(rng: random.Random, texts: list[str]) -> str:
    """The conda file of these tests in another style: quotes, flow, comments, key order."""

    def scalar(text: str) -> str:
        return rng.choice([text, f"'{text}'", f'"{text}"']) if "," not in text else f'"{text}"'

    pip = ["-r requirements.txt", "Flask_Login==0.6.3"]
    newline = rng.choice(["\n", "\r\n"])
    comment = rng.choice(["", "  # a note"])
    if rng.random() < 0.5:
        items = ", ".join([*map(scalar, texts), "{pip: [" + ", ".join(map(scalar, pip)) + "]}"])
        dependencies = f"dependencies: [{items}]{comment}"
    else:
        indent = rng.choice(["", "  ", "      "])
        lines = [f"{indent}- {scalar(text)}{comment}" for text in texts]
        lines += [f"{indent}- pip:", *(f"{indent}    - {scalar(text)}" for text in pip)]
        dependencies = "dependencies:\n" + "\n".join(lines)
    channels = rng.choice(
        ["channels: [conda-forge, bioconda]", "channels:\n- conda-forge\n-  'bioconda'"]
    )
    parts = [channels, dependencies, "name: x"]
    rng.shuffle(parts)
    return rng.choice(["", "---\n", "# first\n"]) + "\n".join(parts).replace("\n", newline)


def test_m44_adding_removing_or_changing_a_package_changes_it(tmp_path: Path) -> None:
    texts = [
        CONDA,
        CONDA.replace("- pip\n", "- pip\n- scipy\n"),
        CONDA.replace("- numpy >=1.26,<3\n", ""),
        CONDA.replace("numpy >=1.26,<3", "numpy >=1.27,<3"),
        CONDA.replace("numpy >=1.26,<3", "conda-forge::numpy >=1.26,<3"),
        CONDA.replace("python=3.12", "python=3.12.*"),
        CONDA.replace("  - Flask_Login==0.6.3\n", ""),
    ]
    assert len({definition(tmp_path, conda=text) for text in texts}) == len(texts)


def test_m45_the_order_of_dependencies_and_channels_changes_it(tmp_path: Path) -> None:
    texts = [
        CONDA,
        CONDA.replace("- conda-forge\n- bioconda", "- bioconda\n- conda-forge"),
        CONDA.replace("- python=3.12\n- numpy >=1.26,<3", "- numpy >=1.26,<3\n- python=3.12"),
        CONDA.replace(
            "  - -r requirements.txt\n  - Flask_Login==0.6.3",
            "  - Flask_Login==0.6.3\n  - -r requirements.txt",
        ),
    ]
    assert len({definition(tmp_path, conda=text) for text in texts}) == len(texts)


def test_m50_two_names_share_an_image_and_a_third_does_not(tmp_path: Path) -> None:
    """Same base and packages under two names and versions: one image; other packages: another."""
    one = load(tmp_path / "1")
    two = load(tmp_path / "2", ENVIRONMENT.replace("train", "score").replace("3\n", "8\n", 1))
    three = load(tmp_path / "3", conda=CONDA.replace("numpy", "scipy"))
    assert (one.name, one.version) != (two.name, two.version)

    names = [image_name(definition_digest(spec)) for spec in (one, two, three)]
    assert names[0] == names[1] != names[2]
    variables = replace(two, environment_variables={"A": "1"})
    assert definition_digest(variables) == definition_digest(one)
    assert runtime_digest(variables) != runtime_digest(one)


def test_credentials_are_in_no_definition(tmp_path: Path) -> None:
    def with_secret(secret: str) -> Digest:
        conda = CONDA.replace("- bioconda", f"- https://me:{secret}@host.example/t/{secret}/ch")
        conda += f"  - --extra-index-url https://{secret}@host.example/simple\n"
        conda += f"  - git+https://me:{secret}@host.example/o/r@main\n"
        return definition(tmp_path, conda=conda)

    assert with_secret("canary-1") == with_secret("canary-2")
