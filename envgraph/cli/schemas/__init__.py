"""JSON Schemas for editors; ``init`` copies them into a workspace."""
