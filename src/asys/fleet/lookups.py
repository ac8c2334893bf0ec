"""Names of nodes are looked up before anybody connects, so that one that hangs holds up nobody.

The system's resolver may take half a minute to say nothing. An event loop has a handful of threads
for it, which a few such names would fill; so each name has a thread of its own here, for as long as
it takes. What the resolver has just found, it finds again at once when the connection is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading

from asys.client.address import Address
from asys.errors import ConnectFailed, DeadlineExceeded


class Lookups:
    """The names that are being looked up, each once however many wait for it."""

    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[OSError | None]] = {}

    async def found(self, address: Address, seconds: float) -> None:
        """Returns when the resolver knows a name; at once for what is no name.

        ConnectFailed: it does not. DeadlineExceeded: it has not said so in time.
        """
        if address.path or _is_number(address.host):
            return
        pending = self._pending.get(address.host)
        if pending is None:
            pending = self._pending[address.host] = self._start(address.host)
        await asyncio.wait((pending,), timeout=seconds)
        if not pending.done():
            raise DeadlineExceeded(f"cannot reach {address}: its name was not found in time")
        error = pending.result()
        if error is not None:
            raise ConnectFailed(f"cannot reach {address}: {error}") from error

    def _start(self, host: str) -> asyncio.Future[OSError | None]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[OSError | None] = loop.create_future()

        def settle(error: OSError | None) -> None:
            self._pending.pop(host, None)
            outcome.set_result(error)

        def ask() -> None:
            error = _ask(host)
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(settle, error)

        threading.Thread(target=ask, name=f"lookup-{host}", daemon=True).start()
        return outcome


def _ask(host: str) -> OSError | None:
    """Asks the resolver; what it says against a name."""
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except UnicodeError as error:  # it cannot be a name at all
        return OSError(str(error))
    return None


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
