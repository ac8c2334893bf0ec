"""The steps of a connection, at each of which a node may fall silent or go away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from asys.protocol.link import LinkState
from support.wire_node import Peer, Script, answer_caps

Step = Callable[[Peer], Awaitable[None]]


async def nothing(peer: Peer) -> None:
    """Right after accept."""


async def half_a_pre_handshake_frame(peer: Peer) -> None:
    """20 of 38 bytes."""
    peer.link.receive_data(await peer.read())
    peer.write(peer.link.data_to_send()[:20])


async def key_shown(peer: Peer) -> None:
    """The pre-handshake frame is out, message 1 has come."""
    peer.link.receive_data(await peer.read())
    peer.write(peer.link.data_to_send())
    await peer.read()


async def half_of_message_2(peer: Peer) -> None:
    """30 of 48 bytes."""
    while peer.link.state is not LinkState.OPEN:
        peer.link.receive_data(await peer.read())
        data = peer.link.data_to_send()
        peer.write(data if len(data) == 38 else data[:30])


async def open_and_asked(peer: Peer) -> None:
    """The handshake is over, the first requests are in."""
    await peer.handshake()
    await peer.request()


async def half_a_record(peer: Peer) -> None:
    """The first answer has begun."""
    await peer.handshake()
    peer.write(peer.link.seal([answer_caps(await peer.request())])[:25])


async def one_answer(peer: Peer) -> None:
    """One of the four first requests is answered."""
    await peer.handshake()
    peer.reply(answer_caps(await peer.request()))


STEPS: Final[tuple[Step, ...]] = (
    nothing,
    half_a_pre_handshake_frame,
    key_shown,
    half_of_message_2,
    open_and_asked,
    half_a_record,
    one_answer,
)


def then_silence(step: Step) -> Script:
    """A node that does so much, then nothing."""

    async def script(peer: Peer) -> None:
        await step(peer)
        await peer.silence()

    return script
