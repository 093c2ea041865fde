"""Locks: resolve an environment once, write it down, read it back."""
