from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph.errors import PlatformError
from envgraph.testing import container
from envgraph.testing.base import Base, make_base
from envgraph.testing.container import LayoutBlobs, image_digest, probe, run_in_image
from envgraph_store.digest import Digest
from tests.services import missing


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base") / "layout")


def test_it_is_the_same_twice_and_says_where_it_comes_from(base: Base, tmp_path: Path) -> None:
    assert make_base(tmp_path / "again").manifest == base.manifest
    assert any(path.endswith("/libc.so.6") for path in base.sources)
    blobs = LayoutBlobs(base.layout)
    manifest = json.loads(blobs.read(Digest(base.manifest)))
    config = json.loads(blobs.read(Digest(manifest["config"]["digest"])))
    labels = config["config"]["Labels"]
    assert labels["io.envgraph.base.glibc"] == base.glibc
    assert labels["io.envgraph.base.portable"].startswith("no")


def test_skopeo_and_umoci_read_it(base: Base, need: Callable[[str], str], tmp_path: Path) -> None:
    shown = subprocess.run(
        [need("skopeo"), "inspect", base.reference], capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout)["Digest"] == base.manifest
    bundle = tmp_path / "bundle"
    words = [need("umoci"), "unpack", "--rootless", "--image", f"{base.layout}:base", str(bundle)]
    subprocess.run(words, capture_output=True, check=True)
    assert (bundle / "rootfs" / "bin" / "sh").is_symlink() or base.shell != "busybox"


@pytest.mark.parametrize("name", ["bwrap", "runc"])
def test_its_shell_runs(base: Base, name: str, tmp_path: Path) -> None:
    if not base.shell:
        missing("no shell on this machine")
    runtime = probe(name)
    if not runtime.works:
        missing(f"{name}: {runtime.problem}")
    (tmp_path / "note").write_text("from outside")
    done = run_in_image(
        base.layout,
        ["sh", "-c", "cat note; echo; echo $MARK; exit 7"],
        name="base",
        runtime=runtime,
        variables={"MARK": "given"},
        workspace=tmp_path,
    )
    assert (done.returncode, done.stdout) == (7, "from outside\ngiven\n"), done.stderr


def test_without_busybox_the_machines_own_shell_comes_along(tmp_path: Path) -> None:
    base = make_base(tmp_path / "layout", busybox=Path("/bin/ls"))
    assert base.shell in ("sh", "")
    assert ("bin/sh" in base.sources) == (base.shell == "sh")
    runtime = probe("bwrap")
    if not runtime.works:
        missing(f"bwrap: {runtime.problem}")
    done = run_in_image(base.layout, ["sh", "-c", "echo $((6 * 7))"], runtime=runtime)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_what_elf_files_need_comes_along(tmp_path: Path, need: Callable[[str], str]) -> None:
    skopeo = Path(need("skopeo")).resolve()
    base = make_base(tmp_path / "layout", elf_files=[skopeo])
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "skopeo").write_bytes(skopeo.read_bytes())
    (workspace / "skopeo").chmod(0o755)
    runtime = probe("bwrap")
    if not runtime.works:
        missing(f"bwrap: {runtime.problem}")
    done = run_in_image(
        base.layout, ["/workspace/skopeo", "--version"], runtime=runtime, workspace=workspace
    )
    assert done.stdout.startswith("skopeo version"), done.stderr


def test_without_a_runtime_every_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "RUNTIMES", ("absent-one", "absent-two"))
    with pytest.raises(PlatformError) as caught:
        container.find_runtime()
    assert caught.value.diagnostics[0].code == "no-container-runtime"
    assert "absent-one: not installed; absent-two: not" in caught.value.diagnostics[0].detail


def test_names_in_the_index(base: Base) -> None:
    assert str(image_digest(base.layout)) == base.manifest
    assert str(image_digest(base.layout, "base")) == base.manifest
    with pytest.raises(LookupError):
        image_digest(base.layout, "other")


def test_a_blob_that_rotted_is_not_read(base: Base, tmp_path: Path) -> None:
    copied = make_base(tmp_path / "layout")
    path = LayoutBlobs(copied.layout).path(Digest(copied.manifest))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match="not what its name says"):
        LayoutBlobs(copied.layout).read(Digest(copied.manifest))
