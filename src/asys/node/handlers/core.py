"""Group 0, Core ISA: nothing here reads the machine; the sampler has done that before."""

from __future__ import annotations

from asyncio import get_running_loop
from struct import Struct
from typing import TYPE_CHECKING, Final

from asys.isa import SYS_CAPS, SYS_HELLO, SYS_PROCS, SYS_STATUS, Empty
from asys.isa.core import CapabilitiesPage
from asys.node.dispatch import handles
from asys.protocol.limits import MAGIC

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from asys.node.session import Session

_hello: Final = Struct(">4sIQ2s").pack


@handles(SYS_CAPS)
def sys_caps(session: Session, request: CapabilitiesPage) -> bytes:
    """A page of the agent's capability map, and the machine's facts."""
    return session.node.caps_reply(session.grant, request.page)


@handles(SYS_HELLO)
def sys_hello(session: Session, _request: Empty) -> bytes:
    """Alive, who, and what time it is; packed here because it is the measure of all others."""
    node = session.node
    return _hello(MAGIC, node.uid, node.clock.time_ns(), b"\x90\x00")


@handles(SYS_STATUS)
def sys_status(session: Session, _request: Empty) -> bytes | Coroutine[None, None, bytes]:
    """The latest vitals; one fresh scan is waited for when they are older than a second."""
    node = session.node
    sampler = node.sampler
    if not sampler.touch():
        return _fresh_status(session)
    audit = node.audit
    if audit is None or not audit.flags:
        return sampler.status_reply
    return node.show_flags(sampler.status_reply)


@handles(SYS_PROCS)
def sys_procs(session: Session, _request: Empty) -> bytes | Coroutine[None, None, bytes]:
    """The latest process table; the PIDs in it are remembered for this session."""
    sampler = session.node.sampler
    if sampler.touch():
        processes = sampler.processes
        if processes is not session.shown.last:
            session.shown.add(processes)
        return sampler.procs_reply
    return _fresh_procs(session)


async def _fresh_status(session: Session) -> bytes:
    await fresh(session)
    return session.node.show_flags(session.node.sampler.status_reply)


async def _fresh_procs(session: Session) -> bytes:
    await fresh(session)
    session.shown.add(session.node.sampler.processes)
    return session.node.sampler.procs_reply


async def fresh(session: Session) -> None:
    """Waits for one scan. What could not be read has a node error as its reply by then."""
    done = get_running_loop().create_future()

    def published(_good: bool) -> None:
        if not done.done():  # whoever waited may be gone
            done.set_result(None)

    session.node.sampler.when_fresh(published)
    await done
