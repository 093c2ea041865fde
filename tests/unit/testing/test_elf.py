from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envgraph.testing.channel.elf import ElfNeeds, is_elf, read_needs, system_libraries
from envgraph.testing.channel.libraries import (
    close_over,
    is_glibc,
    package_name,
    source_packages,
    version_of,
    with_rpath,
)
from tests.services import missing

PROGRAM = Path(sys.executable).resolve().read_bytes()


def test_the_running_python_says_what_it_needs() -> None:
    needs = read_needs(PROGRAM)
    assert "libc.so.6" in needs.needed
    assert needs.interpreter.startswith("/lib")


def test_rpath_is_set_so_that_what_is_loaded_inherits_it() -> None:
    changed = with_rpath(PROGRAM, "$ORIGIN/../lib:/somewhere/else")
    assert read_needs(changed).rpath == ("$ORIGIN/../lib", "/somewhere/else")
    assert read_needs(changed).needed == read_needs(PROGRAM).needed
    assert with_rpath(PROGRAM, "$ORIGIN/../lib:/somewhere/else") == changed


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100)])
def test_what_is_no_64_bit_elf_needs_nothing(data: bytes) -> None:
    assert not is_elf(data)
    assert read_needs(data) == ElfNeeds()


@given(st.integers(6, 4096))
def test_a_cut_file_is_an_error_of_ours(length: int) -> None:
    with contextlib.suppress(ValueError):
        read_needs(PROGRAM[:length])


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(tail: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_needs(b"\x7fELF\x02\x01" + tail)


def test_libraries_are_followed_to_the_end() -> None:
    if "libstdc++.so.6" not in system_libraries():
        missing("this machine has no libstdc++.so.6")
    closure = close_over(["libstdc++.so.6"])
    assert set(closure.files) == {"libstdc++.so.6", "libgcc_s.so.1"}
    assert close_over(["libnowhere.so.9"]).missing == ("libnowhere.so.9",)
    assert close_over(["libc.so.6"]).files == {}


def test_names() -> None:
    assert package_name("libssl.so.3") == "openssl"
    assert package_name("libtinfo.so.6") == "ncurses"
    assert package_name("libFoo+Bar.so.1") == "libfooxbar"
    assert is_glibc("ld-linux-x86-64.so.2")
    assert not is_glibc("libnsl.so.2")


@pytest.mark.parametrize(
    ("source", "file", "version"),
    [
        ("libssl3 3.0.19-1~deb12u2", "libssl.so.3", "3.0.19"),
        ("zlib1g 1:1.2.13.dfsg-1", "libz.so.1.2.13", "1.2.13"),
        ("", "libz.so.1.2.13", "1.2.13"),
        ("", "libssl.so", "0"),
        ("libssl1.1 1.1.1w-0+deb11u1", "libssl.so.1.1", "1.1.1w"),
    ],
)
def test_versions_of_libraries(source: str, file: str, version: str) -> None:
    assert version_of(Path("/nowhere") / file, source) == version


def test_the_loaders_own_files_have_a_source_or_none() -> None:
    libc = system_libraries()["libc.so.6"]
    found = source_packages([libc, Path("/nowhere/else")])
    assert set(found) == {libc, Path("/nowhere/else")}
    assert found[Path("/nowhere/else")] == ""
