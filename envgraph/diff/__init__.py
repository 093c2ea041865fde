"""Differences between environments: pure functions over values."""
