"""envgraph: the environment that trained your model, the same tomorrow."""
