"""Text of a lockfile → values, strictly, with all problems and their lines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from envgraph.errors import Diagnostic, InputError, SourceLocation
from envgraph.lock.yamlread import load_yaml
from envgraph.model.addresses import address_problem
from envgraph.model.documents import (
    base_from_document,
    built_from_document,
    package_from_document,
)
from envgraph.model.locked import LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

_TOP: Final = frozenset({"version", "metadata", "package"})
_MOST_PACKAGES: Final = 200_000
_HASHES: Final = {"sha256": 64, "md5": 32}
Where = tuple[str | int, ...]


class _Reader:
    """Collects problems; their lines are looked up only when there are any."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.problems: list[tuple[Where, str, str]] = []

    def wrong(self, where: Where, message: str, code: str = "lock-format") -> None:
        self.problems.append((where, message, code))

    def finish(self) -> None:
        if self.problems:
            marks = _marks(self.text)
            raise InputError(
                Diagnostic(
                    code,
                    f"{'.'.join(map(str, where))}: {message}" if where else message,
                    source=_place(marks, self.file, where),
                    hint="`envgraph lock` writes the file anew",
                )
                for where, message, code in self.problems
            )


def read_document(
    text: str, file: str
) -> tuple[dict[str, Any], dict[str, LockedEnvironment], list[Diagnostic]]:
    """The whole document, the locks that carry envgraph's metadata, and remarks."""
    reader = _Reader(text, file)
    document = load_yaml(text, file)
    if not isinstance(document, dict):
        reader.wrong((), "the file is not a mapping")
        reader.finish()
    version = document.get("version")
    if version != 1 or isinstance(version, bool):
        reader.wrong(("version",), f"version {version!r} is not conda-lock's 1", "lock-version")
        reader.finish()
    for key in sorted(map(str, set(document) - _TOP)):
        reader.wrong((key,), "unknown key")
    metadata = _mapping(reader, document, "metadata", ())
    packages = document.get("package")
    if not isinstance(packages, list) or len(packages) > _MOST_PACKAGES:
        reader.wrong(("package",), "is not a list of packages")
        packages = []
    _check_packages(reader, packages)
    _check_plain(reader, metadata, ("metadata",), depth=0)
    reader.finish()
    custom = metadata.get("custom_metadata") or {}
    platforms = metadata.get("platforms")
    if not isinstance(platforms, list) or not all(isinstance(p, str) for p in platforms):
        reader.wrong(("metadata", "platforms"), "is not a list of platforms")
        platforms = []
    if not isinstance(custom, dict) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in custom.items()
    ):
        reader.wrong(("metadata", "custom_metadata"), "holds something that is not text")
        custom = {}
    reader.finish()
    remarks: list[Diagnostic] = []
    locks: dict[str, LockedEnvironment] = {}
    for platform in platforms:
        head = custom.get(f"envgraph.lock/{platform}")
        if head is None:
            remarks.append(
                Diagnostic(
                    "lock-foreign",
                    f"{file}: {platform} was not locked by envgraph",
                    source=SourceLocation(file),
                    hint="`envgraph import` takes such a file over; `envgraph lock` makes one",
                    severity="warning",
                )
            )
            continue
        lock = _lock(reader, platform, head, packages, custom)
        if lock is not None:
            locks[platform] = lock
    reader.finish()
    return document, locks, remarks


def _mapping(reader: _Reader, parent: Mapping[Any, Any], key: str, where: Where) -> dict[Any, Any]:
    value = parent.get(key)
    if isinstance(value, dict):
        return value
    reader.wrong((*where, key), "is not a mapping")
    return {}


def _check_plain(reader: _Reader, value: object, where: Where, depth: int) -> None:
    """Text, whole numbers, lists and mappings with text keys: nothing else, not deep."""
    if depth > 8:
        reader.wrong(where, "is nested too deeply")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                reader.wrong(where, f"the key {key!r} is not text")
            elif not isinstance(item, str):
                _check_plain(reader, item, (*where, key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if not isinstance(item, str):
                _check_plain(reader, item, (*where, index), depth + 1)
    elif value is not None and not isinstance(value, (str, int)):
        reader.wrong(where, f"{value!r} is not text (quote it)")


def _check_packages(reader: _Reader, packages: Sequence[Any]) -> None:
    seen: set[tuple[str, str, str]] = set()
    for index, package in enumerate(packages):
        where: Where = ("package", index)
        if not isinstance(package, dict):
            reader.wrong(where, "is not a mapping")
            continue
        before = len(reader.problems)
        for key in ("name", "version", "manager", "platform", "url"):
            if not isinstance(package.get(key), str) or not package[key]:
                reader.wrong((*where, key), "is missing or not text (quote it)")
        _check_plain(reader, package, where, depth=0)
        if len(reader.problems) > before:
            continue
        if why := address_problem(package["url"]):
            reader.wrong((*where, "url"), f"is no address: {why}")
        _check_hash(reader, package, where)
        key3 = (package["manager"], package["name"], package["platform"])
        if key3 in seen:
            reader.wrong(where, f"{package['name']} is there twice for {package['platform']}")
        seen.add(key3)


def _check_hash(reader: _Reader, package: Mapping[str, Any], where: Where) -> None:
    hashes = package.get("hash")
    if not isinstance(hashes, dict):
        reader.wrong((*where, "hash"), "is missing")
        return
    for kind, value in hashes.items():
        length = _HASHES.get(kind)
        if length is None or (
            value is not None
            and not (isinstance(value, str) and len(value) == length and _is_hex(value))
        ):
            reader.wrong((*where, "hash", kind), f"is no {kind} in lower-case hexadecimal digits")


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)


def _lock(
    reader: _Reader,
    platform: str,
    head: str,
    packages: Sequence[Mapping[str, Any]],
    custom: Mapping[str, str],
) -> LockedEnvironment | None:
    where: Where = ("metadata", "custom_metadata", f"envgraph.lock/{platform}")
    found = [
        package
        for index, item in enumerate(packages)
        if item["platform"] == platform
        and (package := _package(reader, index, item, platform, custom)) is not None
    ]
    try:
        document = json.loads(head)
        return LockedEnvironment(
            definition=Digest(document["definition"]),
            pin_key=Digest(document["pin_key"]),
            platform=platform,
            base=base_from_document(document["base"]),
            steps=tuple(document["steps"]),
            created=document["created"],
            solver=document["solver"],
            **built_from_document(document),
            packages=tuple(sorted(found, key=lambda p: (p.manager, p.name))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reader.wrong(where, f"is not whole ({type(error).__name__}: {error})")
    return None


def _package(
    reader: _Reader,
    index: int,
    item: Mapping[str, Any],
    platform: str,
    custom: Mapping[str, str],
) -> LockedPackage | None:
    where: Where = ("package", index)
    sha256 = item["hash"].get("sha256")
    if not sha256:
        reader.wrong((*where, "hash"), f"{item['name']} has no sha256", "lock-no-hash")
        return None
    extra = custom.get(f"envgraph.package/{platform}/{item['manager']}/{item['name']}")
    if extra is None:
        reader.wrong(where, f"{item['name']} has no envgraph metadata", "lock-foreign-package")
        return None
    try:
        document = json.loads(extra)
        document |= {
            "manager": item["manager"],
            "name": item["name"],
            "version": item["version"],
            "build": item.get("build") or "",
            "sha256": f"sha256:{sha256}",
            "url": item["url"],
        }
        if item["manager"] == "conda":
            document["md5"] = item["hash"].get("md5") or ""
        package = package_from_document(document)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reader.wrong(where, f"its envgraph metadata is not whole ({type(error).__name__})")
        return None
    if not isinstance(package.size, int) or package.size < 0 or not isinstance(package.subdir, str):
        reader.wrong(where, "its envgraph metadata holds wrong types")
        return None
    return package


def _marks(text: str) -> Any:
    import yaml

    try:
        return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        return None


def _place(root: Any, file: str, where: Where) -> SourceLocation:
    """The nearest marked node on the way to ``where``."""
    import yaml

    node, mark = root, None
    for part in where:
        if isinstance(node, yaml.MappingNode):
            step = next(((k, v) for k, v in node.value if k.value == part), None)
            if step is None:
                break
            mark, node = step[0].start_mark, step[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            mark = node.start_mark
        else:
            break
    if mark is None:
        return SourceLocation(file)
    return SourceLocation(file, mark.line + 1, mark.column + 1)


def place_of(text: str, file: str, where: Where) -> SourceLocation:
    """Line and column of a path such as ``("package", 3, "hash")``."""
    return _place(_marks(text), file, where)
