"""One folder that becomes a conda channel: add what it should hold, then index it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from envgraph.testing.channel.archive import ArchiveFormat, Package
from envgraph.testing.channel.cpython import PythonBuild, find_python, python_packages
from envgraph.testing.channel.download import download_wheels
from envgraph.testing.channel.indexing import Patch, index_channel, index_with_rattler
from envgraph.testing.channel.wheels import WheelConverter, read_wheel


class ChannelMaker:
    """Fills ``folder`` with packages of this machine, of wheels, or made by hand.

    Every method gives the maker back, so that a channel is one expression::

        ChannelMaker(folder).add_python().add_wheels(["numpy", "tqdm"]).index()

    Equal inputs give equal archives, byte for byte.
    """

    def __init__(self, folder: Path, *, python: Path | None = None) -> None:
        """``python``: the interpreter to package and to choose wheels for.

        By default the one behind the running interpreter.
        """
        self.folder = Path(folder)
        self._executable = python
        self._build: PythonBuild | None = None
        for subdir in ("noarch", "linux-64"):
            (self.folder / subdir).mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """The channel's ``file://`` address."""
        return self.folder.resolve().as_uri()

    @property
    def python(self) -> PythonBuild:
        """What is known about the interpreter that this channel packages."""
        if self._build is None:
            self._build = find_python(self._executable)
        return self._build

    def add(self, *packages: Package, archive_format: ArchiveFormat = "conda") -> Self:
        """Add packages made by :func:`~envgraph.testing.channel.make_package`."""
        for package in packages:
            package.write(self.folder, archive_format)
        return self

    def add_python(self) -> Self:
        """Add this machine's CPython and, each as a package, the libraries it needs."""
        return self.add(*python_packages(self.python))

    def add_wheels(self, requirements: Sequence[str], *, dependencies: bool = True) -> Self:
        """Add wheels from the index that the user's pip is set up for.

        Without ``dependencies`` only what is named: for a second version of a
        package. Raises RuntimeError with pip's message.
        """
        with download_wheels(requirements, self.python, dependencies=dependencies) as wheels:
            return self.add_wheel_files(wheels)

    def add_wheel_files(self, wheels: Iterable[Path]) -> Self:
        """Add wheels that are already here."""
        read = [read_wheel(path) for path in sorted(wheels)]
        converter = WheelConverter(self.python, read)
        for wheel in read:
            self.add(*converter.convert(wheel))
        return self

    def index(self, *, patch: Patch | None = None, shards: bool = True) -> Self:
        """Write the channel's index: ``repodata.json``, ``.json.zst``, shards.

        Equal archives give an equal index. ``patch`` may change or drop records.
        """
        index_channel(self.folder, patch=patch, shards=shards)
        return self

    def index_with_rattler(self) -> Self:
        """Write the index with rattler's own indexer, which notes the time of indexing."""
        index_with_rattler(self.folder)
        return self
