"""What a conda package's layer holds, package by package made by hand."""

from __future__ import annotations

import bz2
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace

import pytest
import zstandard

from envgraph.image import layer as layer_module
from envgraph.image.compress import default_compression
from envgraph.image.content import LayerContent
from envgraph.image.keys import conda_layer_key, wheel_layer_key
from envgraph.image.layer import write_conda_layer
from envgraph.image.options import LayerOptions
from envgraph.model.locked import LockedPackage
from envgraph.testing.channel import PLACEHOLDER, Entry, File, Link, Package, make_package
from envgraph_store.digest import Digest

OPTIONS = LayerOptions(python="3.12", site_packages="lib/python3.12/site-packages")


def locked(package: Package, data: bytes) -> LockedPackage:
    return LockedPackage(
        "conda",
        package.name,
        package.version,
        package.build,
        package.subdir,
        Digest.of(data),
        "conda-forge",
        noarch=package.noarch,
        size=len(data),
    )


def assembled(
    package: Package,
    options: LayerOptions = OPTIONS,
    archive_format: str = "conda",
    compile_pyc: layer_module.CompilePyc | None = None,
) -> tuple[LayerContent, bytes]:
    data = package.to_bytes(archive_format)  # type: ignore[arg-type]
    out: list[bytes] = []
    content = write_conda_layer(
        io.BytesIO(data), locked(package, data), options, out.append, compile_pyc
    )
    blob = b"".join(out)
    assert content.size == len(blob)
    return content, blob


def unpacked(blob: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    raw = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True).read()
    found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for info in tar:
            assert info.name not in found
            file = tar.extractfile(info) if info.isfile() or info.islnk() else None
            found[info.name] = (info, b"" if file is None else file.read())
    return found


def files(blob: bytes) -> Mapping[str, bytes]:
    return {name[8:]: data for name, (info, data) in unpacked(blob).items() if not info.isdir()}


def test_the_raw_archive_is_what_the_content_says() -> None:
    content, blob = assembled(make_package("a", files={"lib/x": b"1" * 3_000_000}))
    raw = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True).read()
    assert content.diff_id == Digest.of(raw)
    assert content.raw_size == len(raw)
    assert content.media_type == "application/vnd.oci.image.layer.v1.tar+zstd"
    head = zstandard.ZstdDecompressor().stream_reader(blob[: content.head_size]).read()
    assert len(head) == content.head_raw
    assert raw.startswith(head)
    assert raw.endswith(bytes(1024))


def test_owner_time_and_modes_are_fixed() -> None:
    package = make_package(
        "a", files={"bin/run": File("#!/bin/sh\n", executable=True), "lib/l": Link("../bin/run")}
    )
    _, blob = assembled(package)
    members = unpacked(blob)
    assert {(i.uid, i.gid, i.uname, i.gname, i.mtime) for i, _ in members.values()} == {
        (0, 0, "", "", 315_532_800)
    }
    modes = {name: info.mode for name, (info, _) in members.items()}
    assert modes == {
        "opt": 0o755,
        "opt/env": 0o755,
        "opt/env/bin": 0o755,
        "opt/env/conda-meta": 0o755,
        "opt/env/lib": 0o755,
        "opt/env/bin/run": 0o755,
        "opt/env/lib/l": 0o777,
        "opt/env/conda-meta/a-1.0-0.json": 0o644,
    }
    assert members["opt/env/lib/l"][0].linkname == "../bin/run"
    assert list(members)[:5] == [
        "opt",
        "opt/env",
        "opt/env/bin",
        "opt/env/conda-meta",
        "opt/env/lib",
    ]


def test_noarch_python_is_mapped_and_gets_its_scripts() -> None:
    package = make_package(
        "tool",
        noarch="python",
        files={
            "site-packages/tool/__init__.py": "x = 1\n",
            "python-scripts/old": File(f"#!{PLACEHOLDER}/bin/python\n", executable=True),
            "share/doc": "d",
        },
        entry_points=["tool = tool.cli:main.run"],
    )
    content, blob = assembled(package)
    found = files(blob)
    assert found["bin/old"] == b"#!/opt/env/bin/python\n"
    assert b"from tool.cli import main\n" in found["bin/tool"]
    assert found["bin/tool"].startswith(b"#!/opt/env/bin/python3.12\n")
    assert b"sys.exit(main.run())" in found["bin/tool"]
    assert content.paths == (
        "bin/old",
        "bin/tool",
        "conda-meta/tool-1.0-0.json",
        "lib/python3.12/site-packages/tool/__init__.py",
        "share/doc",
    )


def test_an_entry_point_replaces_a_packaged_script_and_is_noted() -> None:
    package = make_package(
        "tool",
        noarch="python",
        files={"python-scripts/tool": "old"},
        entry_points=["tool = tool:main"],
    )
    content, blob = assembled(package)
    assert b"from tool import main" in files(blob)["bin/tool"]
    assert content.notes == ("“bin/tool” is replaced by an entry point.",)


def test_placeholders_in_text_binary_and_large_files() -> None:
    text = f"#!{PLACEHOLDER}/bin/sh\n{PLACEHOLDER}:{PLACEHOLDER}\n"
    binary = b"\0" + f"{PLACEHOLDER}/lib:{PLACEHOLDER}/x".encode() + b"\0tail\0"
    large = b"a" * (1 << 20) + binary + b"b" * (3 << 20) + PLACEHOLDER.encode()
    _, blob = assembled(
        make_package("a", files={"t": text, "b": binary, "large": large, "none": b"\0" * (2 << 20)})
    )
    found = files(blob)
    assert found["t"] == b"#!/opt/env/bin/sh\n/opt/env:/opt/env\n"
    replaced = b"\0/opt/env/lib:/opt/env/x".ljust(len(binary) - 6, b"\0") + b"\0tail\0"
    assert found["b"] == replaced
    tail = b"/opt/env".ljust(255, b"\0")
    assert found["large"] == b"a" * (1 << 20) + replaced + b"b" * (3 << 20) + tail


def test_shipped_bytecode_is_dropped_and_sourceless_is_kept() -> None:
    content, _ = assembled(
        make_package(
            "a",
            files={
                "lib/a.py": "1",
                "lib/a.pyc": b"2",
                "lib/__pycache__/a.cpython-312.pyc": b"3",
                "__pycache__/x.pyc": b"4",
                "lib/only.pyc": b"5",
            },
        )
    )
    assert content.paths == ("conda-meta/a-1.0-0.json", "lib/a.py", "lib/only.pyc")
    assert content.directories == ("conda-meta", "lib")


def test_bytecode_lies_beside_its_source_and_in_the_record() -> None:
    asked: list[str] = []

    def compile_pyc(path: str, source: bytes) -> bytes | None:
        asked.append(path)
        return None if b"bad" in source else b"pyc of " + source

    options = LayerOptions(
        python="3.12", site_packages="lib/python3.12/site-packages", bytecode_key="build 1"
    )
    package = make_package(
        "a",
        noarch="python",
        files={
            "site-packages/a/m.py": f"p = {PLACEHOLDER!r}",
            "site-packages/a/bad.py": "bad",
            "share/no.py": "1",
        },
    )
    content, blob = assembled(package, options, compile_pyc=compile_pyc)
    base = "lib/python3.12/site-packages/a"
    assert asked == [f"/opt/env/{base}/bad.py", f"/opt/env/{base}/m.py"]
    found = files(blob)
    assert found[f"{base}/__pycache__/m.cpython-312.pyc"] == b"pyc of p = '/opt/env'"
    assert f"{base}/__pycache__" in content.directories
    assert len(content.paths) == 5
    record = json.loads(found["conda-meta/a-1.0-0.json"])
    assert {"_path": f"{base}/__pycache__/m.cpython-312.pyc", "path_type": "pyc_file"} in record[
        "paths_data"
    ]["paths"]
    with pytest.raises(ValueError, match="both"):
        assembled(package, options)


def test_conda_meta_says_what_archive_and_identity_say() -> None:
    package = make_package(
        "a",
        "2.0",
        "h_1",
        ["b >=1"],
        build_number=1,
        files={"lib/x": "x", "t": PLACEHOLDER, "l": Link("t")},
        license="MIT",
    )
    _, blob = assembled(package)
    record = json.loads(files(blob)["conda-meta/a-2.0-h_1.json"])
    assert record["depends"] == ["b >=1"]
    assert record["license"] == "MIT"
    assert record["channel"] == "conda-forge"
    assert record["fn"] == "a-2.0-h_1.conda"
    assert record["url"] == "https://conda.anaconda.org/conda-forge/linux-64/a-2.0-h_1.conda"
    assert record["sha256"] == Digest.of(package.to_bytes()).hex
    assert record["files"] == ["l", "lib/x", "t"]
    row = record["paths_data"]["paths"][2]
    assert row["sha256_in_prefix"] == Digest.of(b"/opt/env").hex
    assert row["prefix_placeholder"] == PLACEHOLDER
    assert not {"requested_spec", "extracted_package_dir", "link"} & record.keys()


def test_activation_variables_and_post_link_scripts_are_reported() -> None:
    content, _ = assembled(
        make_package(
            "a",
            files={
                "etc/conda/env_vars.d/a.json": '{"A": "1", "B": "2"}',
                "etc/conda/env_vars.d/b.json": '{"B": "3"}',
                "etc/conda/env_vars.d/c.json": "[]",
                "etc/conda/activate.d/a.sh": "x",
                "etc/conda/activate.d/a.fish": "x",
                "etc/conda/deactivate.d/a.sh": "x",
                "bin/.a-post-link.sh": "x",
            },
        )
    )
    assert content.env_vars == {"A": "1", "B": "3"}
    assert content.activate_scripts == ("etc/conda/activate.d/a.sh",)
    assert content.deactivate_scripts == ("etc/conda/deactivate.d/a.sh",)
    assert content.post_link_scripts == ("bin/.a-post-link.sh",)
    assert content.notes == (
        "“etc/conda/env_vars.d/c.json” is not a JSON object of variables and is ignored.",
    )


def test_both_formats_give_the_same_files() -> None:
    package = make_package("a", files={"lib/x": "x", "t": PLACEHOLDER, "l": Link("t")})
    new, old = (files(assembled(package, archive_format=f)[1]) for f in ("conda", "tar.bz2"))
    record = "conda-meta/a-1.0-0.json"
    assert {k: v for k, v in new.items() if k != record} == {
        k: v for k, v in old.items() if k != record
    }
    assert json.loads(old[record])["fn"] == "a-1.0-0.tar.bz2"


def test_a_package_from_before_paths_json() -> None:
    old = "/opt/anaconda1anaconda2anaconda3"
    binary = b"\0" + PLACEHOLDER.encode() + b"/x\0"
    package = make_package(
        "a", files={"t": f"{old}/x", "b": File(binary, prefix=""), "l": Link("t")}
    )
    data = package.to_bytes("tar.bz2")
    out = io.BytesIO()
    info = {
        "info/index.json": b'{"name": "a", "version": "1.0", "build": "0"}',
        "info/files": b"b\nt\nl\n",
        "info/has_prefix": f't\n"{PLACEHOLDER}" binary b\n'.encode(),
    }
    with (
        tarfile.open(fileobj=io.BytesIO(bz2.decompress(data))) as source,
        tarfile.open(fileobj=out, mode="w") as target,
    ):
        for member in source:
            if not member.name.startswith("info/"):
                target.addfile(member, source.extractfile(member) if member.isfile() else None)
        for name, content in info.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    squeezed = bz2.compress(out.getvalue())
    pieces: list[bytes] = []
    write_conda_layer(io.BytesIO(squeezed), locked(package, squeezed), OPTIONS, pieces.append)
    found = files(b"".join(pieces))
    assert found["t"] == b"/opt/env/x"
    assert found["b"] == b"\0/opt/env/x".ljust(len(binary), b"\0")
    assert "l" in found


def test_unlisted_files_are_left_out_as_installers_do() -> None:
    package = make_package("a", files={"x": "1"})
    shown = replace(
        package,
        entries=(*package.entries, Entry("y", b"2")),
        info_files={"paths.json": b'{"paths": [{"_path": "x"}], "paths_version": 1}'},
    )
    content, _ = assembled(shown)
    assert "y" not in content.paths
    assert content.notes == ("1 files that the package does not list are left out.",)


def test_names_that_ustar_cannot_hold() -> None:
    names = ["n" * 101, "d" * 150 + "/" + "n" * 99, "é", "x/" * 60 + "n" * 120, "d" * 99 + "/a"]
    content, blob = assembled(make_package("a", files=dict.fromkeys(names, "1")))
    assert set(names) <= set(files(blob))
    assert set(names) <= set(content.paths)


def test_content_survives_json() -> None:
    written, _ = assembled(make_package("a", files={"x": "1", "é\n": "2"}))
    content = replace(written, paths=(*written.paths, "not utf-8 \udcff"))
    text = json.dumps(content.to_json())
    assert LayerContent.from_json(json.loads(text), content.listing()) == content
    assert "paths" not in content.to_json()
    with pytest.raises(ValueError, match="format"):
        LayerContent.from_json({**content.to_json(), "format": 2})


def test_gzip_layers_hold_the_same_archive() -> None:
    package = make_package("a", files={"lib/x": b"x" * 2_000_000})
    gzip_options = LayerOptions(
        python="3.12",
        site_packages="lib/python3.12/site-packages",
        compression=default_compression("gzip"),
    )
    zstd, _ = assembled(package)
    gzip, blob = assembled(package, gzip_options)
    assert gzip.diff_id == zstd.diff_id
    assert gzip.media_type.endswith("+gzip")
    import gzip as reader

    assert Digest.of(reader.decompress(blob)) == gzip.diff_id


def test_keys_hold_what_matters_and_nothing_else() -> None:
    arch = LockedPackage("conda", "a", "1", "0", "linux-64", Digest.of(b"a"), "c", depends=("x",))
    noarch = LockedPackage("conda", "a", "1", "0", "noarch", Digest.of(b"a"), "c", noarch="python")
    other = LayerOptions(python="3.13", site_packages="lib/python3.13/site-packages")
    assert conda_layer_key(arch, OPTIONS) == conda_layer_key(arch, other)
    assert conda_layer_key(noarch, OPTIONS) != conda_layer_key(noarch, other)
    assert wheel_layer_key(arch, OPTIONS) != conda_layer_key(arch, OPTIONS)
    moved = LockedPackage(
        "conda", "a", "1", "0", "linux-64", Digest.of(b"a"), "c", url="elsewhere", size=7
    )
    assert conda_layer_key(arch, OPTIONS) == conda_layer_key(moved, OPTIONS)
    changed = {
        "prefix": LayerOptions(prefix="/opt/other"),
        "compression": LayerOptions(compression=default_compression("gzip")),
        "bytecode": LayerOptions(python="3.12", bytecode_key="x"),
        "plain": LayerOptions(),
    }
    assert len({conda_layer_key(arch, options) for options in changed.values()}) == len(changed)


@pytest.mark.parametrize("prefix", ["opt/env", "/", "", "/opt//env", "/opt/../env", "/opt/env/"])
def test_a_prefix_must_be_plain(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        LayerOptions(prefix=prefix)
