"""What a command in a prefix sees, and what of the caller's environment it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.errors import EnvgraphError
from envgraph.image.activation import UNSET
from envgraph.run.environment import command_environment, leaks

OUTER = {
    "HOME": "/home/me",
    "PATH": "/opt/conda/bin:/home/me/venv/bin:/usr/bin:/bin",
    "CONDA_PREFIX": "/opt/conda",
    "CONDA_SHLVL": "2",
    "CONDA_PROMPT_MODIFIER": "(base) ",
    "_CE_CONDA": "",
    "VIRTUAL_ENV": "/home/me/venv",
    "PYTHONPATH": "/leak",
    "PYTHONHOME": "/leak",
    "PYTHONSTARTUP": "/leak",
    "PIP_TARGET": "/leak",
    "LANG": "C.UTF-8",
}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    folder = tmp_path / "a prefix"
    (folder / "bin").mkdir(parents=True)
    return folder


def script(prefix: Path, name: str, text: str) -> None:
    path = prefix / "etc/conda/activate.d" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_prefix_comes_first_and_other_environments_are_gone(prefix: Path) -> None:
    seen = command_environment(prefix, {}, outer=OUTER)
    assert seen["PATH"] == f"{prefix}/bin:/usr/bin:/bin"
    assert seen["CONDA_PREFIX"] == str(prefix)
    assert seen["CONDA_DEFAULT_ENV"] == str(prefix)
    assert seen["PYTHONNOUSERSITE"] == "1"
    assert seen["HOME"] == "/home/me"
    assert seen["LANG"] == "C.UTF-8"
    assert "/leak" not in seen.values()
    own = {"CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_SHLVL", "PYTHONNOUSERSITE"}
    assert {name for name in seen if leaks(name)} == own


def test_the_environments_own_variables_win_over_packages_and_caller(prefix: Path) -> None:
    folder = prefix / "etc/conda/env_vars.d"
    folder.mkdir(parents=True)
    (folder / "b.json").write_text('{"FROM_PACKAGE": "b", "BOTH": "package"}')
    (folder / "a.json").write_text('{"FROM_PACKAGE": "a"}')
    seen = command_environment(prefix, {"BOTH": "own", "LANG": "de_DE", "HOME": UNSET}, outer=OUTER)
    assert "HOME" not in seen
    assert (seen["FROM_PACKAGE"], seen["BOTH"], seen["LANG"]) == ("b", "own", "de_DE")


def test_a_broken_variables_file_is_named(prefix: Path) -> None:
    folder = prefix / "etc/conda/env_vars.d"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{")
    with pytest.raises(EnvgraphError, match=r"broken\.json"):
        command_environment(prefix, {}, outer=OUTER)


def test_scripts_run_in_order_after_the_variables(
    prefix: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script(prefix, "20-b.sh", 'export SEEN="$SEEN:b" MULTI="$(printf \'1\\n2\')"\n')
    script(prefix, "10 a.sh", 'export SEEN="$OWN:a:$#"; echo printed by a script\n')
    script(prefix, "30.fish", "syntax error in any sh (((\n")
    seen = command_environment(prefix, {"OWN": "own", "SHLVL": "7"}, outer=OUTER)
    assert seen["SEEN"] == "own:a:0:b"
    assert seen["MULTI"] == "1\n2"
    assert seen["SHLVL"] == "7"
    assert "_" not in seen
    assert "PWD" not in seen
    out, err = capfd.readouterr()
    assert out == ""
    assert "printed by a script" in err


def test_a_script_may_break_path_and_unset_variables(prefix: Path) -> None:
    script(prefix, "a.sh", "export PATH=/nowhere\nunset LANG\n")
    seen = command_environment(prefix, {}, outer=OUTER)
    assert seen["PATH"] == "/nowhere"
    assert "LANG" not in seen


def test_a_script_that_ends_the_shell_is_an_error(prefix: Path) -> None:
    script(prefix, "bad.sh", "exit 3\n")
    with pytest.raises(EnvgraphError) as caught:
        command_environment(prefix, {}, outer=OUTER)
    assert caught.value.diagnostics[0].code == "activation"
    assert "bad.sh" in caught.value.diagnostics[0].detail


def test_a_script_that_exits_with_zero_is_no_success(prefix: Path) -> None:
    script(prefix, "bad.sh", "exit 0\n")
    with pytest.raises(EnvgraphError):
        command_environment(prefix, {}, outer=OUTER)
