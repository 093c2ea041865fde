"""Copy this example, with what it stands on: a base, a channel, a wheel. No network is used.

The channel is a stand-in: its `tensors` has a build for CUDA and one for the CPU, told apart
by the virtual package `__cuda` as conda-forge's pytorch does it, and its Python is a script.
So `plan`, `apply` and the image work; there is nothing to train with.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

from envgraph.testing.base import make_base
from envgraph.testing.channel import PLACEHOLDER, ChannelMaker, File, Link, make_package

HERE = Path(__file__).resolve().parent
PLACE = "file:///put/your/index/here"
WHEEL = {
    "steptimer.py": "import time\n\n\ndef now():\n    return time.monotonic()\n",
    "steptimer-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: steptimer\nVersion: 1.0\n",
    "steptimer-1.0.dist-info/WHEEL": (
        "Wheel-Version: 1.0\nGenerator: prepare\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    ),
}


def make_channel(folder: Path) -> None:
    """Python, and tensors twice."""
    script = File(f"#!{PLACEHOLDER}/bin/sh\necho stand-in\n", executable=True)
    cuda = {"share/tensors": "built for CUDA 12\n"}
    maker = ChannelMaker(folder).add(
        make_package(
            "python",
            "3.12.1",
            "h0_0_cpython",
            files={"bin/python3.12": script, "bin/python": Link("python3.12")},
            python_site_packages_path="lib/python3.12/site-packages",
        ),
        make_package("cuda-runtime", "12.4", depends=["__cuda >=12"], files=cuda),
        make_package(
            "tensors", "2.1", "cuda124_1", ["python", "cuda-runtime >=12,<13"], cuda, build_number=1
        ),
        make_package("tensors", "2.1", "cpu_0", ["python"], {"share/tensors": "for the CPU\n"}),
    )
    maker.index()


def make_wheel(folder: Path) -> None:
    """One pure wheel, with sizes and hashes in its RECORD; equal bytes each time."""
    record = ""
    for name, text in WHEEL.items():
        digest = hashlib.sha256(text.encode()).digest()
        value = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        record += f"{name},sha256={value},{len(text)}\n"
    name = "steptimer-1.0.dist-info/RECORD"
    files = WHEEL | {name: f"{record}{name},,\n"}
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text("<html><body></body></html>\n")
    with zipfile.ZipFile(folder / "steptimer-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)


def prepare(folder: Path) -> None:
    """Copy the example into a new folder, and put beside it what it stands on."""
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    make_base(folder / "base", name="cuda")
    make_channel(folder / "channel")
    make_wheel(folder / "wheels")
    settings = folder / "envgraph.yaml"
    index = (folder / "wheels").resolve().as_uri()
    settings.write_text(settings.read_text().replace(PLACE, index))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python prepare.py NEW-FOLDER")
    prepare(Path(sys.argv[1]))
