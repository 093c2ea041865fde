"""``make bench``: envgraph beside its rivals, in one run, written to RESULTS.md."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import builders, files, image, lock, plan, rebase, registry, store, versions
from tests.bench.bench import Bench
from tests.bench.report import document, markdown, show

RESULTS = Path(__file__).with_name("RESULTS.md")
GROUPS = {
    "plan": plan.run,
    "rebase": rebase.run,
    "lock": lock.run,
    "image": image.run,
    "builders": builders.run,
    "store": store.run,
    "registry": registry.run,
    "versions": versions.run,
    "files": files.run,
}


def main() -> None:
    """Run the groups that were asked for; all of them by default."""
    parser = argparse.ArgumentParser(prog="make bench BENCH=…", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round each")
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="one group")
    parser.add_argument("--rounds", type=int, help="rounds of the long groups (default 3)")
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="channels made once")
    parser.add_argument(
        "--output", type=Path, help="where to write (quick and partial runs: only if given)"
    )
    arguments = parser.parse_args()
    cache = arguments.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=cache))
    bench = Bench(
        cache=cache, work=work, quick=arguments.quick,
        rounds=arguments.rounds or (1 if arguments.quick else 3),
    )  # fmt: skip
    tables = []
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    whole = not arguments.quick and not arguments.only
    output = arguments.output or (RESULTS if whole else None)
    try:
        for name in arguments.only or GROUPS:
            show(f"== {name}")
            for table in GROUPS[name](bench):
                tables.append(table)
                show("\n".join(markdown(table)))
                if output is not None:  # a run that is ended early leaves what it measured
                    text = document(tables, quick=bench.quick, missing=bench.missing, day=day)
                    output.write_text(text)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if output is not None:
        show(f"written to {output}")


if __name__ == "__main__":
    main()
