"""A desk with a builder, for tests of docker steps and build contexts."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from envgraph_store import Digest, Store
from tests.desk import Desk
from tests.services import require_tool


@dataclass(slots=True)
class BuiltDesk:
    """A desk whose base lies at ``base/``, with buildah as its builder."""

    desk: Desk
    storage: Path

    @classmethod
    def make(cls, root: Path, channel: str, base: Path, storage: Path) -> BuiltDesk:
        """Set the desk up."""
        require_tool("buildah")
        desk = Desk(root, channel)
        shutil.copytree(base, desk.folder / "base")
        built = cls(desk, storage)
        built.settings()
        return built

    def settings(self, **more: object) -> None:
        """envgraph.yaml with buildah in a storage of the tests."""
        builder = {"type": "buildah", "storage": str(self.storage)}
        self.desk.settings(**({"builder": builder} | more))

    def steps(self, name: str, *steps: str, conda: str = "", image: str = "oci:../base") -> Path:
        """Write an environment with these docker steps; one step a line from line 4 on."""
        lines = [f"name: {name}", f"image: {image}", "docker_steps:"]
        lines += [f"  - {json.dumps(step)}" for step in steps]
        if conda:
            lines.append(
                "conda_file: " + json.dumps({"channels": ["demo"], "dependencies": [conda]})
            )
        path = self.desk.folder / "environments" / f"{name}.yml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def context(self, name: str, dockerfile: str, files: dict[str, str] | None = None) -> Path:
        """Write an environment that is a build context, and its folder, which is returned."""
        folder = self.desk.folder / "environments" / f"{name}-context"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(dockerfile)
        for path, content in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        document = {"name": name, "build": {"path": f"{name}-context"}}
        (folder.parent / f"{name}.yml").write_text(json.dumps(document))
        return folder

    def image(self, name: str) -> tuple[dict[str, Any], list[Path]]:
        """The config of the newest image, and the files of its layers (that are there)."""
        shown = self.desk.ok("show", name, "--json").json
        with Store.open(self.desk.store) as store:
            manifest = json.loads(store.blobs.read(Digest(shown["image"])))
            config = json.loads(store.blobs.read(Digest(manifest["config"]["digest"])))
            layers = [Path(store.blobs.path(Digest(item["digest"]))) for item in manifest["layers"]]
        return config, layers


def names_in(layer: Path) -> dict[str, tarfile.TarInfo]:
    """What a zstd layer holds, by path."""
    with layer.open("rb") as stream:
        reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        data = io.BytesIO(reader.read())
    with tarfile.open(fileobj=data) as archive:
        return {member.name.rstrip("/"): member for member in archive.getmembers()}


def push_base(base: Path, host: str, name: str) -> str:
    """Copy the layout's image to a loopback registry; ``HOST/NAME:1``."""
    skopeo = require_tool("skopeo")
    reference = f"{host}/{name}:1"
    subprocess.run(
        [skopeo, "copy", "-q", "--dest-tls-verify=false", f"oci:{base}:base",
         f"docker://{reference}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return reference
