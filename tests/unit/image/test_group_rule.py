"""Which packages share a layer: the rule's constants and answers are pinned for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envgraph.errors import InputError
from envgraph.image import group
from envgraph.image.group import assign_groups, group_of
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest


def package(name: str, size: int, manager: str = "conda", version: str = "1") -> LockedPackage:
    return LockedPackage(
        manager,  # type: ignore[arg-type]
        name,
        version,
        "0",
        "linux-64",
        Digest.of(name.encode()),
        "c",
        size=size,
    )


def test_constants() -> None:
    assert (group.FIRST_THRESHOLD, group.MOST_GROUPS, group.FIXED_LAYERS) == (1 << 16, 8, 2)


def test_golden_groups() -> None:
    names = ["numpy", "zlib", "requests", "tzdata", "ca-certificates", "six", "é"]
    assert [group_of(package(name, 1), 8) for name in names] == GOLDEN_CONDA
    assert [group_of(package(name, 1, "pip"), 8) for name in names] == GOLDEN_PIP


GOLDEN_CONDA: list[int] = [1, 4, 7, 2, 5, 1, 0]
GOLDEN_PIP: list[int] = [3, 2, 4, 1, 0, 3, 3]


def test_few_packages_share_nothing_and_pip_comes_last() -> None:
    packages = [
        package("python", 30 << 20),
        package("six", 10_000),
        package("torch", 700 << 20, "pip"),
        package("tqdm", 60_000, "pip"),
    ]
    layers = assign_groups(packages, 80)
    assert [layer.name for layer in layers] == [
        "conda/python",
        "conda/six",
        "pip/torch",
        "pip/tqdm",
    ]
    assert [layer.packages for layer in layers] == [(package,) for package in packages]


def test_small_ones_share_when_not_all_fit() -> None:
    packages = [package("python", 30 << 20), package("six", 10_000), package("zlib", 65_536)]
    packages += [package(f"tiny{n}", 1000) for n in range(90)]
    packages += [package("torch", 700 << 20, "pip"), package("tqdm", 6000, "pip")]
    layers = assign_groups(packages, 80)
    names = [layer.name for layer in layers]
    assert names == [
        "conda/python",
        "conda/zlib",
        *(f"conda/group-{n}" for n in range(8)),
        "pip/torch",
        f"pip/group-{group_of(packages[-1], 8)}",
    ]


def test_the_threshold_doubles_until_it_fits() -> None:
    packages = [package(f"p{n:03}", (1 << 20) + n * 100_000) for n in range(200)]
    layers = assign_groups(packages, 80)
    assert len(layers) <= 78
    alone = {layer.packages[0].name for layer in layers if "group" not in layer.name}
    assert alone == {p.name for p in packages if p.size >= 16 << 20}


def test_a_new_version_stays_in_its_group() -> None:
    packages = [package(f"p{n}", 1000 * n) for n in range(100)]
    updated = [package(p.name, p.size + 10, version="2") for p in packages]
    assert [[p.name for p in g.packages] for g in assign_groups(packages, 80)] == [
        [p.name for p in g.packages] for g in assign_groups(updated, 80)
    ]


def test_one_more_package_moves_no_other() -> None:
    packages = [package(f"p{n:03}", 1000 * n) for n in range(100)]
    before = {p.name: g.name for g in assign_groups(packages[:-1], 80) for p in g.packages}
    after = {p.name: g.name for g in assign_groups(packages, 80) for p in g.packages}
    assert {name: after[name] for name in before} == before


@given(
    st.lists(st.tuples(st.sampled_from(["conda", "pip"]), st.integers(0, 4 << 30)), max_size=300),
    st.integers(group.FEWEST_LAYERS, 130),
)
def test_never_more_than_allowed_and_nobody_is_lost(
    sizes: list[tuple[str, int]], max_layers: int
) -> None:
    packages = [package(f"p{n:03}", size, manager) for n, (manager, size) in enumerate(sizes)]
    packages.sort(key=lambda p: (p.manager, p.name))
    layers = assign_groups(packages, max_layers)
    assert len(layers) + group.FIXED_LAYERS <= max_layers
    assert sorted(p.name for g in layers for p in g.packages) == sorted(p.name for p in packages)
    assert len({g.name for g in layers}) == len(layers)
    managers = [g.packages[0].manager for g in layers]
    assert managers == sorted(managers)


def test_too_few_layers_is_the_users_error() -> None:
    with pytest.raises(InputError) as caught:
        assign_groups([], 3)
    assert caught.value.diagnostics[0].code == "max-layers"
    assert assign_groups([], 4) == ()
