"""An environment on this machine: prefixes from a lock, commands and shells in them.

- :mod:`envgraph.run.prefixes` makes a conda prefix for a lock, once per machine.
- :mod:`envgraph.run.environment` says which variables a command in it sees.
- :mod:`envgraph.run.process` becomes that command; exit code and signals pass through.
- :mod:`envgraph.run.shells` starts the user's own shell in it.
- :mod:`envgraph.run.container` does the same in the image, base included.
"""
