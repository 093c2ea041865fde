"""One module per verb: ``SIGNATURE``, ``Arguments``, ``read`` and ``run``."""
