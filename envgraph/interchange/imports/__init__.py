"""Locks of other tools → an environment file and a pinned lock; nothing is solved again."""
