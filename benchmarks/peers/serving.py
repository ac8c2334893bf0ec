"""An ASGI application behind uvicorn and mutual TLS, as a process of its own."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import uvicorn

from benchmarks.peers.certificates import Certificates
from benchmarks.peers.peer import HOST, KEPT_SECONDS

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def serve(application: ASGIApp, certificates: Certificates) -> None:
    """Prints the port, and serves until it is ended."""
    with socket.create_server((HOST, 0), backlog=64) as listener:
        config = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=int(KEPT_SECONDS),
            ssl_certfile=certificates.certificate("node"),
            ssl_keyfile=certificates.key("node"),
            ssl_ca_certs=str(certificates.certificate("authority")),
            ssl_cert_reqs=ssl.CERT_REQUIRED,
        )
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])
