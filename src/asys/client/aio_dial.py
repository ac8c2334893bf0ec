"""Making a connection on asyncio, up to where the node has accepted this agent."""

from __future__ import annotations

import asyncio
import socket

from asys.client.address import Address
from asys.client.aio_wire import Wire
from asys.errors import (
    ConnectFailed,
    DeadlineExceeded,
    HostKeyChanged,
    LinkError,
    NoSuchInstruction,
    NotSupported,
)


async def establish(wire: Wire, patience: float) -> None:
    """Takes a connection to where the node has accepted this agent. LinkError, StatusError."""
    caller, loop = wire.caller, wire.loop
    accepted = caller.opening.waiter = loop.create_future()
    try:
        async with asyncio.timeout(patience):
            await _dial(caller.address, wire, loop)
            await accepted
    except (NoSuchInstruction, NotSupported):
        pass  # the node takes this agent, and grants it no SYS_CAPS
    except BaseException as error:
        owed = wire.owed
        accepted.cancel()
        await wire.abort()
        if isinstance(caller.error, HostKeyChanged):
            raise caller.error from None  # and so it is no wonder that there was no answer
        if isinstance(error, TimeoutError) and not isinstance(error, LinkError):
            raise DeadlineExceeded(
                f"{caller.address} did not {owed} within {patience:g} s"
            ) from None
        raise


async def _dial(address: Address, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
    """Makes the connection. ConnectFailed says what the operating system says."""
    try:
        if not address.path:
            await loop.create_connection(lambda: wire, address.host, address.port)
        elif hasattr(socket, "AF_UNIX"):
            await loop.create_unix_connection(lambda: wire, address.path)
        else:
            raise ConnectFailed(f"cannot reach {address}: this system has no unix sockets")
    except LinkError:
        raise
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(f"cannot reach {address}: {error}") from error
