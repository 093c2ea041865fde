"""What every builder must do, as tests: first-party, fake or foreign.

Subclass it in a test module, and give the fixture ``builder``::

    from envgraph.testing.builder.contract import BuilderContract

    class TestMine(BuilderContract):
        @pytest.fixture
        def builder(self, tmp_path):
            with open_mine(MineOptions(), PluginContext(str(tmp_path), lambda *_: None, {})) as it:
                yield it

One builder may serve all tests. What it says that it cannot do (:meth:`Builder.capabilities`)
must be refused with ``builder-lacks``, and the contract tries that.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "envgraph.testing.builder.contract_base",
    "envgraph.testing.builder.contract_failures",
    "envgraph.testing.builder.contract_files",
    "envgraph.testing.builder.contract_known",
    "envgraph.testing.builder.contract_runs",
)

from envgraph.testing.builder.contract_failures import FailureContract  # noqa: E402
from envgraph.testing.builder.contract_files import FileContract  # noqa: E402
from envgraph.testing.builder.contract_known import KnownContract  # noqa: E402
from envgraph.testing.builder.contract_runs import RunContract  # noqa: E402

__all__ = ["BuilderContract"]


class BuilderContract(FileContract, RunContract, FailureContract, KnownContract):
    """All of it."""
