"""A content-addressed store that is an OCI image layout.

It knows neither environments nor graph nodes: bytes by digest, records by an
opaque key, names that move, and kernel locks. ``store/README.md`` draws the
format and says what is promised. Importing it is cheap and loads nothing but
the standard library.
"""

from __future__ import annotations

from envgraph_store.area import Area
from envgraph_store.digest import Digest, DigestError
from envgraph_store.errors import StoreError, StoreLocked
from envgraph_store.refs import Ref
from envgraph_store.store import Store
from envgraph_store.transaction import Transaction
from envgraph_store.writer import StagedWriter

__all__ = [
    "Area",
    "Digest",
    "DigestError",
    "Ref",
    "StagedWriter",
    "Store",
    "StoreError",
    "StoreLocked",
    "Transaction",
]
