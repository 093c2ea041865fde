"""Write a channel's index with rattler's own indexer, in a process of its own.

The process matters: rattler's background threads can crash an interpreter that is
about to end, so the child leaves by ``os._exit`` when the index is written, and its
exit code tells the truth.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_CHILD = """
import asyncio, os, sys, traceback
try:
    from rattler.index import index_fs
    asyncio.run(index_fs(sys.argv[1], write_zst=True, write_shards=True, force=True))
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
os._exit(0)
"""


def index_channel(channel: Path) -> None:
    """Write ``repodata.json``, ``.json.zst`` and shards into every subdir of a channel.

    Raises RuntimeError with the indexer's message.
    """
    (channel / "noarch").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(channel)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"indexing {channel} failed: {done.stderr.strip()}")
