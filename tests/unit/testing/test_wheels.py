from __future__ import annotations

import json
import zipfile
from pathlib import Path

from envgraph.testing.channel.archive import PLACEHOLDER
from envgraph.testing.channel.cpython import PythonBuild
from envgraph.testing.channel.wheels import WheelConverter, read_wheel

PYTHON = PythonBuild(
    executable=Path("/nowhere/bin/python3.12"),
    version="3.12.1",
    kind="other",
    prefix=Path("/nowhere"),
    stdlib=Path("/nowhere/lib/python3.12"),
    include=Path("/nowhere/include/python3.12"),
    old_prefixes=(),
)


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
    metadata: str = "",
    files: dict[str, bytes] | None = None,
) -> Path:
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-{tag}.whl"
    pure = "true" if tag.endswith("any") else "false"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"]
    lines += [f"Requires-Dist: {text}\n" for text in requires]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "".join(lines))
        archive.writestr(f"{info}/WHEEL", f"Root-Is-Purelib: {pure}\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "old\n")
        for member, data in (files or {"mod.py": b"x = 1\n"}).items():
            archive.writestr(member, data)
    return path


def test_a_pure_wheel_is_noarch_with_its_entry_points(tmp_path: Path) -> None:
    path = wheel(
        tmp_path,
        "My.Tool",
        metadata="Requires-Python: >=3.8\n",
        files={
            "my_tool.py": b"def main(): ...\n",
            "My.Tool-1.0.dist-info/entry_points.txt": b"[console_scripts]\nmt = my_tool:main\n",
            "My.Tool-1.0.data/scripts/mt-old": b"#!python\nprint(1)\n",
            "My.Tool-1.0.data/data/share/x.txt": b"x",
        },
    )
    (package,) = WheelConverter(PYTHON).convert(read_wheel(path))
    assert (package.name, package.noarch, package.subdir) == ("my-tool", "python", "noarch")
    assert package.entry_points == ("mt = my_tool:main",)
    assert package.depends == ("python >=3.8",)
    entries = {entry.path: entry for entry in package.entries}
    assert entries["python-scripts/mt-old"].data.startswith(f"#!{PLACEHOLDER}/bin/python".encode())
    assert entries["python-scripts/mt-old"].file_mode == "text"
    assert entries["share/x.txt"].data == b"x"
    info = "site-packages/My.Tool-1.0.dist-info"
    assert entries[f"{info}/INSTALLER"].data == b"conda\n"
    record = entries[f"{info}/RECORD"].data.decode().splitlines()
    assert "../../../bin/mt-old,," in record
    assert "My.Tool-1.0.dist-info/RECORD,," in record
    assert any(line.startswith("my_tool.py,sha256=") for line in record)
    assert not any("bin/mt," in line for line in record)


def test_a_platform_wheel_lies_in_pythons_folder(tmp_path: Path) -> None:
    path = wheel(
        tmp_path,
        "fast",
        tag="cp312-cp312-manylinux_2_17_x86_64",
        files={
            "fast/__init__.py": b"",
            "fast-1.0.dist-info/entry_points.txt": b"[console_scripts]\nfast = fast:run.it\n",
        },
    )
    (package,) = WheelConverter(PYTHON).convert(read_wheel(path))
    assert (package.noarch, package.subdir, package.entry_points) == ("", "linux-64", ())
    assert package.build.startswith("py312h")
    assert package.depends == (
        "__glibc >=2.28",
        "python >=3.12,<3.13.0a0",
        "python_abi 3.12.* *_cp312",
    )
    entries = {entry.path: entry for entry in package.entries}
    assert "lib/python3.12/site-packages/fast/__init__.py" in entries
    script = entries["bin/fast"]
    assert (script.executable, script.file_mode) == (True, "text")
    assert b"from fast import run\n" in script.data
    assert b"sys.exit(run.it())" in script.data


def test_markers_are_evaluated_for_the_channels_python(tmp_path: Path) -> None:
    path = wheel(
        tmp_path,
        "user",
        requires=(
            "old; python_version < '3.11'",
            "new>=2,!=2.5; python_version >= '3.11'",
            "windows; sys_platform == 'win32'",
            "optional; extra == 'more'",
            "wild==1.*",
        ),
    )
    (package,) = WheelConverter(PYTHON).convert(read_wheel(path))
    assert package.depends == ("python >=3", "new !=2.5,>=2", "wild 1.*")


def test_extras_are_flattened(tmp_path: Path) -> None:
    library = wheel(
        tmp_path,
        "library",
        requires=(
            "base",
            "extra-a>=1; extra == 'a'",
            "library[a]; extra == 'all'",
            "b; extra=='b'",
        ),
    )
    user = wheel(tmp_path, "user", requires=("library[all]>=1",))
    wheels = [read_wheel(library), read_wheel(user)]
    package = WheelConverter(PYTHON, wheels).convert(wheels[1])[0]
    assert package.depends == ("python >=3", "extra-a >=1", "library >=1")


def test_the_metadata_of_a_package_is_what_repodata_will_say(tmp_path: Path) -> None:
    path = wheel(tmp_path, "plain", metadata="License: MIT\nSummary: says\n")
    (package,) = WheelConverter(PYTHON).convert(read_wheel(path))
    assert (package.license, json.dumps(package.about)) == ("MIT", '{"summary": "says"}')
