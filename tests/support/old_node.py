"""Stands in for asyd 0.3.1, which is not here: `python -m support.old_node DIRECTORY PORT`, until
SIGTERM.

It is the model of the conformance tests that differs from the specification as 0.3.1 does, with the
key and the agents of a config directory. Of a line it reads the key: everybody has everything. The
machine that it speaks of is not there.
"""

from __future__ import annotations

import re
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from conformance.deployed import CODES, Deployed
from conformance.parts import TIMING, Agent, public


class OldNode(Deployed):
    """A node with files, on a port that is known."""

    deadlines = replace(TIMING, magic=1.0, handshake=5.0, frame=60.0, idle=60.0)

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__()
        self._listener.close()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.private = X25519PrivateKey.from_private_bytes(
            (directory / "id_curve25519").read_bytes()
        )
        text = (directory / "authorized_agents").read_text("utf-8", "replace")
        keys = re.findall(r"^([0-9A-Fa-f]{64})\b", text, re.MULTILINE)
        self.agents = {bytes.fromhex(key): Agent(CODES) for key in keys}


def main(directory: str, port: str) -> None:
    """Serves until it is told to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    with OldNode(Path(directory), int(port)) as node:
        print(f"READY 127.0.0.1:{port} {public(node.private).hex()}", flush=True)
        signal.sigwait([signal.SIGTERM])


if __name__ == "__main__":
    main(*sys.argv[1:])
