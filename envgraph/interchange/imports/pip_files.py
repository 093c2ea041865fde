"""Files that pin pip packages, and MLflow models: their Python is still to be solved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from envgraph.errors import Diagnostic, InputError, SourceLocation
from envgraph.interchange.imports.foreign import ForeignLock
from envgraph.lock.yamlread import load_yaml
from envgraph.model.spec import CondaSpec, PipLine
from envgraph.spec import load_environment
from envgraph.spec.pip_lines import PipReader
from envgraph.spec.reading import Reading

_PIN: Final = re.compile(r"===?[^=*]+$")
_PYTHON: Final = re.compile(r"[0-9]+(\.[0-9]+){0,2}")


def read_requirements(path: Path, text: str, name: str, python: str | None) -> ForeignLock:
    """A requirements file; its ``-r`` files are read in their place."""
    reading = Reading()
    reader = PipReader(reading, str(path.parent))
    reader.read_text(text, str(path), str(path.parent), constraint=False)
    _stop_on_errors(reading)
    loose = sum(1 for line in reader.lines if line.kind == "requirement" and not _pinned(line))
    remarks = []
    if loose:
        remarks.append(
            Diagnostic(
                "not-pinned", f"{loose} requirements name no single version: they are solved now",
                source=SourceLocation(str(path)), severity="info",
            )
        )  # fmt: skip
    return ForeignLock(
        "requirements", "a requirements file", name, pip_only=True,
        conda=python_requirements(python), pip=pip_texts(reader.lines), diagnostics=tuple(remarks),
    )  # fmt: skip


def _pinned(line: PipLine) -> bool:
    return bool(_PIN.search(line.text.partition(";")[0].strip()))


def _stop_on_errors(reading: Reading) -> None:
    if reading.problems.failed:
        raise InputError(reading.problems.result())


def python_requirements(python: str | None) -> tuple[str, ...]:
    """The conda requirements for a Python of that version, or of any."""
    if python is not None and not _PYTHON.fullmatch(python):
        raise InputError(f"{python!r:.40} is no version of Python", code="python", hint="3.12")
    return (f"python={python}" if python else "python",)


def pip_texts(lines: Iterable[PipLine]) -> tuple[str, ...]:
    """Lines as an environment file has them, hashes included.

    InputError for what would mean something else in another folder.
    """
    texts: list[str] = []
    wrong: list[Diagnostic] = []
    for line in lines:
        if line.kind in ("project", "constraint"):
            what = "a local project" if line.kind == "project" else "a constraint"
            wrong.append(
                Diagnostic(
                    "import-pip-line", f"{line.text} is {what}: it cannot be imported",
                    source=line.source, hint="write the environment file by hand: `- -r FILE`",
                )
            )  # fmt: skip
            continue
        hashes = "".join(f" --hash={text}" for text in line.hashes)
        texts.append(("-e " if line.editable else "") + line.text + hashes)
    if wrong:
        raise InputError(wrong)
    return tuple(dict.fromkeys(texts))


def read_mlflow(path: Path, name: str | None, python: str | None) -> ForeignLock:
    """A model's folder, its ``MLmodel``, or a ``python_env.yaml``."""
    folder = path if path.is_dir() else path.parent
    called = name or folder.absolute().name or "model"
    file = path
    if path.is_dir() or path.name == "MLmodel":
        file = _environment_of(folder)
    if file.name == "python_env.yaml":
        return replace(_python_env(file, called, python), kind="mlflow")
    result = load_environment(file)
    if result.spec is None:
        raise InputError(result.diagnostics)
    conda = result.spec.conda or CondaSpec()
    return ForeignLock(
        "mlflow", "an MLflow model", called, tuple(conda.channels or ()), pip_only=True,
        conda=tuple(r.text for r in conda.dependencies), pip=pip_texts(conda.pip),
        variables=conda.variables,
        diagnostics=tuple(d for d in result.diagnostics if d.code != "reserved-prefix"),
    )  # fmt: skip


def _environment_of(folder: Path) -> Path:
    """The file that ``MLmodel`` names: conda's before virtualenv's."""
    path = folder / "MLmodel"
    document = _load(path)
    flavors = document.get("flavors")
    flavor = flavors.get("python_function") if isinstance(flavors, dict) else None
    named: Any = flavor.get("env") if isinstance(flavor, dict) else None
    if isinstance(named, dict):
        named = named.get("conda") or named.get("virtualenv")
    if not isinstance(named, str) or not named:
        raise InputError(
            f"{path} names no environment", code="mlflow-environment",
            detail="flavors.python_function.env is missing", source=SourceLocation(str(path)),
            hint="was the model logged with another flavor only? write an environment file",
        )  # fmt: skip
    file = folder / named
    if not file.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{path} names a file outside of the model: {named!r:.80}", code="mlflow-environment",
            source=SourceLocation(str(path)),
        )  # fmt: skip
    if not file.is_file():
        raise InputError(
            f"{path} names {named!r:.80}, which is not there", code="missing-file",
            source=SourceLocation(str(path)), hint="download the whole model, not MLmodel alone",
        )  # fmt: skip
    return file


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read", code="unreadable", detail=error.strerror or str(error)
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8", code="not-utf-8") from None
    document = load_yaml(text, str(path))
    if not isinstance(document, dict):
        raise InputError(f"{path} is not a mapping", code="lock-format")
    return document


def _python_env(path: Path, name: str, python: str | None) -> ForeignLock:
    """MLflow's ``python_env.yaml``: a version of Python and lines for pip."""
    document = _load(path)
    said = str(document.get("python") or "") or None
    lines = [*_texts(document, "build_dependencies"), *_texts(document, "dependencies")]
    reading = Reading()
    reader = PipReader(reading, str(path.parent))
    for line in lines:
        reader.add(line, SourceLocation(str(path)), str(path.parent))
    _stop_on_errors(reading)
    return ForeignLock(
        "python-env", "an MLflow python_env.yaml", name, pip_only=True,
        conda=python_requirements(python or said), pip=pip_texts(reader.lines),
    )  # fmt: skip


def _texts(document: dict[str, Any], key: str) -> Sequence[str]:
    value = document.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{key} is not a list of text", code="lock-format")
    return value
