"""The channel: what is altered on the way is never delivered, and breaks it for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

from asys.errors import ChannelError
from asys.protocol.channel import MAX_MESSAGE, Channel
from asys.protocol.limits import MAX_RECORD
from fuzz.choices import Choices, Script

COVERS = ("asys.protocol.channel",)


def one(data: bytes) -> None:
    """Messages go from one end to the other, over a wire that the input has in its hands."""
    choices = Choices(data)
    # Of each input its own, or a fuzzer would replay records of an earlier execution.
    keys = blake2b(data).digest()
    sender, receiver = Channel(keys[:32], keys[32:]), Channel(keys[32:], keys[:32])
    sent = got = 0
    while choices.left and not _over(receiver):
        messages = [choices.take(choices.byte()) for _ in range(choices.below(5))]
        records = [sender.seal([message]) for message in messages]
        wire = b"".join(records)
        altered = _altered(choices, wire)
        same = 0
        while same < min(len(wire), len(altered)) and wire[same] == altered[same]:
            same += 1
        whole, at = 0, 0
        for record in records:
            at += len(record)
            whole += at <= same
        sent += whole
        delivered: list[bytes] = []
        limit = choices.byte() or MAX_RECORD
        for piece in choices.pieces(altered):
            receiver.feed(piece)
            assert receiver.buffered <= len(altered)
            _receive(receiver, delivered, limit)
        assert delivered == messages[:whole]
        got += len(delivered)
        if _over(receiver):
            assert altered != wire
            _is_broken(receiver)
        elif altered != wire:
            return  # half a record waits for its end; what comes now is not in order any more
        elif choices.flag():
            assert sender.rekey() == receiver.rekey()[::-1]
    assert got == sent
    if not _over(receiver):
        assert receiver.receive() == []
        assert sender.receive() == []


def _over(channel: Channel) -> bool:
    return channel.broken


def _receive(receiver: Channel, delivered: list[bytes], limit: int) -> None:
    while not _over(receiver):
        try:
            some = receiver.receive(limit)
        except ChannelError:
            assert _over(receiver)
            return
        assert len(some) <= limit
        delivered += some
        if not some:
            return


def _altered(choices: Choices, wire: bytes) -> bytes:
    """The wire's bytes, or what somebody on the way has made of them."""
    what = choices.below(8)
    at = choices.u16() % (len(wire) + 1) if what else 0
    if what == 1:
        return (
            wire[:at] + bytes(b ^ (choices.byte() or 1) for b in wire[at : at + 1]) + wire[at + 1 :]
        )
    if what == 2:
        return wire[:at]
    if what == 3:
        return wire[:at] + choices.blob() + wire[at:]
    if what == 4:
        return wire[:at] + wire[at + choices.byte() :]
    if what == 5:
        return wire[at:] + wire[:at]
    if what == 6:
        return wire + wire[at:]
    return choices.rest() if what == 7 else wire


def _is_broken(channel: Channel) -> None:
    """Nothing goes in or out any more."""
    channel.feed(b"more")
    assert channel.buffered == 0
    calls: list[Callable[[], Any]] = [channel.receive, channel.rekey, lambda: channel.seal([b""])]
    for call in calls:
        try:
            call()
        except ChannelError:
            continue
        raise AssertionError("a broken channel works")
    assert MAX_MESSAGE < MAX_RECORD


def seeds() -> Iterator[bytes]:
    """Rounds of messages as they are, and each way to alter the last of them."""
    good = Script().byte(2, 3).raw(b"abc").byte(0, 0, 0, 0, 1)
    yield bytes(good)
    for what in range(1, 8):
        last = Script().byte(2, 3).raw(b"abc").byte(1).raw(b"d").byte(what).u16(4)
        yield bytes(good) + bytes(last.byte(1, 0, 1, 2, 3, 0))
