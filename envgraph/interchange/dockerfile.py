"""A Dockerfile that builds the same packages without envgraph.

It needs a builder (docker, podman, buildah), the channels and indexes of the lock, and an
installer image with micromamba, sha256sum, find, sed and awk: the ``INSTALLER`` argument.
Archives are taken by address; micromamba checks their md5 and the next command their sha256, so a
wrong one fails the build. Nothing of the installer is in the final image.

The packages are the same, the image's bytes are not: linking happens there, and scripts
of packages run, which the embedded assembler does not do. ``export --format oci`` has the
image itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from envgraph.errors import Diagnostic, InputError
from envgraph.interchange.document import Document, private_addresses
from envgraph.interchange.explicit import installation_order
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.reference import RegistryReference, parse_reference

INSTALLER: Final = "docker.io/mambaorg/micromamba:2"
"""Where micromamba comes from unless ``--build-arg INSTALLER=…`` says otherwise."""

_PLATFORMS: Final = {
    "linux-64": "linux/amd64", "linux-aarch64": "linux/arm64", "linux-ppc64le": "linux/ppc64le",
    "linux-s390x": "linux/s390x", "linux-riscv64": "linux/riscv64",
}  # fmt: skip
_AT_ONCE: Final = 64 << 10
"""Bytes of one RUN: the kernel takes 128 KiB for one argument."""

_WORK: Final = "/tmp/envgraph"  # noqa: S108 - in a stage that is thrown away
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHECK: Final = (
    "NR == FNR {want[$2] = $1; next} $2 in want {seen[$2] = 1; if ($1 != want[$2]) wrong[$2] = 1} "
    'END {for (n in want) if (!(n in seen) || n in wrong) {print n ": FAILED"; bad = 1} exit bad}'
)
"""awk: every archive is there, and none has another sha256. Until 2.5 micromamba kept them side
by side, since then in a folder for each channel and platform."""

_INPUT: Final = re.compile(r".+ sha256:[0-9a-f]{64}")


def dockerfile(lock: LockedEnvironment, title: str, variables: Mapping[str, str]) -> Document:
    """The Dockerfile of one platform's lock; InputError when its base is only on this disk.

    ``variables`` are the environment's own. Equal arguments give equal text.
    """
    conda = [p for p in lock.packages if p.manager == "conda"]
    pip = [p for p in lock.packages if p.manager == "pip" and p.reproducible]
    platform = _PLATFORMS.get(lock.platform)
    if platform is None:
        raise InputError(f"images are for Linux, and {lock.platform} is not", code="image-platform")
    if lock.context is not None:
        raise InputError(
            f"{' '.join(title.split())} is a Docker build context: its Dockerfile is there already",
            code="export-context",
            hint="`export --format oci` has the image",
        )
    steps, problems = _steps(lock)
    lines = [
        f"# {' '.join(title.split())}, {lock.platform}: the same packages, checked by sha256.",
        "# Needs the channels, and an installer image with micromamba, sha256sum, find and awk.",
        *([f"ARG INSTALLER={INSTALLER}", ""] if conda else []),
    ]
    if conda:
        lines += _packages(platform, conda, pip)
    lines += [*_from(lock.base, platform), *steps]
    if conda:
        lines.append("COPY --from=packages /opt/env /opt/env")
        path = f"/opt/env/bin:${{PATH:-{_DEFAULT_PATH}}}"
        lines.append(f"ENV CONDA_PREFIX=/opt/env PYTHONNOUSERSITE=1 PATH={path}")
    for name, value in sorted(variables.items()):
        if "\n" in value or "\r" in value:
            problems.append(
                _left_out(f"the variable {name} has several lines: no ENV can hold it", "set it")
            )
        else:
            lines.append(f"ENV {name}={_quoted(value)}")
    problems += [
        _left_out(f"{p.name} {p.version} was built here: no index has that wheel", "install it")
        for p in lock.packages
        if not p.reproducible
    ]
    if pip and not conda:
        problems.append(_left_out(f"{len(pip)} pip packages need a Python from conda", "add one"))
    return Document("\n".join(lines) + "\n", (*problems, *private_addresses([*conda, *pip])))


def _packages(
    platform: str, conda: Sequence[LockedPackage], pip: Sequence[LockedPackage]
) -> list[str]:
    """The stage that downloads, checks and links; only its ``/opt/env`` is used."""
    ordered = installation_order(conda)
    urls = ["@EXPLICIT", *(f"{p.url}#{p.md5}" if p.md5 else p.url for p in ordered)]
    sums = [f"{p.sha256.hex}  {p.file_name}" for p in ordered]
    lines = [
        f"FROM --platform={platform} ${{INSTALLER}} AS packages",
        "USER 0",
        f"ENV MAMBA_ROOT_PREFIX={_WORK}",
        f"RUN mkdir -p {_WORK}/pkgs",
        *_written(urls, f"{_WORK}/explicit.txt"),
        *_written(sums, f"{_WORK}/SHA256SUMS"),
        f"RUN micromamba create --yes --no-rc --always-copy --prefix /opt/env "
        f"--file {_WORK}/explicit.txt \\",
        f"    && cd {_WORK} && find pkgs -type f \\( -name '*.conda' -o -name '*.tar.bz2' \\) \\",
        "       -exec sha256sum {} + | sed 's#  .*/#  #' | awk \\",
        f"       '{_CHECK}' SHA256SUMS -",
    ]
    if pip:
        wanted = [f"{p.name} @ {p.url} --hash=sha256:{p.sha256.hex}" for p in pip]
        lines += _written(wanted, f"{_WORK}/requirements.txt")
        install = f"install --no-deps --no-cache-dir --require-hashes -r {_WORK}/requirements.txt"
        if any(p.name == "pip" for p in conda):
            lines.append(f"RUN /opt/env/bin/python -m pip {install}")
        else:  # a pip of its own, so that the environment has only what is locked
            lines += [
                f"RUN /opt/env/bin/python -m venv {_WORK}/pip \\",
                f"    && {_WORK}/pip/bin/pip --python /opt/env/bin/python {install}",
            ]
    return [*lines, ""]


def _written(texts: Iterable[str], path: str) -> list[str]:
    """RUN instructions that write these lines to a file of the stage."""
    instructions: list[str] = []
    group: list[str] = []
    size = 0
    for text in texts:
        word = "'" + text.replace("'", "'\"'\"'") + "'"
        if group and size + len(word) > _AT_ONCE:
            instructions += _printf(group, path, first=not instructions)
            group, size = [], 0
        group.append(word)
        size += len(word) + 8
    return instructions + _printf(group, path, first=not instructions)


def _printf(words: Sequence[str], path: str, *, first: bool) -> list[str]:
    lines = ["RUN printf '%s\\n' \\", *(f"    {word} \\" for word in words)]
    return [*lines, f"    {'>' if first else '>>'} {path}"]


def _from(base: LockedBase, platform: str) -> list[str]:
    if base.manifest is None:
        return ["FROM scratch"]
    reference = parse_reference(base.reference) if base.in_registry else None
    if not isinstance(reference, RegistryReference):
        raise InputError(
            f"the base {base.reference} lies on this machine: no Dockerfile can name it",
            code="base-on-disk",
            hint="push it to a registry and use that reference, or export --format oci",
        )
    name = f"{reference.domain}/{reference.repository}"
    return [f"# {base.reference}", f"FROM --platform={platform} {name}@{base.manifest}"]


def _steps(lock: LockedEnvironment) -> tuple[list[str], list[Diagnostic]]:
    """The lock's docker steps as they were written, and a word on files that they copy."""
    lines: list[str] = []
    needed: list[str] = []
    for step in lock.steps:
        parts = step.split("\n")
        while len(parts) > 1 and _INPUT.fullmatch(parts[-1]):
            needed.append(parts.pop().rpartition(" ")[0])
        lines += parts
    if not needed:
        return lines, []
    files = ", ".join(sorted(set(needed)))
    return lines, [_left_out(f"the docker steps copy {files}", "put it beside the Dockerfile")]


def _left_out(summary: str, hint: str) -> Diagnostic:
    return Diagnostic("not-exported", summary, hint=hint, severity="warning")


def _quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'
