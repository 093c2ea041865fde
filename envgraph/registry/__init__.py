"""Registries as the host uses them: opened by name or host, tried again, resumed, verified."""
