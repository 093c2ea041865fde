"""Images without a daemon: archives become layers, layers become an OCI image."""
