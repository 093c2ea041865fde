"""A command runs in the image: its files, its variables, its exit code, nothing of ours."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from envgraph.errors import PlatformError
from envgraph.model.oci import OCI_CONFIG, OCI_IMAGE_MANIFEST, OCI_LAYER, document_bytes
from envgraph.run.container import (
    ImageRoot,
    RuntimeName,
    prepare_image,
    run_in_image,
)
from envgraph_store.digest import Digest
from tests.services import missing

from .test_rootfs import tar


class FakeBlobs:
    """The part of a store's area that is read here."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}

    def add(self, data: bytes) -> dict[str, object]:
        self._blobs[Digest.of(data)] = data
        return {"digest": str(Digest.of(data)), "size": len(data)}

    def read(self, digest: Digest, limit: int = 1 << 20) -> bytes:
        return self._blobs[digest]

    def open(self, digest: Digest) -> BinaryIO:
        return io.BytesIO(self._blobs[digest])


def make_image(busybox: str, **settings: object) -> tuple[FakeBlobs, Digest]:
    blobs = FakeBlobs()
    layer = tar([("bin/busybox", Path(busybox).read_bytes()), ("bin/sh", "busybox")])
    config = {"architecture": "amd64", "os": "linux", "config": settings,
              "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]}}  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, **blobs.add(document_bytes(config))},
        "layers": [{"mediaType": OCI_LAYER, **blobs.add(layer)}],
    }
    return blobs, Digest(str(blobs.add(document_bytes(manifest))["digest"]))


@pytest.fixture
def image(tmp_path: Path, need: Callable[[str], str]) -> ImageRoot:
    blobs, manifest = make_image(
        need("busybox"),
        Env=["PATH=/bin", "FROM_IMAGE=yes"],
        Entrypoint=["/bin/sh", "-c", 'ENTRY=seen exec "$@"', "entry"],
    )
    return prepare_image(blobs, manifest, folder=tmp_path / "images")


ASK = 'echo "$FROM_IMAGE $ENTRY ${LEAK:-no leak} $(pwd)"; echo made > made; exit 7'


@pytest.fixture(params=["bwrap", "runc"])
def runtime(request: pytest.FixtureRequest, need: Callable[[str], str]) -> tuple[RuntimeName, str]:
    if request.param == "runc" and os.geteuid() != 0:
        missing("runc needs root")
    return request.param, need(request.param)


def test_the_command_runs_in_the_image(
    image: ImageRoot,
    runtime: tuple[RuntimeName, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LEAK", "leaked")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    code = run_in_image(image, ["sh", "-c", ASK], workspace=workspace, runtime=runtime)
    out, err = capfd.readouterr()
    assert (out, code) == ("yes seen no leak /workspace\n", 7), err
    assert (workspace / "made").read_text() == "made\n"


def test_the_image_cannot_be_changed_from_inside(
    image: ImageRoot, runtime: tuple[RuntimeName, str], tmp_path: Path
) -> None:
    words = ["sh", "-c", "echo x > /bin/x"]
    assert run_in_image(image, words, workspace=tmp_path, runtime=runtime) != 0
    assert not (image.path / "bin/x").exists()


def test_a_command_that_a_signal_ends(
    image: ImageRoot, runtime: tuple[RuntimeName, str], tmp_path: Path
) -> None:
    """A shell between, since a container's first process cannot be ended by its own signal."""
    words = ["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]
    assert run_in_image(image, words, workspace=tmp_path, runtime=runtime) == 143


SUPERVISOR = """\
import sys
from pathlib import Path
from envgraph.run.container import ImageRoot, run_in_image
name, program, path, workspace, *command = sys.argv[1:]
image = ImageRoot(Path(path), {"PATH": "/bin"}, ())
sys.exit(run_in_image(image, command, workspace=Path(workspace), runtime=(name, program)))
"""


@pytest.mark.parametrize("whole_group", [True, False], ids=["ctrl-c", "kill"])
def test_an_interrupt_reaches_the_command_which_ends_in_its_own_time(
    image: ImageRoot, runtime: tuple[RuntimeName, str], tmp_path: Path, whole_group: bool
) -> None:
    words = [
        "sh",
        "-c",
        "trap 'echo saved; exit 9' INT TERM; echo ready; while :; do sleep 1; done",
    ]
    arguments = [*runtime, str(image.path), str(tmp_path), *words]
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "saved\n"
        assert process.wait() == 9


def test_unpacked_once(tmp_path: Path, need: Callable[[str], str]) -> None:
    blobs, manifest = make_image(need("busybox"))
    first = prepare_image(blobs, manifest, folder=tmp_path / "images")
    (first.path / "kept").touch()
    again = prepare_image(blobs, manifest, folder=tmp_path / "images")
    assert (again.path / "kept").exists()
    renewed = prepare_image(blobs, manifest, folder=tmp_path / "images", renew=True)
    assert not (renewed.path / "kept").exists()


def test_without_a_runtime_the_error_says_what_was_tried(tmp_path: Path) -> None:
    code = (
        "import sys, json\nfrom envgraph.run import container\n"
        "container.shutil.which = lambda *_, **__: None\n"
        "try:\n    container.find_runtime()\n"
        "except container.PlatformError as error:\n"
        "    print(json.dumps(error.diagnostics[0].to_json()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["code"] == "no-container-runtime"
    assert "bwrap: not installed" in said["detail"]


def test_an_index_is_not_an_image(tmp_path: Path) -> None:
    blobs = FakeBlobs()
    added = blobs.add(document_bytes({"schemaVersion": 2, "manifests": []}))
    with pytest.raises(PlatformError):
        prepare_image(blobs, Digest(str(added["digest"])), folder=tmp_path / "images")
