"""Transactions that many nodes write into at once, each made durable as a whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from envgraph_store import Store, Transaction


class Batches:
    """The open batch, and those that wait for their last writer.

    A batch is whole when the last node that writes into it is done; nodes that start
    later write into the next one, so nobody waits for the disk.
    """

    def __init__(self, store: Store) -> None:
        """Bind; nothing is begun."""
        self._store = store
        self._lock = threading.Lock()
        self._mine = threading.local()
        self._open: _Batch | None = None
        self._closed: list[_Batch] = []

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """What this thread writes until the end belongs to one batch: :attr:`mine`."""
        with self._lock:
            if self._open is None:
                self._open = _Batch(self._store.transaction())
            batch = self._open
            batch.writers += 1
        self._mine.transaction = batch.transaction
        try:
            yield batch.transaction
        finally:
            with self._lock:
                batch.writers -= 1

    @property
    def mine(self) -> Transaction:
        """The transaction of this thread's batch."""
        transaction: Transaction = self._mine.transaction
        return transaction

    def settle(self, close: bool) -> bool:
        """Make whole batches durable and visible; with ``close`` the open one ends too.

        True when there was one.
        """
        with self._lock:
            if close and self._open is not None:
                self._closed.append(self._open)
                self._open = None
            whole = [batch for batch in self._closed if batch.writers == 0]
            self._closed = [batch for batch in self._closed if batch.writers]
        for batch in whole:
            with batch.transaction as transaction:
                transaction.commit()
        return bool(whole)

    def close(self) -> None:
        """Drop what was not settled."""
        with self._lock:
            left = [*self._closed, *([self._open] if self._open else [])]
            self._closed, self._open = [], None
        for batch in left:
            batch.transaction.close()


@dataclass(slots=True)
class _Batch:
    """One transaction, and how many nodes are writing into it."""

    transaction: Transaction
    writers: int = 0
