"""Findings from standings and a policy; the time is an argument."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from envgraph.diff.drift import Locked, days_since, find_drift
from envgraph.errors import InputError
from envgraph.model.drift import CODES, Allowance, BaseStanding, DriftPolicy, PackageStanding
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.spec.drift_policy import load_drift_policy
from envgraph_store.digest import Digest

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def package(name: str, *, direct: bool = True, manager: str = "conda") -> LockedPackage:
    return LockedPackage(
        manager="pip" if manager == "pip" else "conda",
        name=name, version="1.0", build="0", subdir="noarch", sha256=Digest.of(name.encode()),
        channel="demo", direct=direct,
    )  # fmt: skip


def locked(
    *packages: tuple[LockedPackage, PackageStanding],
    base: BaseStanding | None = None,
    platform: str = "linux-64",
    created: str = "2026-11-05T12:00:00Z",
) -> Locked:
    lock = LockedEnvironment(
        definition=ONE,
        pin_key=ONE,
        platform=platform,
        base=LockedBase("docker.io/library/python:3.12", ONE, "", TWO),
        packages=tuple(p for p, _ in packages),
        created=created,
    )
    return Locked("train", "3", lock, base, dict(packages))


NO_POLICY = DriftPolicy()


def codes(*items: Locked, policy: DriftPolicy = NO_POLICY) -> list[str]:
    return [finding.code for finding in find_drift(items, policy, NOW)]


def test_a_base_that_moved_says_how_old_it_is() -> None:
    [finding] = find_drift(
        [locked(base=BaseStanding(TWO, "2026-10-01T00:00:00.123456789Z"))], DriftPolicy(), NOW
    )
    assert (finding.code, finding.old, finding.new) == ("base-moved", str(ONE), str(TWO))
    assert finding.age_days == 55
    assert finding.summary == "names another image now; locked 20 days ago, made 55 days ago"


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (BaseStanding(ONE, "2026-10-20T00:00:00Z"), ["base-old"]),
        (BaseStanding(ONE, "2026-11-10T00:00:00Z"), []),
        (BaseStanding(ONE, "1970-01-01T00:00:00Z"), []),  # a reproducible build says no day
        (BaseStanding(None, "2026-11-10T00:00:00Z"), ["base-gone"]),
        (BaseStanding(None, "2026-10-20T00:00:00Z", asked=False), ["base-old"]),
        (None, []),
    ],
)
def test_the_age_of_a_base(standing: BaseStanding | None, expected: list[str]) -> None:
    assert codes(locked(base=standing), policy=DriftPolicy(30)) == expected


def test_a_base_of_unknown_age_is_at_least_as_old_as_its_lock() -> None:
    old = locked(base=BaseStanding(ONE), created="2026-09-01T00:00:00Z")
    [finding] = find_drift([old], DriftPolicy(30), NOW)
    assert finding.summary == "is at least 85 days old, and the policy allows 30"


def test_platforms_that_agree_are_one_finding() -> None:
    gone = (package("app"), PackageStanding("gone"))
    [finding] = find_drift(
        [locked(gone), locked(gone, platform="linux-aarch64")], DriftPolicy(), NOW
    )
    assert finding.platforms == ("linux-64", "linux-aarch64")


def test_an_entry_accepts_what_its_globs_name_until_its_day() -> None:
    behind = locked((package("numpy"), PackageStanding(versions=("1.1", "2.0"))))
    entry = Allowance("behind", "tr*", "num*", "2026-11-25", "later")

    def allowed(entry: Allowance) -> list[tuple[str, str | None]]:
        found = find_drift([behind], DriftPolicy(allow=(entry,)), NOW)
        return [(finding.code, finding.allowed) for finding in found]

    assert allowed(entry) == [("behind", "later")]
    assert allowed(replace(entry, until="2026-11-24")) == [
        ("allow-expired", None),
        ("behind", None),
    ]
    assert allowed(replace(entry, environment="other")) == [("behind", None)]
    assert allowed(replace(entry, package="scipy")) == [("behind", None)]
    assert allowed(replace(entry, code="package-gone")) == [("behind", None)]
    expired = replace(entry, code="allow-expired", until="2020-01-01")
    assert allowed(expired)[0] == ("allow-expired", None)


def test_nested_packages_are_one_finding() -> None:
    one = (package("a", direct=False), PackageStanding(versions=("2", "3")))
    two = (package("b", direct=False), PackageStanding(builds=1))
    [finding] = find_drift([locked(one, two)], DriftPolicy(), NOW)
    assert finding.behind == 3
    assert finding.summary == "2 nested packages have 3 newer releases"


def test_every_kind_of_finding_can_be_named_in_a_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("allow:\n" + "".join(f"- {{code: {c}, reason: r}}\n" for c in CODES))
    assert [entry.code for entry in load_drift_policy(path).allow] == list(CODES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_age_days: -1\n", ["1:15 number"]),
        ("max_behind: [1]\n", ["1:13 type"]),
        ("require_digest: 1\n", ["1:17 type"]),
        ("allow: {}\n", ["1:8 type"]),
        ("allow: [x]\n", ["1:9 type"]),
        ("allow:\n- {reason: x}\n", ["2:3 no-code"]),
        ("allow:\n- {code: behnd, reason: x}\n", ["2:10 unknown-code"]),
        ("allow:\n- {code: behind}\n", ["2:3 no-reason"]),
        ("allow:\n- {code: behind, reason: x, until: soon}\n", ["2:36 day"]),
        ("allow:\n- {code: behind, reason: x, pakage: y}\n", ["2:29 unknown-key"]),
        ("- a\n", ["1:1 type"]),
    ],
)
def test_what_is_wrong_with_a_policy(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_drift_policy(path)
    places = [(d.source, d.code) for d in caught.value.diagnostics]
    assert [f"{s.line}:{s.column} {code}" for s, code in places if s is not None] == expected


def test_a_policy_with_nothing_in_it_has_the_usual_age(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("max_behind: 0\n")
    assert load_drift_policy(path) == DriftPolicy(30, file=str(path))


def test_a_time_that_is_none_has_no_age() -> None:
    assert days_since("yesterday", NOW) is None
    assert days_since("2026-11-24T11:00:00", NOW) == 1
    assert days_since("2027-01-01T00:00:00Z", NOW) == 0
