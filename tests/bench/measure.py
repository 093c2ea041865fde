"""Time contenders beside each other: the same round, the same machine, medians and ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: wall-clock seconds; of a process, peak resident bytes and seconds of CPU, too."""

    seconds: float
    rss: int = 0
    cpu: float = 0.0


@dataclass(slots=True)
class Contender:
    """One way to do the work. ``prepare`` runs before each round and is not timed."""

    name: str
    run: Callable[[], Sample]
    prepare: Callable[[], object] = lambda: None
    note: str = ""
    samples: list[Sample] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(sample.seconds for sample in self.samples)

    @property
    def rss(self) -> int:
        return max(sample.rss for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; ``ratio`` is the median of the rounds' ratios to the baseline."""

    name: str
    median: float
    lowest: float
    highest: float
    ratio: float
    rss: int
    note: str
    cpu: float = 0.0


@dataclass(slots=True)
class Table:
    """Contenders of one question, in the order in which they are shown."""

    title: str
    about: str
    baseline: str
    memory: bool = False
    """Show peak memory: only where it is well above this process's own, which it includes."""

    cpu: bool = False
    """Show the CPU seconds, user and system: on a busy machine they move less than the clock."""

    rows: list[Row] = field(default_factory=list)


def process(
    words: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    codes: Sequence[int] = (0,),
) -> Sample:
    """Run a process to its end; its output is kept only to say why it failed."""
    command = [str(word) for word in words]
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stderr is not None
        complaint = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in codes:
        text = complaint.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command[:6])} … ended with {child.returncode}\n{text}")
    return Sample(seconds, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)


_ALONE = """
import json, os, subprocess, sys, time
started = time.perf_counter()
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
seconds = time.perf_counter() - started
found = [seconds, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime]
with open(sys.argv[1], "w") as out:
    json.dump(found, out)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def process_alone(
    words: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    codes: Sequence[int] = (0,),
) -> Sample:
    """Like :func:`process`; the peak is the command's own, however large this process is.

    A process begins with its parent's peak as its own, so a small one stands between.
    """
    with tempfile.NamedTemporaryFile("r") as answer:
        command = [sys.executable, "-S", "-c", _ALONE, answer.name, *words]
        process(command, env=env, cwd=cwd, codes=codes)
        seconds, rss, cpu = json.load(answer)
    return Sample(seconds, rss, cpu)


def call(function: Callable[[], object]) -> Sample:
    """Time a function of this process."""
    started = time.perf_counter()
    function()
    return Sample(time.perf_counter() - started)


def race(table: Table, contenders: Sequence[Contender], rounds: int) -> Table:
    """Run every contender once a round, each round beginning with another one."""
    for number in range(rounds):
        shift = number % len(contenders)
        for contender in [*contenders[shift:], *contenders[:shift]]:
            contender.prepare()
            contender.samples.append(contender.run())
    base = next(c for c in contenders if c.name == table.baseline)
    for contender in contenders:
        seconds = [sample.seconds for sample in contender.samples]
        ratios = [
            mine.seconds / other.seconds
            for mine, other in zip(contender.samples, base.samples, strict=True)
        ]
        ratio = statistics.median(ratios)
        table.rows.append(
            Row(
                contender.name, contender.median, min(seconds), max(seconds), ratio,
                contender.rss, contender.note, contender.cpu,
            )
        )  # fmt: skip
    return table
