"""The index that nobody names is uv's, whatever the user's variables say."""

from __future__ import annotations

import pytest

from envgraph.errors import PlatformError
from envgraph.lock import uvtool


def test_uv_says_its_own_default(monkeypatch: pytest.MonkeyPatch) -> None:
    found = uvtool.default_index()
    assert found.startswith("https://")
    assert found.endswith("/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://elsewhere.example/simple")
    monkeypatch.setenv("UV_INDEX_URL", "https://elsewhere.example/simple")
    assert uvtool.default_index() == found


def test_a_uv_that_says_nothing_is_an_error_with_the_way_around(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uvtool.Uv, "executable", staticmethod(lambda: "/bin/true"))
    with pytest.raises(PlatformError) as caught:
        uvtool.default_index()
    assert "pip_indexes" in caught.value.diagnostics[0].hint
