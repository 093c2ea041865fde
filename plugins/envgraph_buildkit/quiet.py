"""grpcio, which writes nothing to stderr: that belongs to envgraph's errors.

Its C core logs failed handshakes, and each fork of a process with open channels. It reads its
settings once, when the first channel is made; they are set until then, and taken out of the
environment again, so that no program that envgraph starts sees them. What the user has set
(``GRPC_VERBOSITY=debug``) holds.
"""

from __future__ import annotations

import os

_SETTINGS = {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0"}
_ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
os.environ.update(_ours)
try:
    import grpc

    grpc.insecure_channel("unix:///nonexistent").close()
finally:
    for _name in _ours:
        os.environ.pop(_name, None)

__all__ = ["grpc"]
