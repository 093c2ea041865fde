"""What was measured, on which machine, as one Markdown file."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.measure import Table

OURS = ("conda-lock", "py-rattler", "uv", "zstandard", "isal", "networkx")
TOOLS = {
    "terraform": ["version"],
    "docker": ["--version"],
    "dockerd": ["--version"],
    "buildah": ["--version"],
    "umoci": ["--version"],
    "restic": ["version"],
    "git": ["--version"],
    "skopeo": ["--version"],
    "docker-registry": ["--version"],
    "zstd": ["--version"],
}


def machine() -> list[str]:
    """CPU, memory, disk, system and the versions of everything that ran."""
    cpu = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", _read("/proc/meminfo"))
    system = re.search(r'PRETTY_NAME="(.+)"', _read("/etc/os-release"))
    lines = [
        f"- CPU: {cpu.group(1) if cpu else platform.processor()}, {os.cpu_count()} cores",
        f"- Memory: {int(memory.group(1)) / 2**20:.0f} GiB" if memory else "- Memory: unknown",
        f"- System: {system.group(1) if system else platform.platform()}, "
        f"kernel {platform.release()}, {_file_system()}",
        f"- Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in OURS),
    ]
    found = [text for name, words in TOOLS.items() if (text := _tool(name, words))]
    return [*lines, "- Rivals: " + "; ".join(found)]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _file_system() -> str:
    words = ["stat", "-f", "-c", "%T", "."]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown file system"


def _tool(name: str, words: Sequence[str]) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        return ""
    done = subprocess.run([path, *words], capture_output=True, text=True, check=False)
    first = (done.stdout or done.stderr).strip().splitlines()[:1]
    number = re.search(r"\d+\.\d+(\.\d+)?", first[0] if first else "")
    return f"{name} {number.group(0)}" if number else name


def seconds(value: float) -> str:
    """Three figures, in the unit that people say."""
    if value < 0.9995:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s"


def markdown(table: Table) -> list[str]:
    """One table with its question above it."""
    head = ["", "median", "range", "ratio to " + table.baseline.replace("|", "\\|")]
    head += (["CPU"] if table.cpu else []) + (["peak memory"] if table.memory else [])
    lines = [f"### {table.title}", "", table.about, ""]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in table.rows:
        name = row.name + (f" ({row.note})" if row.note else "")
        name = name.replace("|", "\\|")
        cells = [name, seconds(row.median), f"{seconds(row.lowest)} to {seconds(row.highest)}"]
        cells.append(f"{row.ratio:.2f}" if row.ratio < 100 else f"{row.ratio:.0f}")
        if table.cpu:
            cells.append(seconds(row.cpu))
        if table.memory:
            cells.append(f"{row.rss / 2**20:.0f} MiB" if row.rss else "")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def document(tables: Sequence[Table], *, quick: bool, missing: Sequence[str], day: str) -> str:
    """The whole file."""
    lines = [
        "# How fast",
        "",
        f"Written by `make bench` on {day}. Every table is one run: each round runs every line of "
        "it once, in turn, and a ratio is the median of the rounds' ratios. Absolute figures "
        "move with the machine; the ratios are what to look at.",
        "",
        *machine(),
        "",
    ]
    if quick:
        lines += ["**A quick run with small sizes: its figures stand for nothing.**", ""]
    for table in tables:
        lines += markdown(table)
    if missing:
        lines += ["Not run here:", "", *(f"- {text}" for text in missing), ""]
    return "\n".join(lines)


def show(text: str) -> None:
    """Print to stdout at once: benchmarks take minutes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
