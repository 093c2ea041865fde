"""Doing what a plan says: threads, builds, and making results visible."""
