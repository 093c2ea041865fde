"""What people and programs read: human text, JSON, and the one printer of diagnostics."""
