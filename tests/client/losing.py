"""Nodes that lose their agents, for tests of agents that come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import asys
from asys import isa
from asys.protocol.apdu import Frame
from asys.protocol.status import SW
from support.wire_node import OK, Gone, Peer, Script, answer

SOON = asys.Reconnect(first=0.002, most=0.01)
SOON_AND_AGAIN = asys.Reconnect(first=0.002, most=0.01, resend=True)


def handing_over(*scripts: Script) -> Script:
    """The scripts by turn, one a connection; the last one for all that follow."""
    left = list(scripts)

    async def script(peer: Peer) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(peer)

    return script


def until(ins: int, *, answered: bool = False) -> Script:
    """Serves until that instruction comes; the connection ends with it."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        while True:
            frame = await peer.request()
            if frame.ins == ins:
                if answered:
                    peer.reply(answer(frame) or b"")
                raise Gone
            peer.reply(answer(frame) or b"")

    return script


def bare(peer: Peer) -> Awaitable[None]:
    """Closes at once."""
    return asyncio.sleep(0)


def asked(peer: Peer) -> list[int]:
    """What was asked behind the SYS_CAPS at the beginning."""
    return [frame.ins for frame in peer.frames[4:]]


HELLO_, THROTTLE, RESTART = isa.SYS_HELLO.code, isa.PROC_THROTTLE.code, isa.SVC_RESTART.code


def procs(frame: Frame) -> bytes | None:
    """A node on which process 7 is busy."""
    if frame.ins != isa.SYS_PROCS.code:
        return answer(frame)
    one = isa.Process(pid=7, cpu_percent=99.0, memory_percent=1, flags=isa.ProcessFlags(0))
    return isa.Processes(count=1, top=(one,)).pack() + OK


async def shows_and_dies(peer: Peer) -> None:
    """Shows its processes, and ends with the first that is to be stopped."""
    await peer.accept()
    while (frame := await peer.request()).ins != THROTTLE:
        peer.reply(procs(frame) or b"")


async def mute(peer: Peer) -> None:
    """Accepts the agent, and never says anything again."""
    await peer.accept()
    await peer.silence()


async def refuse(peer: Peer) -> None:
    """A node that no longer knows the agent."""
    await peer.handshake()
    peer.reply(SW.DENIED.wire)
