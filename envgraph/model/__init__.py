"""Values: what was asked, what it resolved to, what is built from it, what happened."""
