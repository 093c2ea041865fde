"""The image config: from lock, runtime, layers and the base's config to bytes. Pure.

Equal inputs give equal bytes, and nothing but the inputs enters: no clock, no
name of an environment, no reference to where the base came from. What the image
says about itself are labels ``envgraph.*``; the definition is not among them,
because two definitions that resolve to the same packages share one image.

Taken over from the base: user, working directory, ports, volumes, stop signal,
health check, shell, labels, variables, command and entrypoint, author and
history. Dropped: PYTHON* and CONDA_* state of the base's own Python (it must not
leak in), ONBUILD (no Dockerfile is built on it here), and what docker noted about
the container that built it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from envgraph.image.activation import (
    UNSET,
    activated,
    activation_scripts,
    activation_variables,
    wrapper_command,
)
from envgraph.image.content import LayerContent
from envgraph.image.manifest import platform_of
from envgraph.image.options import LayerOptions
from envgraph.model.identity import lock_identity
from envgraph.model.locked import LockedEnvironment
from envgraph.model.oci import document_bytes, problem

EPOCH: Final = "1980-01-01T00:00:00Z"
"""When everything of ours was created: images have no clock."""

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH where the base sets none; what runtimes assume then."""

_KEPT: Final = (
    "User", "ExposedPorts", "Volumes", "WorkingDir", "StopSignal", "StopTimeout",
    "Healthcheck", "Shell", "ArgsEscaped", "Cmd", "Entrypoint", "Labels",
)  # fmt: skip
_DROPPED_ENV: Final = re.compile(
    r"PYTHON.*|VIRTUAL_ENV|CONDA_(PREFIX(_\d+)?|DEFAULT_ENV|SHLVL|PROMPT_MODIFIER|PYTHON_EXE|EXE)"
)


def image_config(
    lock: LockedEnvironment,
    runtime: Mapping[str, Any],
    layers: Sequence[LayerContent],
    base_config: Mapping[str, Any] | None,
    options: LayerOptions,
    titles: Sequence[str] = (),
) -> bytes:
    """The config of an image of ``layers`` on the lock's base, as canonical JSON.

    ``titles``, one for each layer, say in ``docker history`` what a layer holds.
    ``runtime`` is :func:`envgraph.model.identity.runtime_document`'s value;
    ``base_config`` the base's config as read, None on scratch. IntegrityError
    when the base's config is not what the lock says or makes no sense.
    """
    base = dict(base_config or {})
    _check_base(lock, base)
    platform = platform_of(lock.platform)
    document: dict[str, Any] = {
        **{key: base[key] for key in ("author", "os.version", "os.features") if base.get(key)},
        "architecture": platform.architecture,
        "os": platform.os,
        "created": EPOCH,
        "config": _settings(lock, runtime, layers, _object(base, "config"), options),
        "rootfs": {
            "type": "layers",
            "diff_ids": [
                *(str(layer.diff_id) for layer in lock.base.layers),
                *(str(layer.diff_id) for layer in layers),
            ],
        },
        "history": [*_base_history(lock, base), *_our_history(layers, titles)],
    }
    if platform.variant:
        document["variant"] = platform.variant
    try:
        return document_bytes(document)
    except ValueError as error:
        raise _wrong(f"it holds a value that JSON cannot say ({error})") from error


def _settings(
    lock: LockedEnvironment,
    runtime: Mapping[str, Any],
    layers: Sequence[LayerContent],
    base: Mapping[str, Any],
    options: LayerOptions,
) -> dict[str, Any]:
    settings = {key: base[key] for key in _KEPT if base.get(key) not in (None, "", [], {})}
    entrypoint = _words(base, "Entrypoint")
    if activation_scripts(layers):
        names = (package.name for package in lock.packages if package.manager == "conda")
        entrypoint = wrapper_command(options.prefix, names) + entrypoint
    for key, words in (("Entrypoint", entrypoint), ("Cmd", _words(base, "Cmd"))):
        settings.pop(key, None)
        if words:
            settings[key] = words
    settings["Env"] = _environment(lock, runtime, layers, base, options)
    settings["Labels"] = _text_map(base, "Labels") | _labels(lock, runtime)
    return settings


def _environment(
    lock: LockedEnvironment,
    runtime: Mapping[str, Any],
    layers: Sequence[LayerContent],
    base: Mapping[str, Any],
    options: LayerOptions,
) -> list[str]:
    """``NAME=value`` lines: the base's in its order, then ours by name.

    Later sources win: the base, activation, packages, the user. Without packages
    nothing is injected, and the base's Python stays.
    """
    inherited = dict(_variable(line) for line in _words(base, "Env"))
    ours: dict[str, str] = {}
    if lock.packages:
        inherited = {k: v for k, v in inherited.items() if not _DROPPED_ENV.fullmatch(k)}
        ours |= activated(options.prefix)
        ours["PATH"] = f"{options.prefix}/bin:{inherited.get('PATH') or DEFAULT_PATH}"
        ours |= activation_variables(layers)
    ours |= runtime.get("environment_variables") or {}
    merged = inherited | ours
    names = [*inherited, *sorted(ours.keys() - inherited.keys())]
    return [f"{name}={merged[name]}" for name in names if merged[name] != UNSET]


def _labels(lock: LockedEnvironment, runtime: Mapping[str, Any]) -> dict[str, str]:
    labels = {"envgraph.lock": str(lock_identity(lock)), "envgraph.platform": lock.platform}
    if lock.base.manifest is not None:
        labels["envgraph.base"] = str(lock.base.manifest)
    for name, route in (runtime.get("inference_config") or {}).items():
        labels[f"envgraph.inference.{name}"] = f"{route['port']}:{route['path']}"
    return labels


def _our_history(layers: Sequence[LayerContent], titles: Sequence[str]) -> list[dict[str, Any]]:
    named = titles or [""] * len(layers)
    return [
        {
            "created": EPOCH,
            "created_by": f"envgraph: {title}" if title else "envgraph",
            "comment": f"{layer.files} files",
        }
        for layer, title in zip(layers, named, strict=True)
    ]


def _base_history(lock: LockedEnvironment, base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The base's history, or an entry for each of its layers where that does not fit them."""
    history = base.get("history") or []
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise _wrong("history is not a list of objects")
    filled = sum(1 for entry in history if not entry.get("empty_layer"))
    if filled == len(lock.base.layers):
        return [dict(entry) for entry in history]
    return [{"created": EPOCH, "created_by": "base"} for _ in lock.base.layers]


def _check_base(lock: LockedEnvironment, base: Mapping[str, Any]) -> None:
    diff_ids = _object(base, "rootfs").get("diff_ids") or []
    if diff_ids != [str(layer.diff_id) for layer in lock.base.layers]:
        raise _wrong("its layers are not those of the lock")


def _object(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise _wrong(f"{key} is not an object")
    return value


def _words(document: Mapping[str, Any], key: str) -> list[str]:
    """A list of text; docker once wrote a single text for a list of one."""
    value = document.get(key) or []
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _wrong(f"{key} is not a list of text")
    return words


def _text_map(document: Mapping[str, Any], key: str) -> dict[str, str]:
    value = _object(document, key)
    if not all(isinstance(text, str) for text in value.values()):
        raise _wrong(f"{key} is not a map of text")
    return dict(value)


def _variable(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name, value


def _wrong(why: str) -> Exception:
    return problem("the base's config", why)
