"""For tests of what uses registries, and of registries: a fake in memory, and the contract."""
