"""What a session holds for its peer has a bound, whatever the peer sends and does not read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from asys.isa import SYS_PROCS
from asys.node.connection import WRITE_BUFFER
from asys.node.session import TURN
from asys.protocol.limits import MAX_FRAME, MAX_RECORD, RECORD_PREFIX_SIZE
from support.frames import HELLO, PROCS, frame, header, pid_payload
from support.node_rig import Rig, RigAgent

READ = 256 << 10
"""Bytes that an event loop reads at a time, at most."""

MOST_ANSWER = SYS_PROCS.reply.SIZE + 2 + 18
"""Bytes on the wire of the largest answer that these requests have at once."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.close()


def half_a_frame(agent: RigAgent) -> Iterator[bytes]:
    """All of the largest that there is, but its end."""
    yield agent.sealed(header(1, 0, 0, 0xFFD6, 2))
    for _ in range(65):
        yield agent.sealed(bytes(1000))


def many_small_ones(agent: RigAgent) -> Iterator[bytes]:
    while True:
        yield agent.sealed(*[PROCS] * 4000)


def one_byte_records(agent: RigAgent) -> Iterator[bytes]:
    while True:
        yield agent.sealed(*[PROCS[n : n + 1] for n in range(6)] * 500)


def large_ones(agent: RigAgent) -> Iterator[bytes]:
    while True:
        yield agent.sealed(*[frame(1, bytes(65_000), cla=2)] * 4)


def many_in_one(agent: RigAgent) -> Iterator[bytes]:
    while True:
        yield agent.sealed(*[HELLO * 500] * 4)


def behind_one_that_waits(agent: RigAgent) -> Iterator[bytes]:
    yield agent.sealed(agent.signed(0x42, pid_payload(1)))
    while True:
        yield agent.sealed(*[HELLO] * 4000)


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize(
    "sends",
    [
        half_a_frame,
        many_small_ones,
        one_byte_records,
        large_ones,
        many_in_one,
        behind_one_that_waits,
    ],
)
async def test_no_buffer_of_a_session_grows_beyond_its_bound(
    rig: Rig, sends: object, reads: bool
) -> None:
    assert callable(sends)
    agent = rig.session()
    one, transport = agent.session, agent.transport
    transport.taking = reads
    sent = 0
    for data in sends(agent):
        for at in range(0, len(data), READ):
            transport.send(data[at : at + READ])
            rig.clock.run_ready()
            transport.deliver()
            assert one._channel.buffered <= READ + MAX_RECORD + RECORD_PREFIX_SIZE
            assert len(one._messages) <= TURN
            assert sum(map(len, one._messages)) <= READ + MAX_RECORD
            assert one._parser.pending <= MAX_RECORD + MAX_FRAME
            assert len(transport.unread) <= WRITE_BUFFER + TURN * MOST_ANSWER
        sent += len(data)
        if sent > (READ if reads else 4 * READ) or one.closed or len(transport.incoming) > 8:
            break
    assert sent > MAX_FRAME
