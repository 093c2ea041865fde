"""Environments in the formats of other tools. Values in, text out."""
