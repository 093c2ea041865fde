"""``docker_steps:``: Dockerfile instructions on top of the image, with what they copy."""

from __future__ import annotations

import glob
import json
import os
import re
from typing import Final

from envgraph.errors import EnvgraphError, SourceLocation
from envgraph.model.reference import BadReferenceError, parse_registry_reference
from envgraph.model.spec import CopiedInput, DockerStep, NamedImage
from envgraph.spec import paths
from envgraph.spec.dockerfile import step_images, step_secrets
from envgraph.spec.looks_secret import HINT, secret_names, warning
from envgraph.spec.nodes import ListNode, MapNode, ScalarNode, described
from envgraph.spec.problems import nearest, place, quoted
from envgraph.spec.reading import Reading
from envgraph.spec.templates import has_template
from envgraph_store.digest import Digest

INSTRUCTIONS: Final = frozenset(
    {
        "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL",
        "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
    }
)  # fmt: skip
_MAX_PATH: Final = 4096
_MAX_PARTS: Final = 100
_WORD: Final = re.compile(r"([A-Za-z]+)(?:\s+(.*))?\Z", re.DOTALL)
_FLAG: Final = re.compile(r"--[a-z-]+(?:=\S*)?\s+")


def read_steps(root: MapNode, reading: Reading, file: str, folder: str) -> tuple[DockerStep, ...]:
    """The steps in order; copied files are found below ``folder`` and hashed."""
    node = root.get("docker_steps")
    if node is None:
        return ()
    if not isinstance(node, ListNode):
        reading.problems.add(
            "type", f"docker_steps must be a list, and is {described(node)}", place(file, node)
        )
        return ()
    steps = []
    for item in node.items:
        source = place(file, item)
        if not isinstance(item, ScalarNode) or not item.value.strip():
            reading.problems.add(
                "type", "a docker step is one Dockerfile instruction", source,
                hint="quote a line that holds `: `",
            )  # fmt: skip
            continue
        step = _read_step(item.value.strip(), reading, source, folder)
        if step is not None:
            steps.append(step)
    return tuple(steps)


def _read_step(
    text: str, reading: Reading, source: SourceLocation, folder: str
) -> DockerStep | None:
    if has_template(text):
        return None
    match = _WORD.match(text)
    word = match[1].upper() if match else ""
    if match is None or word not in INSTRUCTIONS:
        hint = nearest(match[1].upper() if match else text[:20], INSTRUCTIONS)
        if word == "FROM":
            hint = "the base is the key `image:`"
        reading.problems.add(
            "docker-step",
            f"{quoted(text)} is no instruction that can stand here",
            source,
            hint=hint,
        )
        return None
    rest = (match[2] or "").strip()
    if not rest:
        reading.problems.add("docker-step", f"{word} needs an argument", source)
        return None
    inputs: tuple[CopiedInput, ...] = ()
    if word in ("COPY", "ADD"):
        inputs = _copied(word, rest, reading, source, folder)
    text = f"{word} {rest}"
    for name in secret_names(text):
        reading.problems.warn("secret-in-image", warning(word, name), source, hint=HINT)
    images = _images(text, reading, source)
    secrets = tuple(step_secrets(text))
    return DockerStep(text, inputs, source, images, secrets, paths.absolute(folder))


def _images(text: str, reading: Reading, source: SourceLocation) -> tuple[NamedImage, ...]:
    """The images that a step reads from; there are no stages here that it could mean."""
    found = []
    for name in step_images(text):
        try:
            found.append(NamedImage(name, str(parse_registry_reference(name)), source))
        except BadReferenceError as error:
            reading.problems.add("image-reference", f"{quoted(name)}: {error}", source)
    return tuple(found)


def _copied(
    word: str, rest: str, reading: Reading, source: SourceLocation, folder: str
) -> tuple[CopiedInput, ...]:
    flags = []
    while flag := _FLAG.match(rest):
        flags.append(flag[0].strip())
        rest = rest[flag.end() :]
    if any(flag.startswith("--from") for flag in flags):
        return ()
    words = _words(rest)
    if len(words) < 2:
        reading.problems.add("docker-step", f"{word} needs a source and a destination", source)
        return ()
    found: dict[str, CopiedInput] = {}
    for pattern in words[:-1]:
        if "<<" in pattern:
            continue
        if re.match(r"(?i)https?://|git@|git://", pattern):
            if word == "ADD" and any(f.startswith("--checksum=") for f in flags):
                continue
            reading.problems.add(
                "unpinned-add", f"what is behind {quoted(pattern)} may change at any time", source,
                hint="download it beside this file, or add --checksum=sha256:…",
            )  # fmt: skip
            continue
        for path in _matches(pattern, folder, reading, source):
            digest = _input_digest(paths.joined(folder, path), reading, source)
            if digest is not None:
                found[path] = CopiedInput(path, digest)
    return tuple(found.values())


def _words(rest: str) -> list[str]:
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except ValueError:
            return []
        return words if isinstance(words, list) and all(isinstance(w, str) for w in words) else []
    return rest.replace("\\\n", " ").split()


def _matches(pattern: str, folder: str, reading: Reading, source: SourceLocation) -> list[str]:
    if len(pattern) > _MAX_PATH or pattern.count("/") > _MAX_PARTS or "\0" in pattern:
        reading.problems.add("docker-step", f"{quoted(pattern)} is no path", source)
        return []
    clean = os.path.normpath(pattern.lstrip("/"))
    if clean == ".." or clean.startswith("../"):
        reading.problems.add(
            "outside-context", f"{quoted(pattern)} is outside of the file's folder", source
        )
        return []
    if glob.has_magic(clean):
        found = sorted(
            glob.glob(clean, root_dir=folder or ".", include_hidden=True)  # noqa: PTH207
        )
    else:
        found = [clean] if paths.present(paths.joined(folder, clean)) else []
    if not found:
        reading.note_input(paths.joined(folder, clean))
        reading.problems.add(
            "missing-file",
            f"there is no {quoted(pattern)} to copy",
            source,
            hint="a path starts at the folder of the file that names it",
        )
    return found


def _input_digest(path: str, reading: Reading, source: SourceLocation) -> Digest | None:
    from pathlib import Path

    from envgraph.spec.ignore import NamedFolders
    from envgraph.spec.tree import TreeEntry, file_digest, read_tree, tree_digest

    reading.note_input(path)
    try:
        if paths.is_folder(path):
            tree = read_tree(Path(path), [NamedFolders()])
            for path_read in tree.inputs():
                reading.note_input(path_read)
            return tree.digest
        executable = bool(Path(path).stat().st_mode & 0o100)
        return tree_digest([TreeEntry("file", "", executable, file_digest(path))])
    except EnvgraphError as error:
        reading.problems.take(error, source)
    except OSError as error:
        reading.problems.add("unreadable-file", f"{path}: {error.strerror}", source)
    return None
