"""``export --format dockerfile``: built by buildah, its checks made to fail.

micromamba is not on every machine, so a stand-in that the Dockerfile reaches by its
``INSTALLER`` argument takes its place: it is called as micromamba is, and "downloads" what
lies beside it. What is tried is everything else: syntax, order, the sha256 check, the
final image.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.errors import InputError
from envgraph.interchange.dockerfile import dockerfile
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest
from tests.services import require_root, require_tool

HERE = Digest.of(b"definition")
STAND_IN = """\
#!/bin/sh
# micromamba create --yes --no-rc --always-copy --prefix PREFIX --file FILE
set -eu
[ "$1 $5 $7" = "create --prefix --file" ]
mkdir -p "$6/conda-meta"
[ "$(head -n 1 "$8")" = "@EXPLICIT" ]
tail -n +2 "$8" | while read -r line; do
  name="${line%%#*}"; name="${name##*/}"
  folder="$MAMBA_ROOT_PREFIX/pkgs$(cat /nested)"
  mkdir -p "$folder/${name%.conda}/info"
  cp "/archives/$name" "$folder/$name"
  echo "$line" > "$6/conda-meta/$name.json"
done
"""


def conda(name: str, *depends: str) -> LockedPackage:
    return LockedPackage(
        "conda", name, "1.0", "0", "noarch", Digest.of(name.encode()), "c",
        file_name=f"{name}-1.0-0.conda", url=f"https://example.com/c/noarch/{name}-1.0-0.conda",
        md5="0" * 32, size=3, depends=depends,
    )  # fmt: skip


def lock(*packages: LockedPackage, base: LockedBase | None = None) -> LockedEnvironment:
    return LockedEnvironment(HERE, HERE, "linux-64", base or LockedBase("scratch"), packages)


class Builder:
    """buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tool = [
            require_tool("buildah"), "--root", f"{folder}/root", "--runroot", f"{folder}/run",
            "--storage-driver", "vfs",
        ]  # fmt: skip
        self.policy = folder / "policy.json"
        self.policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.tool, *words], capture_output=True, text=True, timeout=120)

    def build(self, text: str, context: Path, tag: str) -> subprocess.CompletedProcess[str]:
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(text)
        return self.run(
            "build", "--isolation", "chroot", "--network", "host", "--signature-policy",
            str(self.policy), "--build-arg", "INSTALLER=localhost/installer", "--pull-never",
            "--tag", tag, str(context),
        )  # fmt: skip


@pytest.fixture(params=["", "/https/example.com/c/noarch"], ids=["until 2.5", "since 2.6"])
def builder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Builder]:
    """With an installer that keeps archives as micromamba of that version does."""
    require_root()
    made = Builder(tmp_path)
    context = tmp_path / "installer"
    (context / "archives").mkdir(parents=True)
    shutil.copy(require_tool("busybox"), context / "busybox")
    (context / "micromamba").write_text(STAND_IN)
    (context / "micromamba").chmod(0o755)
    (context / "nested").write_text(request.param)
    for name in ("one", "two"):
        (context / "archives" / f"{name}-1.0-0.conda").write_text(name)
    done = made.build(
        "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/busybox\n"
        "COPY micromamba /bin/micromamba\n"
        "COPY nested /nested\nCOPY archives /archives\nENV PATH=/bin\n"
        'RUN ["/bin/busybox", "--install", "-s", "/bin"]\nRUN mkdir -p /tmp\n',
        context, "localhost/installer",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    yield made
    made.run("rmi", "-a", "-f")


def test_buildah_builds_it(builder: Builder, tmp_path: Path) -> None:
    text = dockerfile(
        lock(conda("two", "one"), conda("one")), "train:1",
        {"MODE": 'a "b" $HOME \\', "EMPTY": "", "LINES": "a\nb"},
    )  # fmt: skip
    assert [d.code for d in text.diagnostics] == ["not-exported"]  # LINES
    done = builder.build(text.text, tmp_path / "context", "localhost/out")
    assert done.returncode == 0, done.stderr
    container = builder.run("from", "--pull-never", "--signature-policy", str(builder.policy),
                            "localhost/out").stdout.strip()  # fmt: skip
    mounted = Path(builder.run("mount", container).stdout.strip())
    assert sorted(p.relative_to(mounted).as_posix() for p in mounted.rglob("*") if p.is_file()) == [
        "opt/env/conda-meta/one-1.0-0.conda.json",
        "opt/env/conda-meta/two-1.0-0.conda.json",
    ]
    variables = json.loads(builder.run("inspect", container).stdout)["OCIv1"]["config"]["Env"]
    assert 'MODE=a "b" $HOME \\' in variables
    assert "EMPTY=" in variables
    assert any(v.startswith("PATH=/opt/env/bin:/") for v in variables)
    builder.run("umount", container)
    builder.run("rm", container)


def test_a_wrong_archive_fails_the_build(builder: Builder, tmp_path: Path) -> None:
    wrong = replace(conda("two"), sha256=Digest.of(b"another"))
    text = dockerfile(lock(conda("one"), wrong), "train:1", {}).text
    done = builder.build(text, tmp_path / "context", "localhost/out")
    assert done.returncode != 0
    assert "two-1.0-0.conda: FAILED" in done.stdout + done.stderr


def test_an_archive_that_is_nowhere_fails_the_build(builder: Builder, tmp_path: Path) -> None:
    text = dockerfile(lock(conda("one"), conda("two")), "train:1", {}).text
    text = text.replace(
        "    && cd ", "    && find /tmp/envgraph/pkgs -name 'one*.conda' -exec rm {} + && cd "
    )
    done = builder.build(text, tmp_path / "context", "localhost/out")
    assert done.returncode != 0
    assert "one-1.0-0.conda: FAILED" in done.stdout + done.stderr


def test_the_right_archive_beside_a_wrong_one_is_not_enough(
    builder: Builder, tmp_path: Path
) -> None:
    text = dockerfile(lock(conda("one"), conda("two")), "train:1", {}).text
    wrong = "mkdir -p /tmp/envgraph/pkgs/x && echo bad > /tmp/envgraph/pkgs/x/one-1.0-0.conda"
    done = builder.build(
        text.replace("    && cd ", f"    && {wrong} && cd "), tmp_path / "context", "localhost/out"
    )
    assert done.returncode != 0
    assert "one-1.0-0.conda: FAILED" in done.stdout + done.stderr


def test_no_instruction_is_too_long_for_the_kernel() -> None:
    many = [conda(f"package-{number:04}") for number in range(3000)]
    text = dockerfile(lock(*many), "large:1", {}).text
    instructions = text.replace("\\\n", "").splitlines()
    assert max(map(len, instructions)) < 128 << 10
    for package in many:
        assert f"{package.url}#{package.md5}" in text
        assert f"{package.sha256.hex}  {package.file_name}" in text


def test_the_base_is_named_by_digest() -> None:
    base = LockedBase("docker.io/library/debian:12", manifest=Digest.of(b"m"))
    text = dockerfile(lock(conda("one"), base=base), "x:1", {}).text
    assert f"FROM --platform=linux/amd64 docker.io/library/debian@{Digest.of(b'm')}\n" in text
    with pytest.raises(InputError, match="lies on this machine"):
        dockerfile(lock(base=LockedBase("oci:base", manifest=Digest.of(b"m"))), "x:1", {})


def test_pip_packages_come_by_address_and_hash() -> None:
    wheel = LockedPackage("pip", "rich", "13.0", "", "", Digest.of(b"w"), "",
                          url="https://example.com/rich-13.0-py3-none-any.whl")  # fmt: skip
    made = replace(wheel, name="mine", reproducible=False)
    document = dockerfile(lock(conda("python"), wheel, made), "x:1", {})
    assert f"rich @ {wheel.url} --hash=sha256:{wheel.sha256.hex}" in document.text
    assert "--require-hashes" in document.text
    assert "mine" not in document.text
    assert [d.code for d in document.diagnostics] == ["not-exported"]


def test_steps_stand_below_the_packages() -> None:
    steps = ("RUN true", f"COPY a /b\na sha256:{'0' * 64}")
    document = dockerfile(replace(lock(conda("one")), steps=steps), "x:1", {})
    text = document.text
    assert "FROM scratch\nRUN true\nCOPY a /b\nCOPY --from=packages" in text
    [problem] = document.diagnostics
    assert "copy a" in problem.summary
