"""``python -m envgraph``: the same as the ``envgraph`` command."""

from __future__ import annotations

from envgraph.cli.main import main

if __name__ == "__main__":
    main()
