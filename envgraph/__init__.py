"""envgraph: the environment that trained your model, the same tomorrow."""

__version__ = "0.1.0"
