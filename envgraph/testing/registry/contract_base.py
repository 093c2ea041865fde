"""What the parts of the contract share: a registry, a fresh repository, abilities."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import ClassVar

import pytest

from envgraph.api import Registry, Repository


class Abilities:
    """The base of every part. A subclass says what its registry cannot do.

    A registry without an ability must say so: it raises RegistryError with the code
    ``registry-unsupported``, and the contract holds it to that.
    """

    lists: ClassVar[bool] = True
    """``Registry.list`` tells the names of repositories."""

    ranges: ClassVar[bool] = True
    """``open_blob`` can begin in the middle."""

    deletes_tags: ClassVar[bool] = True
    """``delete`` removes a tag, and leaves the manifest."""

    deletes_manifests: ClassVar[bool] = True
    """``delete`` removes a manifest by its digest."""

    longest_name: ClassVar[int] = 255
    """Characters of the longest repository name that it takes."""

    many: ClassVar[int] = 120
    """How many tags the test of many tags makes: more than one page, where there are pages."""

    @pytest.fixture
    def registry(self) -> Iterator[Registry]:
        """An open registry; the subclass gives it."""
        raise NotImplementedError("give your class a fixture `registry`")

    @pytest.fixture
    def name(self) -> str:
        """The name of a repository that is nowhere yet."""
        return f"contract/{uuid.uuid4().hex}"

    @pytest.fixture
    def repository(self, registry: Registry, name: str) -> Repository:
        """A repository that is empty."""
        return registry.repository(name)
