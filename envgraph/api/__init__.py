"""All that a plugin may import from envgraph. Values only, so far; hooks follow."""
