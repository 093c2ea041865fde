"""The solve contract: what besides the definition decides what a solve answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from envgraph.conda import credentials
from envgraph.conda.channels import names_own_channels
from envgraph.model.config import DEFAULT_VIRTUAL_PACKAGES, WorkspaceConfig
from envgraph.model.identity import SolveContract, pin_key
from envgraph.model.spec import CondaSpec, EnvironmentSpec
from envgraph_store.digest import Digest

_OTHER_DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "osx": {"__unix": "0", "__osx": "11.0"},
    "win": {"__win": "10"},
}


def virtual_packages(config: WorkspaceConfig, platform: str) -> dict[str, str]:
    """The whole set to solve for on ``platform``: the workspace's, else defaults.

    Never what this machine has; ``CONDA_OVERRIDE_*`` is not read.
    """
    given = config.virtual_packages.get(platform)
    if given is not None:
        return dict(given)
    system = platform.partition("-")[0]
    return dict(_OTHER_DEFAULTS.get(system, DEFAULT_VIRTUAL_PACKAGES))


def solve_contract(spec: EnvironmentSpec, platform: str, config: WorkspaceConfig) -> SolveContract:
    """The contract of one environment on one platform; pure, imports no solver."""
    conda = spec.conda or CondaSpec()
    packages = []
    for name, text in sorted(virtual_packages(config, platform).items()):
        version, _, build = text.partition("=")
        packages.append((name, f"{version}={build or '0'}"))
    return SolveContract(
        virtual_packages=tuple(packages),
        channel_priority="strict",
        default_channels=() if names_own_channels(conda) else tuple(config.default_channels),
        pip_indexes=tuple(credentials.clean(index) for index in config.pip_indexes)
        if conda.pip
        else (),
        options=(),
    )


def pin_key_of(
    spec: EnvironmentSpec, platform: str, config: WorkspaceConfig, definition: Digest
) -> Digest:
    """The pin key of ``definition`` on ``platform`` in this workspace."""
    return pin_key(definition, platform, solve_contract(spec, platform, config))
