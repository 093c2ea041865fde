"""Conda files in every spelling that real ones have."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from envgraph.spec import LoadResult
from envgraph.spec.match_spec import normal_form, package_name, requirement_problem
from tests.unit.spec.conftest import Read

Said = Callable[[LoadResult], list[str]]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("NumPy", "numpy"),
        ("  numpy   >=1.2 , <2 ", "numpy >=1.2 , <2"),
        ("conda-forge::MKL=2024.*", "conda-forge::mkl=2024.*"),
        ("conda-forge/linux-64::Foo", "conda-forge/linux-64::foo"),
        ("_libgcc_mutex=0.1=main", "_libgcc_mutex=0.1=main"),
        ("PyTorch>=2.7.0=CUDA12*", "pytorch>=2.7.0=CUDA12*"),
        ("https://h.example/Chan::Foo=1", "https://h.example/Chan::foo=1"),
        ("python", "python"),
        ("3dslicer", "3dslicer"),
    ],
)
def test_normal_form_lowers_the_name_and_nothing_else(text: str, normal: str) -> None:
    assert normal_form(text) == normal
    assert requirement_problem(normal) is None


@pytest.mark.parametrize(
    "text",
    [
        "python=3.8.10", "pip<=22.0.4", "numpy>=1.14.3", "scikit-learn>0.19.1", "blas[build=mkl]",
        "python >=3.10", "pytorch>=2.7.0=cuda12*", "pandas~=1.5.3", "psutil>=5.2.2,<6.0.0",
        "bioconda::pbptyper=1.0.2", "scikit-learn==0.19.1", "libarchive>=3.8 lgpl_*",
        "ipywidgets==8.*", "_libgcc_mutex=0.1=main", "zlib ==1.2.13", "defaults::libgomp",
        "python =3.11.0", "xsv 0.13", "make   ==4.3", "numpy>=1.21.6,<=1.23.5", "a 1.0 py37_0",
        "a[version='>=1', build=x]", "a >=1|<0.5", "a !=1.0", "a >1,!=1.5,<2", "a==1.0=py*_0",
        "a=1.0|1.1", "a *", "a * *cuda", "r-base", "a==2023c", "foo=1!2.0", "a>=1.0a0",
        "ca-certificates=2023.08.22=h06a4308_0", "./local::x", "file:///srv/channel::x", "__glibc",
        "x=1.*=py3?_*", "x[md5=abc]", "x=1.0[build=y]", "*[track_features=z]", "a=1.0+local",
    ],
)  # fmt: skip
def test_every_spelling_of_the_wild_is_taken(text: str) -> None:
    assert requirement_problem(normal_form(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "-r requirements.txt", "-e .", "::a", "a >>1", "a =>1", "a>=", "a,", "a@1", "a; python<3",
        "a b c d !", "https://h.example/a-1-0.conda", "/a", "=1", "a-1.0-0.tar.bz2", "a==1==2==",
        "a>=1,,<2", "a$",
    ],
)  # fmt: skip
def test_what_no_solver_could_read_is_found_early(text: str) -> None:
    problem = requirement_problem(normal_form(text))
    assert problem is not None
    assert problem[1], "no hint"


def test_package_name() -> None:
    assert package_name("conda-forge::python=3") == "python"
    assert package_name(" Python >=3") == "python"
    assert package_name("=3") == ""


def test_a_plain_conda_file_is_an_environment(read: Read) -> None:
    result = read("name: Train\nchannels: [conda-forge]\ndependencies:\n- NumPy  >=1\n- python\n")
    spec = result.spec
    assert spec is not None
    assert (spec.name, spec.image, spec.kind) == ("Train", "scratch", "system-managed")
    assert spec.conda is not None
    assert [r.text for r in spec.conda.dependencies] == ["numpy >=1", "python"]
    assert str(spec.conda.dependencies[0].source) == "environment.yml:4:3"
    assert result.diagnostics == ()


def test_without_a_name_the_stem_is_the_name(read: Read) -> None:
    spec = read({"gpu train.YAML": "dependencies: [xz]\n"}).spec
    assert spec is not None
    assert spec.name == "gpu train"
    assert spec.conda is not None
    assert spec.conda.channels is None


def test_all_problems_come_at_once_with_places_and_hints(read: Read, said: Said) -> None:
    result = read(
        "channles: [a]\nplatforms: [linux64]\nvariables: [x]\nname: {a: b}\n"
        "dependencies:\n- a >>1\n- [x]\n- ''\n- numpy: 1.2\n- pip: foo\n- pip:\n  - {a: b}\n"
        "  - x=1\n- other:\n  - y\n"
    )
    assert result.spec is None
    assert said(result) == [
        "environment.yml:1:1 unknown-key",
        "environment.yml:2:13 platform",
        "environment.yml:3:12 type",
        "environment.yml:4:7 type",
        "environment.yml:6:3 match-spec",
        "environment.yml:7:3 type",
        "environment.yml:8:3 empty-item",
        "environment.yml:9:3 dependency-mapping",
        "environment.yml:10:8 type",
        "environment.yml:12:5 type",
        "environment.yml:13:5 pip-requirement",
        "environment.yml:14:3 dependency-section",
    ]
    hints = {d.source.line: d.hint for d in result.diagnostics if d.source}
    assert hints[1] == "did you mean 'channels'?"
    assert hints[2] == "did you mean 'linux-64'?"
    assert hints[13] == "write x==1"


def test_selectors(read: Read, said: Said) -> None:
    result = read(
        "dependencies:\n- a  # [linux64]\n- b  # plain words\n- sel(win): c\n- sel(unix): d\n"
        "- sel(linux): e\n- python\n- pip:\n  - f # [osx]\n"
    )
    assert said(result) == [
        "environment.yml:2:3 comment-selector?",
        "environment.yml:9:5 comment-selector?",
    ]
    assert result.spec is not None
    conda = result.spec.conda
    assert conda is not None
    assert [r.text for r in conda.for_platform("linux-64")] == ["a", "b", "d", "e", "python"]
    assert [r.text for r in conda.for_platform("win-64")] == ["a", "b", "c", "python"]
    assert [r.text for r in conda.for_platform("osx-arm64")] == ["a", "b", "d", "python"]


def test_an_unknown_selector_is_a_problem(read: Read, said: Said) -> None:
    assert said(read("dependencies:\n- sel(lunix): c\n")) == ["environment.yml:2:3 selector"]


def test_channels(read: Read, said: Said) -> None:
    result = read(
        "channels:\n- conda-forge\n- ./local\n- ../up\n- https://h.example:8443/c\n"
        "- https://h.example/t/${TOKEN}/c\n- https://me:canary@h.example/c\n"
        "- https://h.example/t/canary/c\n- file:///srv/c\n- nodefaults\ndependencies: [a]\n"
    )
    assert said(result) == [
        "environment.yml:7:3 channel-credentials?",
        "environment.yml:8:3 channel-credentials?",
    ]
    assert "canary" not in str(result.diagnostics)
    assert result.spec is not None
    conda = result.spec.conda
    assert conda is not None
    assert conda.channels is not None
    assert conda.channels[1] == "./local"
    assert set(conda.channel_paths) == {"./local", "../up"}


def test_keys_of_other_tools_are_named_and_ignored(read: Read, said: Said) -> None:
    result = read("allow-pypi-requests: true\ncategory: dev\nprefix: /x\ndependencies: [a]\n")
    assert said(result) == ["environment.yml:1:1 foreign-key?"]
    assert result.spec is not None


def test_variables_stay_as_written(read: Read) -> None:
    spec = read("dependencies: [a]\nvariables: {A: 010, B: no, C: , D: 'x y'}\n").spec
    assert spec is not None
    assert spec.conda is not None
    assert spec.conda.variables == {"A": "010", "B": "no", "C": "", "D": "x y"}


@pytest.mark.parametrize("text", ["dependencies:\n", "dependencies: []\n", "dependencies: ~\n"])
def test_nothing_is_a_dependency_list_too(read: Read, text: str) -> None:
    spec = read(text).spec
    assert spec is not None
    assert spec.conda is not None
    assert spec.conda.dependencies == ()


def test_pip_without_python_is_a_warning(read: Read, said: Said) -> None:
    assert said(read("dependencies:\n- pip:\n  - six\n")) == [
        "environment.yml:2:1 pip-without-python?"
    ]


def test_one_colon_is_told_to_be_two() -> None:
    """conda takes what stands before it as a namespace, and asks every channel."""
    problem = requirement_problem("bioconda:bcftools=1.20")
    assert problem == (
        "one colon after bioconda names no channel", "write bioconda::bcftools=1.20",
    )  # fmt: skip
    assert requirement_problem("bioconda::bcftools=1.20") is None
