"""``build:`` of an environment file: a Docker build context, here or at an address."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from envgraph.errors import EnvgraphError
from envgraph.model.spec import BuildSpec
from envgraph.spec import paths
from envgraph.spec.build_arguments import read_arguments, warn_unused
from envgraph.spec.context_address import BadContextError, parse_context
from envgraph.spec.nodes import MapNode, Node
from envgraph.spec.problems import Problems, place, quoted
from envgraph.spec.reading import Reading
from envgraph.spec.templates import is_unfilled

if TYPE_CHECKING:
    from envgraph.spec.tree import Tree

_DOCKERFILE: Final = re.compile(
    r"(?i)\A(?:docker|container)file(?![a-z0-9._-]*ignore\Z)|\.dockerfile\Z"
)
BUILD: Final = frozenset({"path", "dockerfile_path", "args"})
_WRITE: Final = "write https://HOST/REPOSITORY.git#REF:FOLDER, or an archive's address"


def read_build(root: MapNode, reading: Reading, file: str, folder: str) -> BuildSpec | None:
    """The build context of an environment; problems go to ``reading``.

    Of one at an address nothing is read: that is done when it is locked.
    """
    node = reading.mapping(root.get("build"), file, "build")
    if node is None:
        return None
    reading.check_keys(node, BUILD, file, "build")
    path = reading.text(node, "path", file)
    dockerfile = reading.text(node, "dockerfile_path", file) or "Dockerfile"
    arguments, proxies = read_arguments(node, file, reading.problems)
    if path is None:
        if node.get("path") is None:
            reading.problems.add("no-build-path", "build needs a path", place(file, node),
                                 hint="add `path: context`")  # fmt: skip
        return None
    source = place(file, node.get("path"))
    build = BuildSpec(path, dockerfile, None, source, arguments=arguments, proxies=proxies)
    if is_unfilled(path + dockerfile):
        return build
    dockerfile = os.path.normpath(dockerfile)
    if paths.is_absolute(dockerfile) or dockerfile.startswith(".."):
        reading.problems.add(
            "dockerfile-outside", f"the Dockerfile {quoted(dockerfile)} is outside of the context",
            place(file, node.get("dockerfile_path")),
            hint="move it into the context, or let `path` name a folder that holds both",
        )  # fmt: skip
        return None
    local = paths.joined(folder, path)
    if not paths.is_folder(local):
        try:
            address = parse_context(path)
        except BadContextError as error:
            reading.problems.add("context-address", f"build.path {quoted(path)}: {error}", source,
                                 hint=error.hint or _WRITE)  # fmt: skip
            return None
        if address is not None:
            if path.rstrip().endswith("/") and not path.startswith(("git", "ssh:", "file:")):
                reading.problems.warn(
                    "remote-context", f"the build context {quoted(path)} is a folder of a server,"
                    " and only an archive or a git repository can be read there", source,
                    hint="download it beside this file, and name the folder",
                )  # fmt: skip
            return replace(build, dockerfile_path=dockerfile)
    return _local(replace(build, dockerfile_path=dockerfile, folder=paths.absolute(local)), local,
                  node.get("dockerfile_path") or node.get("path"), reading, file)  # fmt: skip


def _local(
    build: BuildSpec, folder: str, named: Node | None, reading: Reading, file: str
) -> BuildSpec | None:
    """A folder of this machine: its tree, and what its Dockerfile names."""
    from envgraph.spec.tree import context_tree

    dockerfile = build.dockerfile_path
    reading.note_input(folder)
    try:
        tree = context_tree(folder, dockerfile)
    except EnvgraphError as error:
        reading.problems.take(error, build.source)
        return None
    for path_read in tree.inputs():
        reading.note_input(path_read)
    build = replace(build, tree=tree.digest)
    if not any(e.path == dockerfile and e.kind != "folder" for e in tree.entries):
        reading.problems.add(
            "missing-dockerfile", f"there is no {dockerfile} in {build.path}", place(file, named),
            hint=_near_dockerfiles(tree),
        )  # fmt: skip
        return build
    path = paths.joined(folder, dockerfile)
    data = reading.read(path, build.source, "build.dockerfile_path")
    if data is None:
        return build
    problems = Problems()
    try:
        found = with_dockerfile(build, data, path, problems)
    except EnvgraphError as error:
        reading.problems.take(error, build.source)
        return build
    for item in problems.result():
        reading.problems.add(item.code, item.summary, item.source, hint=item.hint,
                             detail=item.detail, severity=item.severity)  # fmt: skip
    return found


def with_dockerfile(build: BuildSpec, data: bytes, file: str, problems: Problems) -> BuildSpec:
    """The same with what its Dockerfile names: images, base, secrets, platforms.

    Arguments are put in; one that nothing takes is a warning at ``build.path``. Raises
    EnvgraphError where Dockerfiles cannot be read at all.
    """
    from envgraph.spec.dockerfile import read_dockerfile

    facts = read_dockerfile(data, file, problems, build.arguments)
    if facts is None:
        return build
    warn_unused(build.arguments, facts.arguments, build.dockerfile_path, problems, build.source)
    return replace(build, images=facts.images, base=facts.base, secrets=facts.secrets,
                   platforms=facts.platforms)  # fmt: skip


def _near_dockerfiles(tree: Tree) -> str:
    """What in the context is called like a Dockerfile, as a hint."""
    found = [
        entry.path
        for entry in tree.entries
        if entry.kind == "file" and _DOCKERFILE.search(entry.path.rpartition("/")[2])
    ]
    if found:
        others = f" (there are {', '.join(sorted(found)[1:5])} too)" if len(found) > 1 else ""
        return f"write `dockerfile_path: {min(found)}`{others}"
    return "`dockerfile_path` starts at the folder that `path` names"
