"""What every registry must do, as tests: first-party, fake or foreign.

Subclass it in a test module, and give the fixture ``registry``::

    from envgraph.testing.registry.contract import RegistryContract

    class TestShelf(RegistryContract):
        lists = False  # an ability that this registry does not have

        @pytest.fixture
        def registry(self, tmp_path):
            with open_shelf(ShelfOptions(str(tmp_path)), context(tmp_path)) as registry:
                yield registry

One registry may serve all tests: each uses repositories with names of its own. This is
the one module of envgraph that needs pytest (the extra ``envgraph[testing]``).
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "envgraph.testing.registry.contract_blobs",
    "envgraph.testing.registry.contract_crowd",
    "envgraph.testing.registry.contract_manifests",
    "envgraph.testing.registry.contract_names",
)

from envgraph.testing.registry.contract_blobs import BlobContract  # noqa: E402
from envgraph.testing.registry.contract_crowd import CrowdContract  # noqa: E402
from envgraph.testing.registry.contract_manifests import ManifestContract  # noqa: E402
from envgraph.testing.registry.contract_names import NameContract  # noqa: E402

__all__ = ["RegistryContract"]


class RegistryContract(BlobContract, ManifestContract, NameContract, CrowdContract):
    """All of it. Abilities are class attributes: see :class:`Abilities`."""
