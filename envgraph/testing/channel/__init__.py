"""Make a real local conda channel: packages by hand, wheels, this machine's CPython."""

from __future__ import annotations

from envgraph.testing.channel.archive import PLACEHOLDER, Entry, Package
from envgraph.testing.channel.maker import ChannelMaker
from envgraph.testing.channel.package import File, Link, make_package
from envgraph.testing.channel.synthetic import SyntheticChannel, synthetic_repodata

__all__ = [
    "PLACEHOLDER",
    "ChannelMaker",
    "Entry",
    "File",
    "Link",
    "Package",
    "SyntheticChannel",
    "make_package",
    "synthetic_repodata",
]
