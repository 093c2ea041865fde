"""Plans as people read them: golden transcripts of small plans, 80 columns wide."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph.cli.views.console import Console, width_of
from envgraph.cli.views.plan import PlanView, plan_bytes, summary_line
from envgraph.errors import Diagnostic
from envgraph.plan.plan import Plan
from tests.cli.values import Wanted, lock_of, packages, plan_of

GOLDEN = Path(__file__).parent / "golden" / "plan"
SCIENCE = ("python 3.12.4", "numpy 1.26.4", "openblas 0.3.26", "tzdata 2024a")
DIRECT = ("python", "numpy")
BASE = lock_of(*packages(*SCIENCE, direct=DIRECT))
MOVED = lock_of(
    *packages(
        "python 3.12.5",
        "numpy 2.1.0",
        "openblas 0.3.28",
        "pip:rich 13.9.4",
        direct=(*DIRECT, "rich"),
    ),
    definition="moved",
)
SAME = lock_of(*packages(*SCIENCE, direct=DIRECT), definition="other order")
LARGE = lock_of(
    *packages(*(f"package-{n:02} {n}.0" for n in range(30)), direct=("package-03", "package-29"))
)
LARGE_MOVED = lock_of(
    *packages(
        *(f"package-{n:02} {n + (n % 3 == 0)}.{n % 3}" for n in range(30)), direct=("package-03",)
    ),
    definition="moved",
)

PLANS: dict[str, Callable[[], Plan]] = {
    "nothing_wanted": lambda: plan_of(),
    "nothing_to_do": lambda: plan_of(Wanted("train", BASE, BASE), Wanted("score", BASE, BASE)),
    "first_version": lambda: plan_of(Wanted("train", BASE, origin="new")),
    "first_version_of_many_packages": lambda: plan_of(Wanted("train", LARGE, origin="new")),
    "packages_moved": lambda: plan_of(Wanted("train", MOVED, BASE, "new")),
    "many_packages_moved": lambda: plan_of(Wanted("train", LARGE_MOVED, LARGE, "new")),
    "order_only": lambda: plan_of(Wanted("train", SAME, BASE, "new")),
    "runtime_only": lambda: plan_of(Wanted("train", BASE, BASE, runtime="other")),
    "hand_edited": lambda: plan_of(Wanted("train", MOVED, BASE, "edited")),
    "shared_steps": lambda: plan_of(
        Wanted("train", BASE, origin="new"),
        Wanted("score", MOVED, origin="new"),
        Wanted("serve", BASE, origin="new"),
    ),
    "shared_in_many_ways": lambda: plan_of(
        *(
            Wanted(
                f"env{n:02}",
                lock_of(*packages(*(f"p{k} 1.0" for k in range(6) if (n >> k) & 1 or k == n % 6))),
                origin="new",
            )
            for n in range(1, 16)
        )
    ),
    "one_of_three_changes": lambda: plan_of(
        Wanted("train", MOVED, BASE, "new"),
        Wanted("score", BASE, BASE),
        Wanted("serve", BASE, BASE),
    ),
    "replaced": lambda: plan_of(Wanted("train", BASE, BASE), replaced=["numpy"]),
    "known_packages": lambda: plan_of(
        Wanted(
            "train", BASE, there=frozenset({"python", "numpy", "openblas", "tzdata", "/opt/env"})
        )
    ),
    "with_an_error": lambda: plan_of(
        Wanted("train", MOVED, BASE), diagnostics=[Diagnostic("broken", "score is broken")]
    ),
    "up_to_date_with_an_error": lambda: plan_of(
        Wanted("train", BASE, BASE), diagnostics=[Diagnostic("broken", "score is broken")]
    ),
    "lockfile_missing": lambda: plan_of(
        Wanted("train", BASE, BASE, "store", lockfile_current=False), Wanted("score", BASE, BASE)
    ),
    "lock_new_to_the_store": lambda: plan_of(Wanted("train", BASE, BASE, pinned=False)),
    "nothing_but_errors": lambda: plan_of(diagnostics=[Diagnostic("broken", "it is broken")]),
}


def shown(plan: Plan, *, verbose: bool = False, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    console = Console(stream, io.StringIO(), {"COLUMNS": "80"})
    PlanView(console, console.out, verbose=verbose).print(plan)
    console.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("name", sorted(PLANS))
def test_plan(name: str, golden: Callable[[Path, str], None]) -> None:
    text = shown(PLANS[name]())
    golden(GOLDEN / f"{name}.txt", text)
    assert max(width_of(line) for line in text.splitlines()) <= 80


def test_every_package_change_is_listed_and_verbose_lists_every_step() -> None:
    plan = PLANS["many_packages_moved"]()
    [change] = plan.environments
    assert shown(plan).count("    ~  package-") == len(change.packages) == 30
    text = shown(plan, verbose=True)
    assert "(-v" not in text
    assert text.count("      build  package-") == 30


def test_it_can_be_read_in_ascii() -> None:
    text = shown(PLANS["packages_moved"](), encoding="ascii")
    assert "numpy       1.26.4 -> 2.1.0" in text


def test_an_input_that_several_steps_share_is_counted_once() -> None:
    plan = PLANS["shared_steps"]()
    sizes = {s.key: s.bytes or 0 for s in plan.steps if s.kind in ("conda-package", "pip-package")}
    assert plan_bytes(plan.steps) == sum(sizes.values())


def test_the_summary_agrees_with_json() -> None:
    plan = PLANS["packages_moved"]()
    summary = plan.to_json()["summary"]
    assert f"{summary['build']} to build" in summary_line(plan)
    assert f"{summary['keep']} kept" in summary_line(plan)
