"""Plugins that fail in every way: named, isolated, and told all at once."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from envgraph.api import Credentials, PluginContext
from envgraph.errors import InputError, PlatformError
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.plugins import GROUP, Plugins, options_of
from envgraph.registry.remotes import Remotes
from tests.distributions import GOOD, distribution

Load = Callable[..., Plugins]
NUMBERS = itertools.count()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """``load(source, …)``: the plugins of distributions with these modules, one each."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def loaded(*sources: str) -> Plugins:
        for source in sources:
            distribution(tmp_path, f"plugin_{next(NUMBERS)}", source)
        found = [
            entry
            for each in distributions(path=[str(tmp_path)])
            for entry in each.entry_points
            if entry.group == GROUP
        ]
        return Plugins(found)

    yield loaded
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


def changed(*changes: tuple[str, str]) -> str:
    source = GOOD
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


def provider(**options: object) -> Provider:
    return Provider("shelf", options)


def test_a_good_plugin_is_found_with_its_distribution(load: Load) -> None:
    plugins = load(GOOD)
    (found,) = plugins.found
    assert found.title == f"{found.name} ({found.name} 1.0)"
    assert found.registries == ("shelf",)
    assert found.hooks == ("envgraph_registries",)
    assert found.problems == ()
    assert plugins.diagnostics == ()
    plugin = plugins.registry("shelf")
    context = PluginContext("/", plugins.credentials, {})
    options = options_of(plugin, provider(shelf="top"), "registry")
    with plugin.open(options, context) as registry:
        assert registry.title == "top"


IMPORTS = [
    ("import nothing_of_that_name", "ModuleNotFoundError"),
    ("1 / 0", "ZeroDivisionError"),
    ("def f(:", "SyntaxError"),
    ("import sys; sys.exit(0)", "SystemExit: 0"),
    ("import sys; sys.exit('bye')", "SystemExit: bye"),
    ("raise GeneratorExit", "GeneratorExit"),
    ("class Odd(BaseException): pass\nraise Odd('x')", "Odd: x"),
    ("raise MemoryError", "MemoryError"),
    ("def f(): f()\nf()", "RecursionError"),
]
OFFERS = [
    ("envgraph_registries = 3", "TypeError"),
    ("def envgraph_registries(): return 3", "TypeError"),
    ("def envgraph_registries(): return None", "TypeError"),
    ("def envgraph_registries(): raise KeyError('x')", "KeyError"),
    ("def envgraph_registries(): raise SystemExit(3)", "SystemExit: 3"),
    ("def envgraph_registries():\n    yield 1\n    raise OSError('half')", "OSError: half"),
    ("def envgraph_registries(needs): return ()", "TypeError"),
    (
        "from envgraph.api import hookimpl\n@hookimpl\ndef envgraph_registry(): ...",
        "unknown hook 'envgraph_registry'",
    ),
    (
        "from envgraph.api import hookimpl\n@hookimpl\ndef envgraph_credentials(password): ...",
        "password",
    ),
    ("def envgraph_registries():\n    while True: yield 5", "yields int"),
]


@pytest.mark.parametrize(("source", "reason"), IMPORTS + OFFERS)
def test_a_broken_plugin_is_named_and_does_no_harm(load: Load, source: str, reason: str) -> None:
    plugins = load(source, GOOD)
    broken = next(found for found in plugins.found if found.problems)
    assert reason in broken.problems[0]
    assert "\n" not in broken.problems[0]
    (warning,) = plugins.diagnostics
    assert warning.severity == "warning"
    assert broken.distribution in warning.summary
    assert plugins.registry("shelf").name == "shelf"
    assert plugins.credentials("example.org") is None
    with pytest.raises(PlatformError) as caught:
        plugins.registry("other")
    said = caught.value.diagnostics[0]
    assert said.code == "no-plugin"
    assert broken.title in said.detail
    assert "shelf" in said.hint


def test_who_presses_ctrl_c_ends_envgraph(load: Load) -> None:
    with pytest.raises(KeyboardInterrupt):
        load("raise KeyboardInterrupt")


def test_what_a_plugin_prints_is_kept_apart(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    plugins = load("print('hello')\n" + GOOD, "import sys\nprint('bye')\nsys.exit()")
    assert capsys.readouterr().out == ""
    assert sorted(found.printed for found in plugins.found) == ["bye\n", "hello\n"]


WRONG = [
    (('"shelf", "images', '"Shelf!", "images'), "named 'Shelf!'"),
    (('"shelf", "images', '5, "images'), "named '5'"),
    (('"images on a shelf"', '" "'), "no summary"),
    (("open_shelf)", "'open')"), "`open` cannot be called"),
    (("open_shelf)", "open_shelf, connects=True)"), "`connects` cannot be called"),
    (("open_shelf)", "open_shelf, for_host=1)"), "`for_host` cannot be called"),
    (("open_shelf)", "open_shelf, api_version=2)"), "for version 2 of envgraph.api"),
    (("Options, open", "dict, open"), "no dataclass"),
    (("Options, open", "Options('x'), open"), "no dataclass"),
    (("frozen=True", "frozen=False"), "not frozen"),
    (("rows: int", "rows: float"), "`rows`"),
    (("rows: int", "rows: list[str]"), "`rows`"),
    (("rows: int", "rows: int | str"), "`rows`"),
    (("rows: int", "rows: 'Nowhere'"), "cannot be read"),
    (("rows: int", "type: int"), "`type`"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG)
def test_a_wrong_descriptor_is_told_before_it_is_needed(
    load: Load, change: tuple[str, str], reason: str
) -> None:
    plugins = load(changed(change))
    (problem,) = plugins.found[0].problems
    assert reason in problem
    assert plugins.registries == {}


def test_every_fault_of_a_plugin_is_told_and_the_rest_is_used(load: Load) -> None:
    source = changed(("frozen=True", "frozen=False"), ("rows: int", "rows: float"))
    more = """
    yield "no plugin"
    yield RegistryPlugin("old", "an old one", Fine, open_shelf, api_version=0)
    yield RegistryPlugin("fine", "a good one", Fine, open_shelf)

@dataclass(frozen=True)
class Fine:
    pass
"""
    plugins = load(source + more)
    (found,) = plugins.found
    assert len(found.problems) == 4
    assert found.registries == ("fine",)
    assert list(plugins.registries) == ["fine"]
    assert len(plugins.diagnostics) == 1


def test_a_clash_names_both_and_only_when_it_matters(load: Load) -> None:
    plugins = load(GOOD, GOOD)
    with pytest.raises(PlatformError) as caught:
        plugins.registry("shelf")
    said = caught.value.diagnostics[0]
    assert said.code == "plugin-clash"
    for found in plugins.found:
        assert found.title in said.summary
        assert found.problems == ()


# -- options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"shelf": "top"}, ("top", 3, False, (), None)),
        (
            {"shelf": 7, "rows": 4, "dusty": True, "labels": ["a", 5], "owner": "me"},
            ("7", 4, True, ("a", "5"), "me"),
        ),
        ({"shelf": "x", "owner": None, "labels": []}, ("x", 3, False, (), None)),
    ],
)
def test_options_become_the_dataclass(
    load: Load, options: dict[str, object], expected: tuple[object, ...]
) -> None:
    made = options_of(load(GOOD).registry("shelf"), provider(**options), "registry")
    assert (made.shelf, made.rows, made.dusty, made.labels, made.owner) == expected


def test_all_wrong_options_are_told_at_once(load: Load) -> None:
    wrong = provider(row=1, rows="many", dusty="yes", labels="a", owner=[], colour="red")
    with pytest.raises(InputError) as caught:
        options_of(load(GOOD).registry("shelf"), wrong, "registries.top")
    said = {d.summary: d.hint for d in caught.value.diagnostics}
    assert said == {
        "registries.top has no option 'row'": "did you mean 'rows'?",
        "registries.top.rows must be a whole number": "",
        "registries.top.dusty must be true or false": "",
        "registries.top.labels must be a list of text": "",
        "registries.top.owner must be text": "",
        "registries.top has no option 'colour'": "known are shelf, rows, dusty, labels, owner",
        "registries.top needs 'shelf'": "write `shelf:` beside `type:`",
    }


@pytest.mark.parametrize("value", [True, 1.5, [], {}, None])
def test_text_is_text_or_a_whole_number(load: Load, value: object) -> None:
    with pytest.raises(InputError, match="shelf must be text"):
        options_of(load(GOOD).registry("shelf"), provider(shelf=value), "registry")


def test_a_dataclass_may_check_for_itself(load: Load) -> None:
    check = "    def __post_init__(self):\n        raise ValueError('too high')\n\n@contextmanager"
    plugins = load(changed(("@contextmanager", check)))
    with pytest.raises(InputError, match="registry: too high"):
        options_of(plugins.registry("shelf"), provider(shelf="x"), "registry")


# -- plugins that fail when they are used


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyError('x')", "GeneratorExit()"])
def test_a_plugin_that_ends_while_it_opens_is_an_error(load: Load, error: str) -> None:
    plugins = load(changed(("    yield MemoryRegistry(options.shelf)", f"    raise {error}")))
    config = WorkspaceConfig("w", "1", "/", registry=provider(shelf="x"))
    with Remotes(config, plugins=plugins) as remotes, pytest.raises(PlatformError) as caught:
        remotes.workspace()
    assert "a registry of type shelf cannot be opened" in caught.value.diagnostics[0].summary


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyError('x')"])
def test_a_credentials_hook_that_ends_is_an_error(load: Load, error: str) -> None:
    source = (
        "from envgraph.api import hookimpl\n@hookimpl\ndef envgraph_credentials(host, scope):\n"
    )
    with pytest.raises(PlatformError, match="envgraph_credentials"):
        load(f"{source}    raise {error}").credentials("example.org")


def test_the_first_login_counts_and_nonsense_does_not(load: Load) -> None:
    source = "from envgraph.api import *\n@hookimpl\ndef envgraph_credentials(host, scope):\n"
    plugins = load(f"{source}    return Credentials('me', host, scope)")
    assert plugins.credentials("example.org", "x") == Credentials("me", "example.org", "x")
    assert load(f"{source}    return 'secret'").credentials("example.org") is None
