"""Why two versions differ: which inputs of their definition, lock, runtime and image. Pure.

Each of these is taken apart into inputs that can be swapped, and put together again to
compute its key; :mod:`envgraph.diff.deciding` finds the inputs that decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from envgraph.diff.deciding import Explanation, Input, Inputs, deciding
from envgraph.diff.versions import Side, VersionDiff, compare_lines, compare_versions
from envgraph.model.canonical import digest_of
from envgraph.model.identity import DEFINITION_SCHEMA, lock_identity
from envgraph.model.locked import LockedBase, LockedContext, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

# -- the definition ------------------------------------------------------


def definition_inputs(document: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a definition that can be swapped."""
    conda, build = document.get("conda"), document.get("build")
    plain = None if build is None else {k: v for k, v in build.items() if k != "arguments"}
    return {
        "base": document.get("base"),
        "build context": plain,
        **_arguments({} if build is None else build.get("arguments") or {}),
        "docker steps": document.get("steps"),
        "channels": None if conda is None else conda["channels"],
        "conda packages": None if conda is None else conda["dependencies"],
        "pip packages": None if conda is None else conda["pip"],
    }


_ARGUMENT: Final = "build argument "


def _arguments(given: Mapping[str, str]) -> dict[str, str]:
    """The values of a Dockerfile's arguments: each is an input of its own."""
    return {_ARGUMENT + name: value for name, value in given.items()}


def arguments_of(inputs: Inputs) -> dict[str, str]:
    """The inverse: those that are given."""
    return {
        name.removeprefix(_ARGUMENT): value
        for name, value in inputs.items()
        if name.startswith(_ARGUMENT) and value is not None
    }


def definition_key(inputs: Inputs) -> object:
    """The definition's digest, from its parts."""
    build, arguments = inputs["build context"], arguments_of(inputs)
    if build is not None and arguments:
        build = {**build, "arguments": arguments}
    packages, pip = inputs["conda packages"], inputs["pip packages"]
    conda = None
    if packages is not None or pip is not None or inputs["channels"] is not None:
        conda = {"channels": inputs["channels"], "dependencies": packages, "pip": pip}
    return digest_of(
        DEFINITION_SCHEMA,
        {
            "base": inputs["base"],
            "build": build,
            "steps": inputs["docker steps"],
            "conda": conda,
        },
    )


def explain_definition(before: Side, after: Side) -> Explanation:
    """Which parts of the environment files differ."""
    head = ("definition", str(before.definition), str(after.definition))
    if before.definition == after.definition:
        return Explanation(head[0], True, *head[1:])
    if before.definition_document is None or after.definition_document is None:
        unknown = Input("the definition", "not here in full", "not here in full")
        return Explanation(head[0], False, *head[1:], (unknown,))
    one, two = map(definition_inputs, (before.definition_document, after.definition_document))
    names, idle = deciding(one, two, definition_key)
    inputs = tuple(_definition_input(name, one.get(name), two.get(name)) for name in names)
    return Explanation(head[0], False, *head[1:], inputs, idle)


def _definition_input(name: str, before: Any, after: Any) -> Input:
    if not isinstance(before, list | None) or not isinstance(after, list | None):
        return Input(name, _short(before), _short(after))
    lines = compare_lines([_short(i) for i in before or ()], [_short(i) for i in after or ()])
    if lines.added or lines.removed:
        return Input(name, ", ".join(lines.removed) or "-", ", ".join(lines.added) or "-")
    return Input(name, "the same", "in another order" if lines.reordered else "written otherwise")


def _short(value: Any) -> str:
    """A part of a definition as a person would write it."""
    if value is None:
        return "none"
    if isinstance(value, LockedContext):
        commit = f", {value.origin.short}" if value.origin is not None else ""
        return f"{value.dockerfile_path} ({value.tree.hex[:12]}{commit})"
    if isinstance(value, Mapping):
        text = value.get("text") or value.get("instruction") or value.get("dockerfile_path") or ""
        tree = value.get("tree") or value.get("address")
        return f"{text} ({tree})" if tree else str(text)
    return str(value)


# -- the lock ------------------------------------------------------------


def lock_inputs(lock: LockedEnvironment) -> dict[str, Any]:
    """The parts of a lock that can be swapped: base, steps, and each package."""
    order = [(p.manager, p.name) for p in lock.packages]
    return {
        "platform": lock.platform,
        "base": lock.base.manifest,
        "docker steps": list(lock.steps),
        "images of the steps": dict(lock.images),
        "build context": without_arguments(lock.context),
        **_arguments({} if lock.context is None else lock.context.arguments),
        **{f"{p.manager} {p.name}": p for p in map(_bare, lock.packages)},
        "order of packages": None if order == sorted(order) else order,
    }


def without_arguments(context: LockedContext | None) -> LockedContext | None:
    """The context alone; its arguments are inputs of their own."""
    return None if context is None else replace(context, arguments={})


def context_of(inputs: Inputs) -> LockedContext | None:
    """The context and its arguments, from the parts."""
    context: LockedContext | None = inputs["build context"]
    return None if context is None else replace(context, arguments=arguments_of(inputs))


_NOT_READ: Final = Digest.of(b"")
"""For what a lock's identity does not look at."""


def _bare(package: LockedPackage) -> LockedPackage:
    """Without what no identity knows: who asked for it, and where it lies."""
    return replace(package, direct=False, url="")


def lock_key(inputs: Inputs) -> object:
    """The lock's identity, from its parts."""
    lock = LockedEnvironment(
        _NOT_READ,
        _NOT_READ,
        inputs["platform"],
        LockedBase("", inputs["base"]),
        tuple(packages_of(inputs)),
        tuple(inputs["docker steps"]),
        images=inputs["images of the steps"],
        context=context_of(inputs),
    )
    return lock_identity(lock)


def packages_of(inputs: Inputs) -> list[LockedPackage]:
    """The packages among a lock's parts, in the lock's order."""
    found = [item for item in inputs.values() if isinstance(item, LockedPackage)]
    found.sort(key=lambda p: (p.manager, p.name))
    if (order := inputs["order of packages"]) is not None:
        places = {tuple(name): i for i, name in enumerate(order)}
        found.sort(key=lambda p: places.get((p.manager, p.name), len(places)))
    return found


def explain_lock(before: Side, after: Side) -> Explanation:
    """Which base and packages differ."""
    head = ("lock", str(before.lock_identity), str(after.lock_identity))
    if before.lock_identity == after.lock_identity:
        return Explanation(head[0], True, *head[1:])
    one, two = lock_inputs(before.lock), lock_inputs(after.lock)
    names, idle = deciding(one, two, lock_key)
    inputs = tuple(_lock_input(name, one.get(name), two.get(name), before, after) for name in names)
    return Explanation(head[0], False, *head[1:], inputs, idle)


def _lock_input(name: str, before: Any, after: Any, one: Side, two: Side) -> Input:
    if name == "base":
        return Input(name, _base(one.lock), _base(two.lock))
    if name == "images of the steps":
        return Input(name, _images(before), _images(after))
    if isinstance(before, LockedPackage | None) and isinstance(after, LockedPackage | None):
        return Input(
            name,
            "-" if before is None else before.label(after),
            "-" if after is None else after.label(before),
        )
    return Input(name, _short(before), _short(after))


def _images(images: Mapping[str, LockedBase]) -> str:
    return ", ".join(f"{text} ({base.short})" for text, base in images.items()) or "none"


def _base(lock: LockedEnvironment) -> str:
    base = lock.base
    return base.reference if base.is_scratch else f"{base.reference} ({base.short})"


# -- the image -----------------------------------------------------------


def explain_image(
    before: Side, after: Side, one: Inputs, two: Inputs, key: Callable[[Inputs], object]
) -> Explanation:
    """Which of base, packages, runtime and options make another image.

    ``key`` computes an image's key from the parts (:func:`image_inputs`).
    """
    head = ("image", str(before.image), str(after.image))
    if before.image == after.image:
        return Explanation(head[0], True, *head[1:])
    names, idle = deciding(one, two, key)
    if not names:  # equal keys and two images: they were assembled by other tools
        names = ("assembler",)
    inputs = tuple(Input(n, _image_word(n, before), _image_word(n, after)) for n in names)
    return Explanation(head[0], False, *head[1:], inputs, idle)


def image_inputs(side: Side, options: object) -> dict[str, Any]:
    """The parts of an image that can be swapped; ``options`` say how it is assembled."""
    return {
        "base": side.lock.base,
        "packages": tuple(map(_bare, side.lock.packages)),
        "docker steps": tuple(side.lock.steps),
        "images of the steps": dict(side.lock.images),
        "build context": without_arguments(side.lock.context),
        **_arguments({} if side.lock.context is None else side.lock.context.arguments),
        "platform": side.lock.platform,
        "runtime": side.runtime,
        "options": options,
    }


def _image_word(name: str, side: Side) -> str:
    if name == "base":
        return _base(side.lock)
    if name == "packages":
        return _count(len(side.lock.packages), "package")
    context = side.lock.context
    if name == "build context":
        return _short(context)
    if name.startswith(_ARGUMENT):
        given = {} if context is None else context.arguments
        return given.get(name.removeprefix(_ARGUMENT), "none")
    if name == "runtime":
        return "none" if side.runtime is None else side.runtime.hex[:12]
    steps = _count(len(side.lock.steps), "step")
    return {"docker steps": steps, "platform": side.lock.platform}.get(name, "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# -- all of it -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Why:
    """Why two versions differ, and what the second costs beside the first."""

    diff: VersionDiff
    definition: Explanation
    lock: Explanation
    runtime: Explanation | None
    image: Explanation | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The object of ``why --json``."""
        found = self.diff.to_json()
        return {
            "a": found["a"],
            "b": found["b"],
            "platform": found["platform"],
            "definition": self.definition.to_json(),
            "lock": self.lock.to_json(),
            "runtime": None if self.runtime is None else self.runtime.to_json(),
            "image": None if self.image is None else self.image.to_json(),
            "cost": found["layers"],
            "note": self.note,
        }


def explain_runtime(diff: VersionDiff) -> Explanation | None:
    """Which variables and routes differ; None where one side does not say."""
    if diff.same_runtime is None:
        return None
    inputs = tuple(
        Input(f"{what} {item.key}", _short(item.before), _short(item.after))
        for what, items in (("variable", diff.variables), ("route", diff.routes))
        for item in items
    )
    texts = (str(diff.before.runtime), str(diff.after.runtime))
    return Explanation("runtime", diff.same_runtime, *texts, inputs)


def explain(before: Side, after: Side, image: Explanation | None, note: str = "") -> Why:
    """Put the explanations together."""
    diff = compare_versions(before, after)
    return Why(
        diff,
        explain_definition(before, after),
        explain_lock(before, after),
        explain_runtime(diff),
        image,
        note,
    )
