"""OCI registries for envgraph: the distribution 1.1 protocol over urllib3 (see README.md)."""
