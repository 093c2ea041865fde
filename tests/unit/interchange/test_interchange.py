"""Locks in the formats of other tools."""

from __future__ import annotations

import itertools

from rattler.explicit_environment import ExplicitEnvironmentSpec

from envgraph.interchange.explicit import explicit, installation_order
from envgraph.interchange.requirements import requirements
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

HERE = Digest.of(b"definition")


def conda(name: str, *depends: str, url: str = "") -> LockedPackage:
    address = url or f"https://example.com/c/noarch/{name}-1-0.conda"
    return LockedPackage(
        "conda", name, "1", "0", "noarch", Digest.of(name.encode()), "c",
        url=address, depends=depends,
    )  # fmt: skip


def pip(name: str, *, reproducible: bool = True) -> LockedPackage:
    digest = Digest.of(name.encode())
    return LockedPackage("pip", name, "2.0", "", "", digest, "", reproducible=reproducible)


def lock(*packages: LockedPackage) -> LockedEnvironment:
    return LockedEnvironment(HERE, HERE, "linux-64", LockedBase("scratch"), packages)


def test_explicit_has_an_address_and_a_sha256_for_each_conda_package() -> None:
    document = explicit(lock(conda("a"), conda("b")), "train:1")
    lines = document.text.splitlines()
    assert lines[0].startswith("# train:1")
    assert lines[1:3] == ["# platform: linux-64", "@EXPLICIT"]
    assert lines[3] == (f"https://example.com/c/noarch/a-1-0.conda#sha256:{Digest.of(b'a').hex}")
    assert document.diagnostics == ()


def test_rattler_reads_the_explicit_file() -> None:
    text = explicit(lock(conda("a"), conda("b", "a")), "train:1").text
    spec = ExplicitEnvironmentSpec.from_str(text)
    assert str(spec.platform) == "linux-64"
    assert [entry.url.rpartition("/")[2] for entry in spec.packages] == [
        f"{name}-1-0.conda#sha256:{Digest.of(name.encode()).hex}" for name in "ab"
    ]


def test_explicit_says_what_it_has_no_place_for() -> None:
    document = explicit(lock(conda("a"), pip("rich")), "train:1")
    assert f"# pip rich==2.0 --hash=sha256:{Digest.of(b'rich').hex}\n" in document.text
    [problem] = document.diagnostics
    assert (problem.code, problem.severity) == ("not-exported", "warning")


def test_explicit_names_a_reference_instead_of_a_credential() -> None:
    private = conda("a", url="https://host/t/${TOKEN}/c/noarch/a-1-0.conda")
    [problem] = explicit(lock(private), "train:1").diagnostics
    assert problem.code == "credentials-left-out"


def test_packages_come_after_what_they_need_in_any_order() -> None:
    packages = [conda("app", "lib >=1", "python"), conda("lib", "python 3.*"), conda("python")]
    for order in itertools.permutations(packages):
        assert [p.name for p in installation_order(order)] == ["python", "lib", "app"]


def test_a_cycle_is_cut_and_nothing_is_lost() -> None:
    packages = [conda("pip", "python"), conda("python", "pip"), conda("other", "absent")]
    assert sorted(p.name for p in installation_order(packages)) == ["other", "pip", "python"]


def test_a_deep_chain_needs_no_deep_stack() -> None:
    chain = [conda(f"p{n}", f"p{n + 1}") for n in range(5000)]
    assert installation_order(chain)[0].name == "p4999"


def test_requirements_have_versions_and_hashes() -> None:
    document = requirements(lock(conda("python"), pip("rich")), "train:1")
    assert document.text.splitlines()[1:] == [
        "# platform: linux-64",
        "# python: 1",
        "# not in this file: 1 conda package",
        f"rich==2.0 --hash=sha256:{Digest.of(b'rich').hex}",
    ]
    assert document.diagnostics == ()


def test_a_wheel_that_was_built_here_is_a_comment_and_a_warning() -> None:
    document = requirements(lock(pip("local", reproducible=False)), "train:1")
    assert "\nlocal==" not in document.text
    assert "# built from sources: local==2.0" in document.text
    [problem] = document.diagnostics
    assert "local 2.0 was built here" in problem.summary


def test_an_empty_requirements_file_is_told() -> None:
    [problem] = requirements(lock(conda("a")), "train:1").diagnostics
    assert "is empty" in problem.summary
