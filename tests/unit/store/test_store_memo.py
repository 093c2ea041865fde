"""The memo: hints only, JSON only, and no harm when it is damaged or hostile."""

from __future__ import annotations

import ast
import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import diskcache
import pytest

import envgraph_store
from envgraph_store import Store
from envgraph_store.memo import TextDisk

# protocol 0: what `os.system("true")` as __reduce__ pickles to, written out by hand
PICKLE = b"cposix\nsystem\n(S'touch %s'\ntR."


def test_values_come_back(store: Store) -> None:
    store.memo.set("key", {"a": [1, None, "ü"]})
    assert store.memo.get("key") == {"a": [1, None, "ü"]}
    assert store.memo.get("other") is None
    store.memo.delete("key")
    assert store.memo.get("key") is None


def test_another_process_sees_them(store: Store) -> None:
    store.memo.set("key", "x" * 100_000)
    with Store.open(store.root) as other:
        assert other.memo.get("key") == "x" * 100_000


def test_only_json_goes_in(store: Store) -> None:
    for value in (object(), {1, 2}, b"bytes", float("nan"), lambda: 0):
        with pytest.raises((TypeError, ValueError)):
            store.memo.set("key", value)
    with pytest.raises(TypeError):
        store.memo.set(("tuple",), 1)  # type: ignore[arg-type]
    assert store.memo.get("key") is None


def test_the_disk_pickles_neither_way(tmp_path: Path) -> None:
    disk = TextDisk(str(tmp_path))
    calls: list[Callable[[], object]] = [
        lambda: disk.put(("tuple",)),
        lambda: disk.put(b"bytes"),
        lambda: disk.get(PICKLE, False),
        lambda: disk.store({"a": 1}, False),
        lambda: disk.store(b"bytes", False),
        lambda: disk.store("text", True),
        lambda: disk.fetch(diskcache.core.MODE_PICKLE, None, PICKLE, False),
        lambda: disk.fetch(diskcache.core.MODE_BINARY, "../../x", None, False),
        lambda: disk.fetch(diskcache.core.MODE_TEXT, "x.val", None, False),
        lambda: disk.fetch(diskcache.core.MODE_RAW, None, b"bytes", False),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError)):
            call()


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_planted_pickles_read_as_absent(store: Store, tmp_path: Path, mode: int) -> None:
    store.memo.set("key", 1)
    store.memo.close()
    proof = tmp_path / "executed"
    evil = PICKLE % str(proof).encode()
    (store.root / "memo" / "hints" / "evil.val").write_bytes(evil)
    with closing(sqlite3.connect(store.root / "memo" / "hints" / "cache.db")) as database:
        filename = "evil.val" if mode != 1 else None
        value = evil if mode == 1 else None
        database.execute("UPDATE Cache SET mode=?, filename=?, value=?", (mode, filename, value))
        database.execute("UPDATE Cache SET mode=4, value=? WHERE ?=4", (evil, mode))
        database.commit()
    with Store.open(store.root) as other:
        assert other.memo.get("key") is None
    assert not proof.exists()


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000, None])
def test_a_damaged_memo_is_an_empty_one(store: Store, damage: bytes | None) -> None:
    store.memo.set("key", 1)
    store.memo.close()
    for path in (store.root / "memo" / "hints").iterdir():
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)
    with Store.open(store.root) as other:
        assert other.memo.get("key") is None
        other.memo.set("key", 2)
        assert other.memo.get("key") == 2
        other.memo.clear()
        assert other.memo.get("key") is None


def test_a_memo_that_cannot_be_is_no_error(store: Store) -> None:
    (store.root / "memo").symlink_to("/nonexistent/elsewhere")
    store.memo.set("key", 1)
    assert store.memo.get("key") in (None, 1)
    assert store.verify().bad == ()


def test_a_path_that_diskcache_would_expand_has_no_memo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELSEWHERE", "other")
    with Store.open(tmp_path / "$ELSEWHERE") as store:
        store.memo.set("key", 1)
        assert store.memo.get("key") is None
    assert [path.name for path in tmp_path.iterdir()] == ["$ELSEWHERE"]


def test_nothing_is_evicted(store: Store) -> None:
    for number in range(300):
        store.memo.set(str(number), "x" * 1000)
    assert all(store.memo.get(str(number)) for number in range(300))


def test_threads_may_use_it(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.memo.set(str(n), n), range(50)))
        assert list(pool.map(lambda n: store.memo.get(str(n)), range(50))) == list(range(50))


def test_no_module_of_the_store_can_run_what_it_reads() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
    seen = 0
    for path in Path(envgraph_store.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found: set[str] = set()
            if isinstance(node, ast.Import):
                found = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found = {(node.module or "").partition(".")[0]}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, path
            assert not found & forbidden, path
            allowed = set(sys.stdlib_module_names) | {"envgraph_store"}
            assert found <= allowed or (path.name == "memo.py" and found == {"diskcache"}), path
        seen += 1
    assert seen > 15
