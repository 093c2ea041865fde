"""How an environment is named in jobs, deployments and on the command line.

The forms are Azure ML's (``azureml:NAME:VERSION``, ``@LABEL``, ARM ids, registry
addresses), the bare ones of the command line, and the digest of a definition or image, or
its beginning. A version may hold colons; a name may not, so the first colon after it splits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from envgraph.model.names import name_problem, version_problem
from envgraph_store.digest import Digest, DigestError

_REGISTRY: Final = re.compile(
    r"azureml://registries/(?P<registry>[^/]+)/environments/(?P<name>[^/]+)"
    r"(?:/(?P<kind>versions|labels)/(?P<value>[^/]+))?/?",
    re.IGNORECASE,
)
_ARM: Final = re.compile(
    r"(?:azureml:)?/subscriptions/[^/]+/resourceGroups/[^/]+/providers/"
    r"Microsoft\.MachineLearningServices/workspaces/(?P<workspace>[^/]+)/environments/"
    r"(?P<name>[^/]+)(?:/(?P<kind>versions|labels)/(?P<value>[^/]+))?/?",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(r"sha256:([0-9a-f]{7,63})")
_OTHER_ASSET: Final = re.compile(
    r"azureml://.*/(?P<kind>models|components|data|datastores|codes|jobs)(?:/|$)", re.IGNORECASE
)


class BadEnvironmentReferenceError(ValueError):
    """The text names no environment; the message says why."""


@dataclass(frozen=True, slots=True)
class EnvironmentReference:
    """What a reference says. ``version`` and ``label`` are never both there.

    ``registry`` is empty for this workspace, and so is ``workspace`` unless the reference
    names one (an ARM id does). ``definition`` is set for a digest, ``beginning`` (hex) for
    the first 7 or more digits of one, and then ``name`` is empty. Without version and
    label, the latest version is meant.
    """

    name: str
    version: str | None = None
    label: str | None = None
    registry: str = ""
    definition: Digest | None = None
    workspace: str = field(default="", compare=False)
    beginning: str = ""

    def is_of_another(self, workspace: str) -> bool:
        """It names a workspace, and not this one."""
        return bool(self.workspace) and self.workspace.lower() != workspace.lower()

    def __str__(self) -> str:
        if self.beginning:
            return f"sha256:{self.beginning}"
        if self.definition is not None:
            return str(self.definition)
        head = f"azureml://registries/{self.registry}/environments/" if self.registry else ""
        if self.version is not None:
            return f"{head}{self.name}" + (
                f"/versions/{self.version}" if head else f":{self.version}"
            )
        if self.label is not None:
            return f"{head}{self.name}" + (f"/labels/{self.label}" if head else f"@{self.label}")
        return f"{head}{self.name}"


def parse_environment_reference(text: str) -> EnvironmentReference:
    """Read any form; BadEnvironmentReferenceError says what is wrong.

    >>> str(parse_environment_reference("azureml:ubuntu:18.04:2022"))
    'ubuntu:18.04:2022'
    >>> parse_environment_reference("azureml:train@latest").label
    'latest'
    """
    text = text.strip()
    if text.startswith("sha256:"):
        beginning = _PREFIX.fullmatch(text)
        if beginning is not None:
            return EnvironmentReference("", beginning=beginning[1])
        try:
            return EnvironmentReference("", definition=Digest(text))
        except DigestError as error:
            raise BadEnvironmentReferenceError(str(error)) from None
    match = _REGISTRY.fullmatch(text) or _ARM.fullmatch(text)
    if match is not None:
        return _checked(
            match["name"],
            match["value"] if match["kind"] and match["kind"].lower() == "versions" else None,
            match["value"] if match["kind"] and match["kind"].lower() == "labels" else None,
            match.groupdict().get("registry") or "",
            match.groupdict().get("workspace") or "",
        )
    other = _OTHER_ASSET.match(text)
    if other is not None:
        raise BadEnvironmentReferenceError(f"it names {other['kind']}, not an environment")
    if "://" in text or text.startswith(("/", "azureml:/")):
        raise BadEnvironmentReferenceError("no address of an environment looks like this")
    return _short(text[8:] if text[:8].lower() == "azureml:" else text)


def _short(text: str) -> EnvironmentReference:
    name, colon, version = text.partition(":")
    if "@" in name:
        name, _, label = text.partition("@")
        return _checked(name, None, label)
    return _checked(name, version if colon else None, None)


def _checked(
    name: str, version: str | None, label: str | None, registry: str = "", workspace: str = ""
) -> EnvironmentReference:
    problem = name_problem(name)
    if problem is None and version is not None:
        problem = version_problem(version)
    if problem is None and label is not None:
        problem = name_problem(label)
        problem = problem and problem.replace("a name", "a label", 1)
    if problem is not None:
        raise BadEnvironmentReferenceError(problem)
    return EnvironmentReference(name, version, label, registry, workspace=workspace)
