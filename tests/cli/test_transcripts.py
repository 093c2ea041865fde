"""Whole stories as golden transcripts: what a person types, and what is printed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from envgraph.cli import verbs
from envgraph.testing.layouts import LayoutMaker, tar_bytes
from tests.cli.conftest import TRAIN, Cli
from tests.moving import put_base

GOLDEN = Path(__file__).parent / "golden" / "transcripts"
Golden = Callable[[Path, str], None]


def check(cli: Cli, name: str, golden: Golden) -> None:
    text = cli.story()
    golden(GOLDEN / f"{name}.txt", text)
    assert "\x1b" not in text
    long = [line for line in text.splitlines() if len(line) > 80 and "[" not in line]
    assert not [line for line in long if not line.startswith("$ ")]


def test_help(cli: Cli, golden: Golden) -> None:
    cli("--help")
    for verb in verbs.VERBS:
        cli(f"{verb} --help")
    check(cli, "help", golden)


def test_first_steps(cli: Cli, golden: Golden) -> None:
    cli("")
    cli("list")
    cli("validate")
    cli("plan nothing.yml")
    cli("init --name demo")
    cli("init")
    cli("validate")
    cli("validate environments -v")
    check(cli, "first_steps", golden)


def test_from_a_file_to_an_image(demo: Cli, golden: Golden) -> None:
    demo("validate")
    demo("lock --check")
    demo("plan")
    demo("apply --parallelism 1")
    demo("lock --check")
    demo("plan --detailed-exitcode")
    demo("apply")
    demo("list")
    demo("show train")
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- alpha"))
    demo("lock --check")
    demo("plan --detailed-exitcode")
    demo("plan --out next.plan --quiet")
    demo("apply next.plan --parallelism 1")
    demo("apply next.plan")
    demo("plan")
    demo("list --all")
    demo("show train:1 -v")
    check(demo, "from_a_file_to_an_image", golden)


def test_looking_after_it(demo: Cli, golden: Golden) -> None:
    demo("apply --quiet")
    demo("store verify")
    demo("store gc --dry-run --grace-days 0")
    demo("store gc")
    blob = max((demo.folder.parent / "store/packages").iterdir(), key=lambda p: p.name)
    blob.chmod(0o644)
    blob.write_bytes(b"other bytes")
    demo("store verify")
    demo("store verify --repair")
    demo("store verify")
    check(demo, "looking_after_it", golden)


def test_a_base_that_moves(demo: Cli, golden: Golden) -> None:
    base = demo.folder.parent / "base"
    put_base(base)
    put_base(demo.folder.parent / "other", "more")
    demo.write("environments/train.yml", TRAIN.replace("scratch", "oci:../../base:small  # ours"))
    demo("apply --quiet")
    demo("drift")
    demo("impact oci:../base:small")
    put_base(base, "patch")
    demo("drift")
    demo("impact oci:../base:small")
    demo("rebase train --dry-run")
    demo("rebase --on oci:../base:small --parallelism 1")
    demo("drift")
    demo("rebase --all")
    demo("rebase train --base oci:../other:small --dry-run")
    demo("rebase train --base oci:../other:small --quiet")
    demo("plan")
    demo.write(
        "drift-policy.yaml",
        "max_age_days: 30\nallow:\n- {code: base-old, until: 2999-12-31, reason: we know}\n",
    )
    demo("drift")
    demo.write("drift-policy.yaml", "max_age: 30\n")
    demo("drift")
    demo("rebase")
    demo("rebase settings")
    demo("impact Python")
    check(demo, "a_base_that_moves", golden)


def test_other_tools(demo: Cli, golden: Golden) -> None:
    demo("apply --quiet")
    demo("graph train --format mermaid")
    demo("graph --format dot")
    demo("export train --format explicit")
    demo("export train --format requirements")
    demo("export train --format conda-lock -o lock.yml")
    demo("export train --format pylock")
    demo("export train --format spdx -o train.spdx.json")
    demo("import lock.yml --name again")
    demo("import lock.yml --name again")
    demo("plan --target again")
    demo("import environments/train.yml")
    demo("export train --format oci")
    demo("export train --format oci -o train.tar")
    demo("run train -- /bin/sh -c exit\t7")
    check(demo, "other_tools", golden)


def test_to_and_from_others(demo: Cli, golden: Golden) -> None:
    settings = (demo.folder / "envgraph.yaml").read_text()
    shelf = "{type: dirs, path: ../shelf}"
    demo.write("envgraph.yaml", f"{settings}registry: {shelf}\nregistries: {{shared: {shelf}}}\n")
    demo("plan")
    demo("apply --parallelism 1 --auto-approve")
    demo("plan")
    demo("push train")
    demo("share train")
    demo("share train --to nowhere")
    demo("share train --to shared --claim")
    demo("list --registry shared")
    demo("bundle create train -o train.tar")
    shutil.rmtree(demo.folder.parent / "store")
    demo("plan")
    demo("apply --parallelism 1 --auto-approve")
    shutil.rmtree(demo.folder.parent / "store")
    demo("pull train --from shared")
    demo("pull train:9 --from shared")
    demo("bundle import train.tar --offline")
    demo("bundle import envgraph.yaml")
    other = settings.replace("workspace: ", "workspace: other-")
    other = re.sub(r"id: \S+", "id: ffff0001", other)
    demo.write("envgraph.yaml", f"{other}registries: {{shared: {shelf}}}\n")
    demo("list --registry shared")
    demo("show azureml://registries/shared/environments/train/versions/1")
    demo("list --registry shared --offline")
    demo("share azureml://registries/shared/environments/train/labels/latest --to shared")
    demo("push train")
    check(demo, "to_and_from_others", golden)


def test_labels_and_jobs_across_workspaces(demo: Cli, golden: Golden) -> None:
    settings = (demo.folder / "envgraph.yaml").read_text()
    shelf = "registries: {shared: {type: dirs, path: ../shelf}}\n"
    demo.write("envgraph.yaml", settings + shelf)
    demo("apply --quiet")
    demo("label train:1 prod")
    demo("share train --to shared")
    demo("archive train:1")
    demo("share train:1 --to shared")
    demo("restore train:1")
    demo("share train --to shared --quiet")
    demo("history azureml://registries/shared/environments/train")
    demo("list --registry shared")
    other = re.sub(r"id: \S+", "id: ffff0001", settings.replace("workspace: ", "workspace: other-"))
    demo.write("envgraph.yaml", other + shelf)
    address = "azureml://registries/shared/environments/train/labels"
    demo.write("job.yml", f"command: python train.py\nenvironment: {address}/prod\n")
    demo("plan job.yml --offline")
    demo("plan job.yml")
    demo("apply job.yml --auto-approve")
    demo("plan job.yml")
    demo("show azureml://registries/shared/environments/train/labels/next")
    check(demo, "labels_and_jobs", golden)


def test_comparing_anything(demo: Cli, golden: Golden) -> None:
    demo("apply --quiet")
    demo("export train --format oci -o image")
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- alpha").replace("fast", "slow"))
    demo("apply --quiet")
    demo("diff oci:image train")
    demo("why train:1 oci:image")
    layout = LayoutMaker(demo.folder / "foreign")
    record = tar_bytes({"opt/env/conda-meta/alpha-1.0-0.json": b"{}", "etc/a": b"a"})
    layout.name(layout.add_image([record], config={"Env": ["A=1"], "User": "1000"}).manifest)
    demo("diff train oci:foreign")
    demo("why train oci:foreign")
    demo("diff oci:foreign oci:foreign")
    demo("diff train ../nowhere#train")
    demo("diff train ../work#train:1")
    demo("diff train localhost:1/x:1 --offline")
    demo("diff train a/b")
    check(demo, "comparing_anything", golden)


def test_in_an_editor(demo: Cli, golden: Golden) -> None:
    demo("apply --quiet")
    for script in ("s/beta/alpha/", "s/alpha/alpha/", "s/^image:/imag:/", "s/^imag:/image:/"):
        demo("edit train", EDITOR=f"sed -i {script}")
    demo("edit train:1 mine", EDITOR="sed -i s/beta/alpha=1.0/")
    demo("edit train AzureML-mine", EDITOR="true")
    demo("edit train", EDITOR="nonesuch")
    check(demo, "in_an_editor", golden)


def test_over_the_years(demo: Cli, golden: Golden) -> None:
    demo("apply --quiet")
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- alpha").replace("fast", "slow"))
    demo("apply --quiet")
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- alpha").replace("For", "Of"))
    demo("apply --quiet")
    demo("history train")
    demo("diff train:1 train")
    demo("diff train:1 train --format markdown")
    demo("why train:1 train")
    demo("why train")
    demo("label train:1 prod")
    demo("label train:2 prod")
    demo("label train latest")
    demo("delete train")
    demo("delete train@prod")
    demo("archive train:3")
    demo("archive train:3")
    demo("list")
    demo("list --all --archived")
    demo("plan")
    demo("show train@prd")
    demo("label train:2 prod --remove")
    demo("delete train:2")
    demo("show train:2")
    demo("restore train:3")
    demo("clone train mine --set tags.team=vision")
    demo("clone train Microsoft-train")
    demo("apply --quiet")
    demo("history mine")
    demo("archive train")
    demo("history train")
    check(demo, "over_the_years", golden)


def test_moving_one_package(demo: Cli, golden: Golden) -> None:
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- alpha=1.0"))
    demo("lock")
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- alpha"))
    demo("lock --check")
    demo("lock")
    demo("lock")
    demo("lock --update settings")
    check(demo, "moving_one_package", golden)


def test_mistakes(demo: Cli, golden: Golden) -> None:
    demo("plam")
    demo("audit model")
    demo("--check lock")
    demo("plan --detailed-exitcodes")
    demo("plan --target")
    demo("apply --parallelism zero")
    demo("apply nowhere.yml")
    demo("run train")
    demo("run train python")
    demo("show train")
    demo("export train")
    demo("export train --format nonsense")
    demo("store")
    demo("store clean")
    demo("store gc --repair")
    demo("-C nowhere plan")
    demo("-q -v plan")
    check(demo, "mistakes", golden)


def test_files_with_mistakes(demo: Cli, golden: Golden) -> None:
    demo.write(
        "environments/bad.yml",
        "name: bad\nimag: x\nimage: scratch\nconda_file:\n  dependencies:\n  - numpy >= = 1\n"
        "  - {pip: ['requests==', 1]}\ntags: [a]\n",
    )
    demo.write("environments/empty.yml", "")
    demo.write("environments/tabs.yml", "name:\tx\n\timage: y\n")
    demo("validate")
    demo("validate environments/bad.yml nowhere.yml")
    demo("plan")
    demo("apply --quiet")
    demo("list")
    demo.write("envgraph.yaml", 'workspace: Demo\nplatfrms: [linux-64]\nid: "1"\n')
    demo("plan")
    check(demo, "files_with_mistakes", golden)


def test_packages_that_cannot_be_had(demo: Cli, golden: Golden) -> None:
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- beta\n    - alpha>=2"))
    demo("plan")
    demo.write("environments/train.yml", TRAIN.replace("- beta", "- nonesuch"))
    demo("lock")
    demo.write("environments/train.yml", TRAIN.replace("conda-forge", "https://127.0.0.1:1/x"))
    demo("plan --offline")
    check(demo, "packages_that_cannot_be_had", golden)
