"""How people write build contexts that are elsewhere, and what of it is refused."""

from __future__ import annotations

import pytest

from envgraph.spec.context_address import (
    ArchiveContext,
    BadContextError,
    GitContext,
    parse_context,
    shown_address,
    submodule_context,
)

GITHUB = "https://github.com/acme/env.git"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{GITHUB}#main:docker", GitContext(GITHUB, "main", "docker")),
        (GITHUB, GitContext(GITHUB)),
        (f"{GITHUB}#", GitContext(GITHUB)),
        (f"{GITHUB}#:/a//./b/", GitContext(GITHUB, "", "a/b")),
        (f"{GITHUB}#feature/x:d", GitContext(GITHUB, "feature/x", "d")),
        (f" {GITHUB}#{'a' * 40} ", GitContext(GITHUB, "a" * 40)),
        ("github.com/acme/env", GitContext(GITHUB)),
        ("github.com/acme/env.git#v1:d", GitContext(GITHUB, "v1", "d")),
        ("git@host:team/env.git#main:d", GitContext("git@host:team/env.git", "main", "d")),
        ("ssh://git@host:2222/env#main", GitContext("ssh://git@host:2222/env", "main")),
        ("git://host/env#main", GitContext("git://host/env", "main")),
        ("HTTPS://host/env.git", GitContext("https://host/env.git")),
        ("git+https://host/env#main", GitContext("https://host/env", "main")),
        ("git+ssh://host/env", GitContext("ssh://host/env")),
        ("git+file:///srv/x.tar", GitContext("file:///srv/x.tar")),
        ("file:///srv/env.git#main:d", GitContext("file:///srv/env.git", "main", "d")),
        ("https://u:${T}@host/x.git", GitContext("https://u:${T}@host/x.git")),
        ("https://host/context.tar.gz", ArchiveContext("https://host/context.tar.gz")),
        ("https://host/c?sig=x", ArchiveContext("https://host/c?sig=x")),
        ("file:///srv/context.tgz", ArchiveContext("file:///srv/context.tgz")),
        ("context", None),
        ("../context", None),
        ("/srv/git@host:x", None),
        ("", None),
    ],
)
def test_what_is_written(text: str, expected: object) -> None:
    assert parse_context(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "ext::sh -c x", "git+ext::x", "git+folder", "azureml://d/x", "ftp://host/x.tar",
        "https://-host/x.git", "ssh://-oProxyCommand=x/y", "git@host:-x", "https:///x.git",
        f"{GITHUB}#--upload-pack=x", f"{GITHUB}#a b", f"{GITHUB}#a..b", f"{GITHUB}#a^b",
        f"{GITHUB}#main:../x", f"{GITHUB}#main:a/../../x", f"{GITHUB}#main:a\\b",
        f"{GITHUB}?ref=x", "https://host/c.tar#main", "file://host/x", "file:x.git//",
        "https://host:port/x.git", "https://ho st/x.git", "https://host/%0ax.git",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    if text.startswith("file:x"):
        assert parse_context(text) is None  # a path
        return
    with pytest.raises(BadContextError):
        parse_context(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:canary@host/x.git#main:d", "https://host/x.git#main:d"),
        ("https://canary@host/x.git", "https://host/x.git"),
        ("git+https://u:canary@host/x#a", "git+https://host/x#a"),
        ("ssh://deploy:canary@host:22/x#a", "ssh://deploy@host:22/x#a"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("git@host:x.git#main", "git@host:x.git#main"),
        ("https://host/c.tar?sv=1&sig=canary", "https://host/c.tar"),
        ("https://u:${T}@host/x.git", "https://host/x.git"),
    ],
)
def test_no_secret_is_shown(text: str, shown: str) -> None:
    assert shown_address(text) == shown


@pytest.mark.parametrize(
    ("url", "above", "expected"),
    [
        ("../c.git", "https://h/a/b.git", "https://h/a/c.git"),
        ("./c.git", "https://h/a/b.git", "https://h/a/b.git/c.git"),
        ("../../d/c.git", "git@h:a/b.git", "git@h:d/c.git"),
        ("../c.git", "https://u:p@h/a/b.git", "https://u:p@h/a/c.git"),
        ("https://other/c", "https://h/b.git", "https://other/c"),
        ("git@other:c", "https://h/b.git", "git@other:c"),
        ("/srv/c", "file:///srv/b", "file:///srv/c"),
        ("../../../c", "https://h/b.git", None),
        ("/srv/c", "https://h/b.git", None),
        ("file:///srv/c", "https://h/b.git", None),
        ("file:///srv/c", "ssh://h/b.git", None),
        ("ext::sh -c x", "https://h/b.git", None),
        ("--upload-pack=x", "https://h/b.git", None),
        ("-x", "file:///b", None),
        ("https://h/c#main", "https://h/b.git", None),
    ],
)
def test_submodules(url: str, above: str, expected: str | None) -> None:
    parent = GitContext(above)
    if expected is None:
        with pytest.raises(BadContextError):
            submodule_context(url, "1" * 40, parent)
        return
    assert submodule_context(url, "1" * 40, parent) == GitContext(expected, "1" * 40)
