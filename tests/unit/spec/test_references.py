"""Every form in which an environment is named."""

from __future__ import annotations

import pytest

from envgraph.spec.references import (
    BadEnvironmentReferenceError,
    EnvironmentReference,
    parse_environment_reference,
)
from envgraph_store.digest import Digest

ARM = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    "/environments/"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", EnvironmentReference("train")),
        ("train:3", EnvironmentReference("train", "3")),
        ("train@latest", EnvironmentReference("train", label="latest")),
        ("azureml:train:3", EnvironmentReference("train", "3")),
        ("azureml:train", EnvironmentReference("train")),
        ("AzureML:train@prod", EnvironmentReference("train", label="prod")),
        ("azureml:ubuntu:18.04:2022", EnvironmentReference("ubuntu", "18.04:2022")),
        (f"azureml:{ARM}n/versions/2", EnvironmentReference("n", "2", workspace="w")),
        (f"{ARM}n/labels/x", EnvironmentReference("n", label="x", workspace="w")),
        ("azureml://registries/r/environments/n/versions/1:2",
         EnvironmentReference("n", "1:2", registry="r")),
        ("azureml://registries/azureml/environments/sklearn-1.5/labels/latest",
         EnvironmentReference("sklearn-1.5", label="latest", registry="azureml")),
        ("azureml://registries/r/environments/n", EnvironmentReference("n", registry="r")),
        ("sha256:" + "a" * 64, EnvironmentReference("", definition=Digest("sha256:" + "a" * 64))),
    ],
)  # fmt: skip
def test_forms(text: str, expected: EnvironmentReference) -> None:
    assert parse_environment_reference(f" {text} ") == expected
    assert parse_environment_reference(str(expected)) == expected
    assert parse_environment_reference(text).workspace == expected.workspace


@pytest.mark.parametrize(
    "text",
    [
        "", ":1", "@latest", "train:", "train@", "azureml:", "a/b", "https://h/x", "sha256:12",
        "azureml://registries/r/models/n/versions/1", "azureml://registries/r/environments/",
        "azureml:/subscriptions/s/environments/n", "train\x00", "train@a@b", "train:a@b",
    ],
)  # fmt: skip
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(BadEnvironmentReferenceError):
        parse_environment_reference(text)
