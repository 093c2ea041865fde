"""The exported kit: what tests, demos and authors of plugins try envgraph with.

Everything here makes real things on this machine: conda channels, HTTP servers,
base images. Nothing here is imported by the house itself.
"""
