"""Conda channels and packages: solve, fetch, link. The only importer of rattler."""
