"""The image config: what it takes from the base, from packages and from the user."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envgraph.errors import IntegrityError
from envgraph.image.activation import WRAPPER, wrapper_text
from envgraph.image.config import DEFAULT_PATH, EPOCH, image_config
from envgraph.image.content import LayerContent
from envgraph.image.options import LayerOptions
from envgraph.model.identity import lock_identity
from envgraph.model.locked import BaseLayer, LockedBase, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

OPTIONS = LayerOptions()


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def package(name: str) -> LockedPackage:
    return LockedPackage("conda", name, "1", "0", "linux-64", digest(name), "conda-forge")


def layer(name: str, **changes: Any) -> LayerContent:
    plain = LayerContent(digest(name), 2048, 100, 512, 50, "x+zstd", 3)
    return replace(plain, **changes)


BASE_LAYERS = tuple(
    BaseLayer("application/vnd.oci.image.layer.v1.tar+gzip", digest(f"b{i}"), 10, digest(f"d{i}"))
    for i in range(2)
)
BASE = LockedBase("oci:base", digest("m"), "x", digest("c"), BASE_LAYERS)
SCRATCH = LockedBase("scratch")


def lock(base: LockedBase = BASE, *names: str, platform: str = "linux-64") -> LockedEnvironment:
    packages = tuple(package(name) for name in names or ("python",))
    return LockedEnvironment(digest("def"), digest("pin"), platform, base, packages)


def base_config(settings: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(settings or {}),
        "rootfs": {"type": "layers", "diff_ids": [str(la.diff_id) for la in BASE_LAYERS]},
        **more,
    }


def made(
    settings: Mapping[str, Any] | None = None,
    *layers: LayerContent,
    runtime: Mapping[str, Any] | None = None,
    locked: LockedEnvironment | None = None,
    **more: Any,
) -> dict[str, Any]:
    data = image_config(
        locked or lock(), runtime or {}, layers, base_config(settings, **more), OPTIONS
    )
    document: dict[str, Any] = json.loads(data)
    return document


def environment(document: Mapping[str, Any]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in document["config"]["Env"])


def test_layers_history_and_time() -> None:
    document = made({}, layer("one"), layer("two"))
    assert document["created"] == EPOCH
    expected = [*(la.diff_id for la in BASE_LAYERS), digest("one"), digest("two")]
    assert document["rootfs"] == {"type": "layers", "diff_ids": [str(d) for d in expected]}
    assert len(document["history"]) == 4
    assert {entry["created"] for entry in document["history"]} == {EPOCH}


def test_history_of_the_base_stays_if_it_fits() -> None:
    history = [
        {"created": "2020-01-01T00:00:00Z", "created_by": "ADD"},
        {"created_by": "ENV", "empty_layer": True},
        {"created_by": "RUN"},
    ]
    assert made({}, layer("one"), history=history)["history"][:3] == history
    assert len(made({}, layer("one"), history=history[:1])["history"]) == 3


def test_scratch() -> None:
    data = image_config(lock(SCRATCH), {}, [layer("one")], None, OPTIONS)
    document = json.loads(data)
    assert environment(document)["PATH"] == "/opt/env/bin:" + DEFAULT_PATH
    assert document["rootfs"]["diff_ids"] == [str(digest("one"))]
    assert set(document["config"]) == {"Env", "Labels"}


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux-64", {"architecture": "amd64", "os": "linux"}),
        ("linux-aarch64", {"architecture": "arm64", "os": "linux"}),
        ("linux-armv7l", {"architecture": "arm", "os": "linux", "variant": "v7"}),
    ],
)
def test_platforms(platform: str, expected: dict[str, str]) -> None:
    data = image_config(lock(SCRATCH, platform=platform), {}, [], None, OPTIONS)
    document = json.loads(data)
    assert {k: document.get(k) for k in ("architecture", "os", "variant")} == {
        "variant": None,
        **expected,
    }


def test_the_base_python_does_not_leak_in() -> None:
    document = made(
        {
            "Env": [
                "PATH=/base/bin:/bin",
                "PYTHONPATH=/base",
                "PYTHON_VERSION=3.9",
                "PYTHONUNBUFFERED=1",
                "CONDA_PREFIX=/opt/conda",
                "CONDA_PREFIX_1=/x",
                "VIRTUAL_ENV=/venv",
                "CONDA_DIR=/opt/conda",
                "LANG=C.UTF-8",
                "EMPTY=",
            ]
        },
        layer("one"),
    )
    assert document["config"]["Env"] == [
        "PATH=/opt/env/bin:/base/bin:/bin",
        "CONDA_DIR=/opt/conda",
        "LANG=C.UTF-8",
        "EMPTY=",
        "CONDA_DEFAULT_ENV=/opt/env",
        "CONDA_PREFIX=/opt/env",
        "CONDA_SHLVL=1",
        "PYTHONNOUSERSITE=1",
    ]


def test_without_packages_nothing_is_injected() -> None:
    locked = replace(lock(), packages=())
    document = made(
        {"Env": ["PATH=/bin", "PYTHONPATH=/base"]},
        locked=locked,
        runtime={"environment_variables": {"A": "1"}},
    )
    assert document["config"]["Env"] == ["PATH=/bin", "PYTHONPATH=/base", "A=1"]


def test_who_wins() -> None:
    document = made(
        {"Env": ["A=base", "B=base", "C=base", "D=base"]},
        layer("one", env_vars={"B": "one", "C": "one", "D": "one", "E": "***unset***"}),
        layer("two", env_vars={"C": "two", "D": "two"}),
        runtime={"environment_variables": {"D": "user", "PYTHONUTF8": "1", "E": "user=1"}},
    )
    found = environment(document)
    assert {name: found[name] for name in "ABCDE"} == {
        "A": "base",
        "B": "one",
        "C": "two",
        "D": "user",
        "E": "user=1",
    }
    assert found["PYTHONUTF8"] == "1"


def test_what_is_kept_and_what_is_not() -> None:
    kept = {
        "User": "app",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "WorkingDir": "/app",
        "StopSignal": "SIGINT",
        "StopTimeout": 30,
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 3_000_000_000},
        "Shell": ["/bin/bash", "-c"],
        "Cmd": ["python3"],
        "Entrypoint": ["/init"],
    }
    dropped = {"OnBuild": ["RUN x"], "Hostname": "abc", "Image": "sha256:x", "Domainname": "d"}
    document = made({**kept, **dropped}, layer("one"), container="abc", docker_version="1", id="x")
    assert {k: v for k, v in document["config"].items() if k not in ("Env", "Labels")} == kept
    assert set(document) == {"architecture", "os", "created", "config", "rootfs", "history"}


def test_a_single_word_for_a_list() -> None:
    assert made({"Entrypoint": "/init"}, layer("one"))["config"]["Entrypoint"] == ["/init"]


def test_labels_say_the_lock_and_routes() -> None:
    route = {"port": 5001, "path": "/score"}
    document = made(
        {"Labels": {"maintainer": "x"}}, runtime={"inference_config": {"scoring_route": route}}
    )
    assert document["config"]["Labels"] == {
        "maintainer": "x",
        "envgraph.base": str(digest("m")),
        "envgraph.lock": str(lock_identity(lock())),
        "envgraph.platform": "linux-64",
        "envgraph.inference.scoring_route": "5001:/score",
    }


def test_neither_definition_nor_names_enter() -> None:
    one = image_config(lock(), {}, [layer("one")], base_config(), OPTIONS)
    other = replace(
        lock(),
        definition=digest("another"),
        pin_key=digest("another"),
        created="2030-01-01T00:00:00Z",
        base=replace(BASE, reference="docker.io/library/python:3.12"),
    )
    assert image_config(other, {}, [layer("one")], base_config(), OPTIONS) == one


SCRIPTS = ("etc/conda/activate.d/b.sh", "etc/conda/activate.d/a.sh", "etc/conda/activate.d/a.fish")


def test_the_wrapper_only_with_scripts() -> None:
    plain = made({"Entrypoint": ["/init"], "Cmd": ["x"]}, layer("one"))["config"]
    assert plain["Entrypoint"] == ["/init"]
    wrapped = made({"Entrypoint": ["/init"], "Cmd": ["x"]}, layer("a", activate_scripts=SCRIPTS))
    assert wrapped["config"]["Entrypoint"] == ["/bin/sh", f"/opt/env/{WRAPPER}", "/init"]
    assert wrapped["config"]["Cmd"] == ["x"]
    fish = made({}, layer("a", activate_scripts=SCRIPTS[2:]))
    assert "Entrypoint" not in fish["config"]
    bash = made({}, layer("a", activate_scripts=SCRIPTS), locked=lock(BASE, "bash"))
    assert bash["config"]["Entrypoint"] == ["/opt/env/bin/bash", f"/opt/env/{WRAPPER}"]


def test_the_wrapper_runs(tmp_path: Path) -> None:
    prefix = tmp_path / "it's a prefix"
    folder = prefix / "etc/conda/activate.d"
    folder.mkdir(parents=True)
    (folder / "a.sh").write_text("export ORDER=a; set -- gone; false\n")
    (folder / "b.sh").write_text("export ORDER=${ORDER}b\nhyphen-ated() { :; }\n")
    names = ["etc/conda/activate.d/a.sh", "etc/conda/activate.d/b.sh", "etc/conda/activate.d/c.sh"]
    wrapper = tmp_path / "entrypoint"
    wrapper.write_bytes(wrapper_text(names, str(prefix)))
    words = ["/bin/sh", str(wrapper), "/bin/sh", "-c", 'printf "%s|" "$ORDER" "$@"; exit 7', "x"]
    done = subprocess.run(
        [*words, "one two", "*"], capture_output=True, text=True, check=False, env={}
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "ab|one two|*|", "")


def test_no_wrapper_text_without_scripts() -> None:
    assert wrapper_text((), "/opt/env") == b""


@pytest.mark.parametrize(
    "bad",
    [
        {"config": ["x"]},
        {"config": {"Env": {"A": "1"}}},
        {"config": {"Env": [1]}},
        {"config": {"Cmd": [None]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Labels": []}, "rootfs": {"diff_ids": []}},
        {"history": {"a": 1}},
        {"history": ["x"]},
        {"rootfs": {"type": "layers", "diff_ids": []}},
        {"config": {"User": "\ud800"}},
    ],
)
def test_a_base_config_that_makes_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="the base's config"):
        made(None, layer("one"), **bad)


@given(
    st.dictionaries(st.text("ABC_", min_size=1), st.text("abc=: é")),
    st.dictionaries(st.text("ABC_", min_size=1), st.text("abc=: é")),
    st.randoms(use_true_random=False),
)
def test_order_of_mappings_has_no_part(
    variables: dict[str, str], labels: dict[str, str], random: Any
) -> None:
    def shuffled(values: dict[str, str]) -> dict[str, str]:
        items = list(values.items())
        random.shuffle(items)
        return dict(items)

    def build(first: dict[str, str], second: dict[str, str]) -> bytes:
        runtime = {"environment_variables": first}
        return image_config(lock(), runtime, [layer("a")], base_config({"Labels": second}), OPTIONS)

    data = build(variables, labels)
    assert build(shuffled(variables), shuffled(labels)) == data
    assert (
        json.dumps(json.loads(data), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        == data.decode()
    )
