"""Versions of environments: read from and appended to hash-linked records."""
