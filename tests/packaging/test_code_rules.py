"""Rules that hold for every module we ship, read from the source and not from habit.

Each rule has the modules that may break it, with the reason. A rule that nobody breaks any
longer must lose its exception: an unused one fails.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# rule → {path pattern: why it may}
ALLOWED: dict[str, dict[str, str]] = {
    "pickle": {},
    "eval": {
        "envgraph/image/bytecode_worker.py": "compiles a package's sources, and runs none of them",
    },
    "yaml-load": {},
    "print": {
        "envgraph/testing/demo.py": "the demo is a view of its own",
    },
    "exit": {
        "envgraph/cli/main.py": "the one place that decides the exit code",
        "envgraph/conda/linkworker.py": "a process of its own; rattler can crash the usual end",
        "envgraph/testing/demo.py": "a program of its own",
    },
    "threads": {
        "envgraph/apply/executor.py": "the one place with threads",
        "envgraph/conda/linkworker.py": "a process of its own, which watches its parent",
        "envgraph/conda/gateway.py": "one solve, where a notebook already runs a loop",
        "envgraph/testing/builder/contract_failures.py": "a test of several builds at once",
        "envgraph/testing/http.py": "a server for tests",
        "envgraph/testing/loopback.py": "a server for tests",
        "envgraph/testing/registry/contract_crowd.py": "tests of many threads at once",
        "envgraph/testing/registry/scripted.py": "a server for tests",
        "plugins/envgraph_buildkit/agents.py": "carries bytes between a step and an ssh agent",
        "plugins/envgraph_buildkit/dial.py": "carries bytes between grpcio and dockerd's upgrade",
        "plugins/envgraph_buildkit/session.py": "grpcio's server, which BuildKit calls back",
        "plugins/envgraph_buildkit/solve.py": "follows the status while the build is waited for",
    },
}

UNSAFE_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "jsonpickle",
}
UNSAFE_YAML = {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}
UNSAFE_LOADERS = {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader"}
THREAD_MAKERS = {
    "Thread",
    "Timer",
    "ThreadPoolExecutor",
    "ThreadPool",
    "start_new_thread",
    "ThreadingHTTPServer",
    "ThreadingMixIn",
    "ThreadingTCPServer",
    "to_thread",
}


def dotted(node: ast.expr) -> str:
    """``a.b.c`` for a chain of attributes, else an empty text."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def broken_rules(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each rule that the module breaks, with the line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        modules = imported(node)
        if {module.split(".")[0] for module in modules} & UNSAFE_MODULES:
            yield "pickle", line
        if any(module.rsplit(".", 1)[-1] in THREAD_MAKERS for module in modules):
            yield "threads", line
        if any(
            m.startswith("yaml.") and m.split(".")[-1] in UNSAFE_YAML | UNSAFE_LOADERS
            for m in modules
        ):
            yield "yaml-load", line
        if (
            isinstance(node, ast.Name)
            and node.id == "SystemExit"
            and isinstance(node.ctx, ast.Load)
        ):
            yield "exit", line
        if isinstance(node, ast.Attribute):
            name = dotted(node)
            if name in {"sys.exit", "os._exit", "os.abort"}:
                yield "exit", line
            if name.startswith("yaml.") and node.attr in UNSAFE_YAML | UNSAFE_LOADERS:
                yield "yaml-load", line
            if node.attr in THREAD_MAKERS:
                yield "threads", line
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in {"eval", "exec", "compile", "__import__"}:
                yield "eval", line
            if node.func.id == "print":
                yield "print", line
            if node.func.id in {"exit", "quit"}:
                yield "exit", line


@cache
def breaches() -> dict[str, list[str]]:
    """rule → ``path:line`` of every place that breaks it."""
    found: dict[str, list[str]] = {rule: [] for rule in ALLOWED}
    sources = [
        p for folder in ("envgraph", "store", "plugins") for p in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 10
    for path in sources:
        tree = ast.parse(path.read_bytes(), str(path))
        for rule, line in broken_rules(tree):
            found[rule].append(f"{path.relative_to(ROOT).as_posix()}:{line}")
    return found


@pytest.mark.parametrize("rule", ALLOWED)
def test_rule_holds(rule: str) -> None:
    places = breaches()[rule]
    unexpected = [
        place
        for place in places
        if not any(fnmatchcase(place.split(":")[0], pattern) for pattern in ALLOWED[rule])
    ]
    assert unexpected == []


@pytest.mark.parametrize(
    ("rule", "pattern"), [(rule, pattern) for rule, found in ALLOWED.items() for pattern in found]
)
def test_every_exception_is_needed(rule: str, pattern: str) -> None:
    assert any(fnmatchcase(place.split(":")[0], pattern) for place in breaches()[rule])


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("pickle", "import pickle"),
        ("pickle", "from marshal import loads"),
        ("eval", "eval('1')"),
        ("eval", "exec('x = 1')"),
        ("yaml-load", "import yaml\nyaml.load(text, Loader)"),
        ("yaml-load", "from yaml import unsafe_load"),
        ("yaml-load", "yaml.compose(text, Loader=yaml.FullLoader)"),
        ("print", "print('x')"),
        ("exit", "import sys\nsys.exit(1)"),
        ("exit", "raise SystemExit(2)"),
        ("exit", "os._exit(0)"),
        ("threads", "import threading\nthreading.Thread(target=f)"),
        ("threads", "from concurrent.futures import ThreadPoolExecutor"),
        ("threads", "import concurrent.futures\nconcurrent.futures.ThreadPoolExecutor()"),
    ],
)
def test_the_reader_sees_each_breach(rule: str, source: str) -> None:
    assert rule in {found for found, _ in broken_rules(ast.parse(source))}


def test_the_reader_lets_ordinary_code_through() -> None:
    source = (
        "import json, threading, yaml, re\nlock = threading.Lock()\n"
        "json.load(stream)\nyaml.compose(text, Loader=yaml.SafeLoader)\nre.compile('x')\n"
    )
    assert list(broken_rules(ast.parse(source))) == []
