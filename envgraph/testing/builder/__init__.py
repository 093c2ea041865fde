"""Builders: the contract that every one keeps, material for it, and a fake that keeps it."""
