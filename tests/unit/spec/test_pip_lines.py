"""pip sections and requirements files: every form, ``-r`` and ``-c`` in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph.model.spec import PipLine
from envgraph.spec import LoadResult
from envgraph.spec.pip_lines import logical_lines
from tests.unit.spec.conftest import Read

Said = Callable[[LoadResult], list[str]]


def conda(*lines: str) -> str:
    """A conda file with these pip lines; the first one is on line 4."""
    return "dependencies:\n- python\n- pip:\n" + "".join(f"  - {line!r}\n" for line in lines)


def pip_of(result: LoadResult) -> tuple[PipLine, ...]:
    assert result.spec is not None, result.diagnostics
    assert result.spec.conda is not None
    return result.spec.conda.pip


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ("Flask_Login", "requirement", "flask-login"),
        ("foo.bar==1.0", "requirement", "foo-bar==1.0"),
        ("  foo   >= 1 ,  < 2 ", "requirement", "foo >= 1 , < 2"),
        ("monai[nibabel, ignite, tqdm]", "requirement", "monai[nibabel, ignite, tqdm]"),
        ("a; python_version < '3.9'", "requirement", "a; python_version < '3.9'"),
        ("flit-core === 3.9.0", "requirement", "flit-core === 3.9.0"),
        ("torch==2.0.0+cu118", "requirement", "torch==2.0.0+cu118"),
        ("a # why", "requirement", "a"),
        ("-i https://h.example/s", "option", "--index-url https://h.example/s"),
        ("--index-url=https://h.example/s", "option", "--index-url https://h.example/s"),
        ("--extra-index-url   https://h.example/s", "option",
         "--extra-index-url https://h.example/s"),
        ("-f https://h.example/l", "option", "--find-links https://h.example/l"),
        ("--find-links=https://h.example/l", "option", "--find-links https://h.example/l"),
        ("--pre", "option", "--pre"),
        ("--no-binary=:all:", "option", "--no-binary :all:"),
        ("git+https://h.example/o/r.git@main#egg=r", "url",
         "git+https://h.example/o/r.git@main#egg=r"),
        ("git+ssh://git@h.example/o/r.git", "url", "git+ssh://git@h.example/o/r.git"),
        ("https://h.example/a-1.0-py3-none-any.whl", "url",
         "https://h.example/a-1.0-py3-none-any.whl"),
        ("a @ https://h.example/a-1.0.tar.gz", "url", "a @ https://h.example/a-1.0.tar.gz"),
        ("a[x] @ git+https://h.example/r", "url", "a[x] @ git+https://h.example/r"),
    ],
)  # fmt: skip
def test_forms(read: Read, line: str, kind: str, text: str) -> None:
    (found,) = pip_of(read(conda(line)))
    assert (found.kind, found.text, found.editable) == (kind, text, False)


def test_editable_address(read: Read) -> None:
    for line in ("-e git+https://h.example/r@main#egg=x", "--editable=git+https://h.example/r"):
        (found,) = pip_of(read(conda(line)))
        assert (found.kind, found.editable) == ("url", True)


def test_hashes_are_apart_from_the_text(read: Read) -> None:
    one, two = "a" * 64, "B" * 64
    (found,) = pip_of(read(conda(f"six==1.16 --hash=sha256:{two} --hash sha256:{one}")))
    assert found.text == "six==1.16"
    assert found.hashes == (f"sha256:{one}", f"sha256:{two.lower()}")


@pytest.mark.parametrize(
    ("line", "code", "hint"),
    [
        ("foo=1.2", "pip-requirement", "write foo==1.2"),
        ("foo=>1.2", "pip-requirement", "NAME"),
        ("foo bar", "pip-requirement", "NAME"),
        ("foo [x]==1==", "pip-requirement", ""),
        ("--indx-url https://x", "pip-option", "did you mean '--index-url'?"),
        ("--index-url", "pip-option", "one option per line"),
        ("--pre yes", "pip-option", ""),
        ("-r", "pip-option", ""),
        ("-e", "pip-option", ""),
        ("-z x", "pip-option", "known here"),
        ("six --hash=sha256:1234", "pip-hash", "64 hexadecimal"),
        ("six --hash=md5:" + "0" * 32, "pip-hash", "64 hexadecimal"),
        ("-r https://h.example/r.txt", "remote-requirements", "download"),
        ("-r https://h.example/r.txt [--no-deps]", "remote-requirements", "download"),
        ("-r missing.txt", "missing-file", ""),
        ("-c missing.txt", "missing-file", ""),
        ("./missing", "missing-file", ""),
        ("./missing-1.0-py3-none-any.whl", "missing-file", ""),
    ],
)
def test_what_is_wrong(read: Read, said: Said, line: str, code: str, hint: str) -> None:
    result = read(conda(line))
    assert said(result) == [f"environment.yml:4:5 {code}"]
    assert hint in result.diagnostics[0].hint


def test_files_are_expanded_in_place(read: Read) -> None:
    result = read(
        {
            "environment.yml": conda("a", "-r req/one.txt", "z"),
            "req/one.txt": "# c\nb==1 \\\n  ; python_version > '3'\n-rtwo.txt\n-c ../limits.txt\n",
            "req/two.txt": "c\r\n--requirement=three.txt\r\n",
            "req/three.txt": "d",
            "limits.txt": "e<2\n-r more.txt\n",
            "more.txt": "f<3\n",
        }
    )
    assert [(line.kind, line.text) for line in pip_of(result)] == [
        ("requirement", "a"),
        ("requirement", "b==1 ; python_version > '3'"),
        ("requirement", "c"),
        ("requirement", "d"),
        ("constraint", "e<2"),
        ("constraint", "f<3"),
        ("requirement", "z"),
    ]
    places = [str(line.source) for line in pip_of(result)]
    assert places[1] == "req/one.txt:2:1"
    assert places[3] == "req/three.txt:1:1"
    names = [Path(path).name for path in result.inputs]
    assert names == ["environment.yml", "one.txt", "two.txt", "three.txt", "limits.txt", "more.txt"]


def test_problems_in_included_files_have_their_place(read: Read, said: Said) -> None:
    result = read(
        {
            "environment.yml": conda("-r r.txt"),
            "r.txt": "six\n\n  foo=1\n{{x}}\n--nope\n-r gone.txt\na=={{latest}}\nb==${{ v }}\n",
        }
    )
    assert said(result) == [
        "r.txt:3:3 pip-requirement",
        "r.txt:4:1 template",
        "r.txt:5:1 pip-option",
        "r.txt:6:1 missing-file",
        "r.txt:7:1 template",
        "r.txt:8:1 template",
    ]


def test_cycles_end(read: Read, said: Said, tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to("a.txt")
    result = read(
        {
            "environment.yml": conda("-r a.txt"),
            "a.txt": "six\n-r b.txt\n",
            "b.txt": "-c a.txt\n-r ./b.txt\n-r link.txt\n",
        }
    )
    assert said(result) == [
        "b.txt:1:1 requirements-cycle",
        "b.txt:2:1 requirements-cycle",
        "b.txt:3:1 requirements-cycle",
    ]


def test_the_same_file_twice_is_no_cycle(read: Read) -> None:
    result = read({"environment.yml": conda("-r a.txt", "-r a.txt"), "a.txt": "six\n"})
    assert [line.text for line in pip_of(result)] == ["six", "six"]


def test_a_deep_chain_of_files_ends(read: Read) -> None:
    files: dict[str, str | bytes] = {"environment.yml": conda("-r r0.txt")}
    files |= {f"r{i}.txt": f"-r r{i + 1}.txt\n" for i in range(2000)}
    files["r2000.txt"] = "six\n"
    result = read(files)
    assert result.spec is None
    assert [d.code for d in result.diagnostics] == ["too-deep"]


def test_files_that_double_end(read: Read) -> None:
    files: dict[str, str | bytes] = {"environment.yml": conda("-r r0.txt")}
    files |= {f"r{i}.txt": f"-r r{i + 1}.txt\n" * 2 for i in range(40)}
    files["r40.txt"] = ""
    assert [d.code for d in read(files).diagnostics] == ["too-deep"]


def test_projects(read: Read, said: Said, tmp_path: Path) -> None:
    (tmp_path / "x-1.0-py3-none-any.whl").write_bytes(b"wheel")
    result = read(
        {
            "environment.yml": conda(
                "-e .", "./lib[extra]", "./x-1.0-py3-none-any.whl", "lib/", f"file://{tmp_path}/lib"
            ),
            "pyproject.toml": "",
            "lib/setup.py": "",
        }
    )
    lines = pip_of(result)
    assert [line.kind for line in lines] == ["project"] * 5
    assert [line.editable for line in lines] == [True, False, False, False, False]
    assert [line.text for line in lines][:4] == [
        ".", "./lib[extra]", "./x-1.0-py3-none-any.whl", "lib/"
    ]  # fmt: skip
    assert lines[1].tree == lines[3].tree == lines[4].tree
    assert lines[1].path == lines[3].path == str(tmp_path / "lib")
    assert str(tmp_path / "lib/setup.py") in result.inputs


def test_a_folder_without_a_project_is_named(read: Read, said: Said) -> None:
    result = read({"environment.yml": conda("-e .")})
    assert said(result) == ["environment.yml:4:5 not-a-project"]


def test_credentials_are_warned_about_and_masked(read: Read, said: Said) -> None:
    result = read(
        conda(
            "--extra-index-url https://me:canary@h.example/simple",
            "git+https://canary@h.example/r",
            "a @ https://me:canary@h.example/a.whl",
            "--index-url https://${USER}:${PASSWORD}@h.example/simple",
        )
    )
    assert said(result) == [f"environment.yml:{n}:5 index-credentials?" for n in (4, 5, 6)]
    assert "canary" not in str(result.diagnostics)


def test_logical_lines() -> None:
    text = "a\r\n\n  b \\\n   c\n# d \\\ne\\"
    assert logical_lines(text) == [
        (1, 1, "a"),
        (3, 3, "  b     c"),
        (5, 1, "# d \\"),
        (6, 1, "e "),
    ]
