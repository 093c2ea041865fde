"""What to register: an environment and a build context, as a script writes them.

>>> from envgraph import Environment, BuildContext
>>> Environment(name="train", image="python:3.12", conda_file="conda.yml").image
'python:3.12'
>>> Environment(name="serve", build=BuildContext(path="context")).build.dockerfile_path
'Dockerfile'
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from envgraph.sdk import html


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """A folder with a Dockerfile; ``path`` starts at the workspace's folder.

    ``path`` may be an address, too: ``https://host/repo.git#REF:FOLDER``, or an archive.
    ``args`` are the values of the Dockerfile's ``ARG``: no place for secrets.

    >>> BuildContext(path="https://github.com/acme/env.git#main", args={"CUDA": "12.4"}).args
    {'CUDA': '12.4'}
    """

    path: str | os.PathLike[str]
    dockerfile_path: str = "Dockerfile"
    args: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", copy.deepcopy(self.args))


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment to register; the fields are those of an Azure ML environment file.

    Give ``image`` (with ``conda_file`` or not) or ``build``. ``conda_file`` is a path, or
    what would stand in the file. Relative paths start at the workspace's folder. Nothing
    is read or checked before the environment is given to a workspace; then all problems
    come at once, each with its field. Without a ``version`` it is counted up.

    >>> Environment(
    ...     name="train",
    ...     image="scratch",
    ...     conda_file={"channels": ["conda-forge"], "dependencies": ["python=3.12"]},
    ...     environment_variables={"OMP_NUM_THREADS": "1"},
    ...     tags={"team": "fraud"},
    ... ).name
    'train'
    """

    name: str
    version: str | int | None = None
    description: str | None = None
    image: str | None = None
    conda_file: str | os.PathLike[str] | Mapping[str, object] | None = None
    build: BuildContext | None = None
    docker_steps: Sequence[str] | None = None
    environment_variables: Mapping[str, object] | None = None
    inference_config: Mapping[str, object] | None = None
    platforms: Sequence[str] | None = None
    tags: Mapping[str, object] | None = None
    properties: Mapping[str, object] | None = None
    os_type: str | None = None

    def __post_init__(self) -> None:
        for name in _COPIED:
            object.__setattr__(self, name, copy.deepcopy(getattr(self, name)))

    def to_dict(self) -> dict[str, object]:
        """The keys that an environment file would have; what is None is left out."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        if isinstance(self.build, BuildContext):
            given["build"] = {
                "path": self.build.path,
                "dockerfile_path": self.build.dockerfile_path,
            }
            if self.build.args:
                given["build"]["args"] = self.build.args
        return {key: value for key, value in given.items() if value is not None}

    def _repr_html_(self) -> str:
        rows = [(key, html.text_of(value)) for key, value in self.to_dict().items()]
        return html.table(rows, caption="Environment")


_COPIED = (
    "conda_file", "docker_steps", "environment_variables", "inference_config", "platforms",
    "tags", "properties",
)  # fmt: skip
"""Fields whose values may change under us: an Environment keeps what it was made from."""
