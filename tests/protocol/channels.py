"""Both ends of a channel, and what a broken one looks like."""

from __future__ import annotations

import pytest

from asys.errors import ChannelError
from asys.protocol.channel import Channel

HERE, THERE = bytes(range(32)), bytes(range(32, 64))


def ends() -> tuple[Channel, Channel]:
    """Both ends of one connection."""
    return Channel(HERE, THERE), Channel(THERE, HERE)


def assert_broken(channel: Channel) -> None:
    """Nothing is opened or sealed any more, nothing is kept, and no key is used again."""
    assert channel.broken
    channel.feed(ends()[1].seal([b"good"]))
    assert channel.buffered == 0
    for _ in range(2):
        with pytest.raises(ChannelError, match="broken"):
            channel.receive()
        with pytest.raises(ChannelError, match="broken"):
            channel.seal([b"x"])
    assert "broken" in repr(channel)
