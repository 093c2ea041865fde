"""What images say of themselves, compared: values in, values out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envgraph.diff.pictures import Picture, PictureLayer, compare_pictures, explain_pictures
from envgraph.history.foundimage import picture_settings
from envgraph.history.inside import package, packages_of_history, without_conda_twins
from envgraph.history.pictures import is_registry_image
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.oci import ImageConfig, Platform
from envgraph_store.digest import Digest


def layer(name: str, how: str = "") -> PictureLayer:
    return PictureLayer(Digest.of(f"{name}{how}".encode()), 10, Digest.of(name.encode()), name)


def base(*names: str) -> LockedBase:
    layers = tuple(BaseLayer("", Digest.of(n.encode()), 1, Digest.of(n.encode())) for n in names)
    return LockedBase("os:1", Digest.of(b"base"), "", None, layers)


ONE = Picture(
    "one", "linux-64", Digest.of(b"one"), (layer("os"), layer("a")), {"variable A": "1"},
    (package("conda", "a", "1", "0"),), unknown=("one: hashes",),
)  # fmt: skip


def test_one_image_is_the_same_whatever_is_not_known() -> None:
    found = compare_pictures(ONE, replace(ONE, title="two", settings=None, packages=None))
    assert (found.same_image, found.is_empty, found.unknown) == (True, True, ())
    why = explain_pictures(ONE, ONE)
    assert (why.image.same, why.image.inputs) == (True, ())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"packages": (package("conda", "a", "2", "0"),)}, ["conda a"]),
        ({"settings": {"variable A": "2", "user": "1"}}, ["user", "variable A"]),
        ({"layers": (layer("os"), layer("b"))}, ["layer", "layer"]),
        ({"layers": (layer("a"), layer("os"))}, ["order of layers"]),
        ({"layers": (layer("os", "z"), layer("a"))}, ["compression of 1 layer"]),
        ({"created": "2026"}, ["time of making or history"]),
        ({"packages": (), "layers": (layer("os"),)}, ["conda a"]),
    ],
)
def test_the_smallest_set_of_parts(change: dict[str, object], names: list[str]) -> None:
    other = replace(ONE, image=Digest.of(b"two"), **change)  # type: ignore[arg-type]
    assert [item.name for item in explain_pictures(ONE, other).image.inputs] == names


def test_the_base_is_told_by_the_layers_where_only_one_names_it() -> None:
    known = replace(ONE, image=Digest.of(b"two"), base=base("os"))
    assert compare_pictures(known, ONE).same_base is True
    assert compare_pictures(ONE, known).same_base is True
    assert compare_pictures(replace(known, base=base("other")), ONE).same_base is None
    assert compare_pictures(ONE, ONE).same_base is None


def test_hashes_tell_only_where_both_have_them() -> None:
    exact = replace(package("conda", "a", "1", "0"), sha256=Digest.of(b"bytes"), channel="c")
    locked = replace(ONE, packages=(exact,), exact=True)
    assert compare_pictures(locked, ONE).packages == ()
    other = replace(locked, packages=(replace(exact, sha256=Digest.of(b"others")),))
    assert len(compare_pictures(locked, other).packages) == 1
    lost = replace(ONE, layers=None, settings=None, image=None)
    assert compare_pictures(locked, lost).cost() is None
    assert compare_pictures(locked, lost).is_empty


def config(*created_by: str) -> ImageConfig:
    history = [{"created_by": text} for text in created_by]
    return ImageConfig(Platform("linux", "amd64"), (), {"history": history})


def test_packages_of_a_history() -> None:
    ours = ("envgraph: /opt/env", "envgraph: a 1 0, b 2 h_1", "envgraph: entrypoint")
    found, later = packages_of_history(config("base", *ours))
    assert found is not None
    assert [(p.manager, p.name, p.version, p.build) for p in found] == [
        ("conda", "a", "1", "0"), ("conda", "b", "2", "h_1")
    ]  # fmt: skip
    assert later is False
    assert packages_of_history(config(*ours, "RUN true")) == (found, True)
    [pip], _ = packages_of_history(config("envgraph: /opt/env", "envgraph: w 1.0"))  # type: ignore[misc]
    assert (pip.manager, pip.name) == ("pip", "w")
    assert packages_of_history(config("base"))[0] is None
    assert packages_of_history(config("envgraph: /x", "envgraph: a b c d"))[0] is None
    twice = packages_of_history(config(*ours, "envgraph: /opt/env", "envgraph: c 3 0"))[0]
    assert twice is not None
    assert [p.name for p in twice] == ["c"]


@pytest.mark.parametrize("value", [1, "x", [1, None], {"a": {}}, True, [["a"]]])
def test_values_of_another_kind_are_shown_as_they_are(value: object) -> None:
    names = ("Env", "Labels", "Entrypoint", "ExposedPorts", "Volumes", "User", "Healthcheck")
    document = {"config": dict.fromkeys(names, value)}
    found = picture_settings(ImageConfig(Platform("linux", "amd64"), (), document))
    other = replace(ONE, image=Digest.of(b"two"), settings=found)
    assert explain_pictures(ONE, other).to_json()["image"]["inputs"]


def test_a_conda_package_of_python_is_counted_once() -> None:
    found = [package("conda", "ruamel.yaml", "1", "0"), package("pip", "ruamel-yaml", "1"),
             package("pip", "other", "1")]  # fmt: skip
    assert [p.manager for p in without_conda_twins(found)] == ["conda", "pip"]


@pytest.mark.parametrize(
    ("text", "is_image"),
    [
        ("127.0.0.1:5000/ml/x:1", True), ("localhost/x", True), ("docker://python:3.12", True),
        ("ghcr.io/a/b@sha256:" + "0" * 64, True), ("a/b", False), ("train:1", False),
        ("../x/y", False), ("./x", False), ("azureml:train:1", False), ("AB/c", False),
        ("azureml://registries/r/environments/n", False), ("/subscriptions/s", False),
        ("a.b/", False), ("a.b/X", False),
    ],
)  # fmt: skip
def test_what_names_an_image_in_a_registry(text: str, is_image: bool) -> None:
    assert is_registry_image(text) is is_image
