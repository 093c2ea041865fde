"""The command line: arguments → act → view. Only ``main`` exits, only views print."""
