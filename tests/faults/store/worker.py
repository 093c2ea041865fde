"""A process that works on a store, to be killed, starved or cut off. Not a test.

``worker.py WORK ROOT [SKIP]`` says ``ready``, waits for a line, works, and says what
it did: ``ack …`` after every commit, ``done`` at the end, ``refused CODE`` for an error of
the store. ``SKIP`` names a sync that is left out. It imports nothing but the store.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time

from envgraph_store import Store, StoreError, files

OBJECTS = 3
MANY = 40


def content(name: str, number: int) -> bytes:
    """The bytes of one object: told by its name, larger than a page."""
    return f"{name}/{number}:".encode() * 1500


class Skipping(files.Disk):
    """Leaves one kind of sync out: file, everything, areas, actions or refs."""

    def __init__(self, skip: str) -> None:
        super().__init__()
        self.skip = skip
        self.last = ""
        self.folders = 0

    def point(self, name: str) -> None:
        self.last = name
        self.folders = 0

    def sync_file(self, fd: int) -> None:
        if self.skip != "file" or self.last != "staged":
            super().sync_file(fd)

    def sync_everything(self, fd: int) -> bool:
        return self.skip == "everything" or super().sync_everything(fd)

    def sync_folder(self, fd: int) -> None:
        self.folders += 1
        step = {"placed": "areas", "actions": "refs"}.get(self.last, "")
        if step == "areas" and self.folders > 2:
            step = "actions"
        if self.skip != step:
            super().sync_folder(fd)


def add(store: Store, name: str, count: int, *, action: bool = True, ref: bool = True) -> None:
    """One transaction of ``count`` objects, an action and a ref, all told by ``name``."""
    with store.transaction() as transaction:
        digests = []
        for number in range(count - 1):
            with transaction.writer() as writer:
                writer.write(content(name, number))
                digests.append(str(writer.finish()))
        package = transaction.add_bytes(content(name, count - 1), area="packages")
        digests.append(str(package))
        if action:
            transaction.put_action(name, {"objects": digests})
        if ref:
            before = store.refs.get(name)
            value = {"objects": digests}
            transaction.set_ref(name, value, before.generation if before else None)
        transaction.commit()


def work(kind: str, store: Store) -> None:
    """Do what ``kind`` says."""
    if kind == "add":
        add(store, "one", OBJECTS)
    elif kind == "many":
        add(store, "many", MANY)
    elif kind == "objects":
        add(store, "objects", OBJECTS, action=False, ref=False)
    elif kind == "action":
        add(store, "action", OBJECTS, ref=False)
    elif kind == "gc":
        store.gc(grace_seconds=0, now=time.time() + 10)
    elif kind == "gc by the clock":
        store.gc()
    elif kind == "repair":
        store.verify(repair=True)
    elif kind == "verify":
        store.verify()
    elif kind == "index":
        store.rewrite_index()
    elif kind == "loop":
        number = 0
        while True:
            name = f"loop-{os.getpid()}-{number}"
            add(store, name, MANY if number % 5 == 4 else OBJECTS)
            say(f"ack {name}")
            number += 1


def say(line: str) -> None:
    """A line to whoever watches, by a call that no fault is injected into."""
    os.writev(1, [line.encode() + b"\n"])


def open_files() -> set[int]:
    """The descriptors of this process, found by a call that no fault is injected into."""
    found = set()
    for fd in range(256):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found


def main() -> None:
    """Run the work named on the command line."""
    kind, root, skip = [*sys.argv[1:], ""][:3]
    disk = Skipping(skip)
    store = None if kind == "create" else Store.open(root, disk=disk, lock_timeout=20)
    before = open_files()
    say("ready")
    sys.stdin.readline()
    try:
        if store is None:
            Store.open(root).close()
        else:
            work(kind, store)
        say(f"ack {kind}")
    except StoreError as error:
        say(f"refused {error.code}")
    after = open_files()
    say("leaked" if after - before else "done")


if __name__ == "__main__":
    main()
