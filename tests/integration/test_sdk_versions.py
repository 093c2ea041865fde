"""What a script does with versions that it fetched: list many, describe, delete."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from envgraph import EnvironmentVersion, Workspace
from envgraph.errors import InputError, NotFoundError, UsageError
from envgraph.sdk import html
from envgraph.sdk.values import EnvironmentList, PackageList
from envgraph_store.area import Area
from envgraph_store.digest import Digest
from tests.integration.test_sdk import Make, folder, make, ws  # noqa: F401


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Digest]:
    """Every blob that is read, in order."""
    found: list[Digest] = []
    whole = Area.read

    def watched(self: Area, digest: Digest, **more: object) -> bytes:
        found.append(digest)
        return whole(self, digest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Area, "read", watched)
    return found


def test_a_list_reads_no_records(
    ws: Workspace, make: Make, read: list[Digest]  # noqa: F811
) -> None:  # fmt: skip
    made = [ws.environments.create_or_update(make(name, "beta")) for name in ("one", "two")]
    read.clear()
    listed = ws.environments.list()
    assert [(v.reference, v.labels, v.lock, v.image) for v in listed] == [
        (v.reference, ("latest",), v.lock, v.image) for v in made
    ]
    assert read == []
    assert listed == tuple(ws.environments.get(v.name) for v in listed)
    read.clear()
    assert listed[0].images == {"linux-64": made[0].image}
    assert (listed[0].parent, listed[0].properties, listed[0].changed) == (None, {}, ())
    assert len(read) == 2, "its state and its record, once"
    assert [p.name for p in listed[1].packages] == [p.name for p in made[1].packages]


def test_a_listed_version_goes_to_other_processes(
    ws: Workspace, make: Make  # noqa: F811
) -> None:  # fmt: skip
    ws.environments.create_or_update(make("train", "beta"))
    [listed] = pickle.loads(pickle.dumps(ws.environments.list()))
    assert isinstance(listed, EnvironmentVersion)
    assert [p.name for p in listed.packages if p.direct] == ["beta"]
    assert listed.images == {"linux-64": listed.image}


def test_a_fetched_version_is_given_back_with_other_tags(
    ws: Workspace, make: Make  # noqa: F811
) -> None:  # fmt: skip
    environments = ws.environments
    environments.create_or_update(make("train", "beta", description="one", tags={"a": "b"}))
    environments.create_or_update(make("train", "alpha"))
    fetched = environments.get("train", version="1")
    changed = dataclasses.replace(fetched, description="two", tags={**fetched.tags, "c": "d"})
    answer = environments.create_or_update(changed)
    assert (answer.version, answer.description, answer.tags) == ("1", "two", {"a": "b", "c": "d"})
    assert environments.get("train", "1") == answer
    assert environments.get("train").version == "2"
    assert environments.create_or_update(answer) == answer
    environments.label("train", 1, "prod")  # a label that moved since is no change of it
    assert environments.create_or_update(answer).labels == ("prod",)
    with pytest.raises(UsageError, match="only its description and tags"):
        environments.create_or_update(dataclasses.replace(fetched, image="sha256:" + "0" * 64))
    with pytest.raises(NotFoundError):
        environments.create_or_update(dataclasses.replace(fetched, version="9"))


def test_a_deleted_version_is_not_found_and_its_number_stays_taken(
    ws: Workspace, make: Make  # noqa: F811
) -> None:  # fmt: skip
    environments = ws.environments
    environments.create_or_update(make("train", "beta"))
    environments.create_or_update(make("train", "alpha"))
    environments.delete("train", 2)
    assert environments.get("train").version == "1"
    with pytest.raises(NotFoundError):
        environments.get("train", 2)
    with pytest.raises(NotFoundError):
        environments.delete("train", 2)
    assert environments.create_or_update(make("train", "gamma")).version == "3"
    with pytest.raises(InputError):
        environments.create_or_update(make("train", "tool", version="2"))


def test_a_notebook_shows_the_first_of_a_long_list(
    ws: Workspace, make: Make, folder: Path  # noqa: F811
) -> None:  # fmt: skip
    made = ws.environments.create_or_update(make("train", "beta"))
    many = EnvironmentList([made] * (html.ROWS + 1_234))
    assert many._repr_html_().count("<tr>") == html.ROWS + 1
    assert many._repr_html_().endswith("<p>and 1,234 more versions</p>")
    packages = PackageList([made.packages[0]] * html.ROWS)
    assert "more" not in packages._repr_html_()
