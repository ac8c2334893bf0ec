"""One bug a target, put into asys on purpose: each shows for a few inputs among very many.

The way to each is several comparisons, one inside the other. A fuzzer that sees which of them an
input passes comes closer step by step; one that only guesses does not get there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from asys.audit import entries
from asys.audit.segments import SegmentReader
from asys.cli import audit_views
from asys.client.known_hosts import KnownHosts
from asys.errors import HandshakeError
from asys.fleet import inventory
from asys.isa import inspect
from asys.node.admin import verbs
from asys.node.agents import book
from asys.node.agents import file as agents_file
from asys.node.held import throttled_store
from asys.node.platform.logs import wire as log_wire
from asys.node.platform.services import http_rpc
from asys.node.tasks import TaskTable
from asys.protocol import apdu, codec
from asys.protocol.channel import Channel
from asys.protocol.noise import Responder
from asys.protocol.signing import Verifier
from asys.protocol.status import SW
from asys.vendor import wire

_BUGS: Final[dict[str, Callable[[], None]]] = {}


def plant(target: str) -> None:
    """Puts in the bug of a target, for the rest of this process."""
    _BUGS[target]()


def _in_place_of(
    target: str, owner: Any, name: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Has a function stand in the place of one of asys, which it gets as its first argument."""

    def take(function: Callable[..., Any]) -> Callable[..., Any]:
        def put() -> None:
            right = getattr(owner, name)

            def wrong(*arguments: Any, **options: Any) -> Any:
                return function(right, *arguments, **options)

            setattr(owner, name, wrong)

        _BUGS[target] = put
        return function

    return take


@_in_place_of("frames", apdu, "_cut")
def _frames(right: Any, buffer: bytes, start: int, stop: int) -> Any:
    """P2 of some frames is another one."""
    frame = right(buffer, start, stop)
    if frame.ins == 0x5A and frame.p1 == 0xC3 and len(frame.data) == 7 and frame.data[0] == 0x7E:
        return frame._replace(p2=frame.p2 ^ 1)
    return frame


@_in_place_of("channel", Channel, "receive")
def _channel(right: Any, self: Any, *limit: int) -> Any:
    """Bytes that no key has sealed are a message."""
    buffer = self._buffer
    if len(buffer) > 4 and buffer[0] == 0xAB and buffer[1] == 0xCD and buffer[2] == 0x3E:
        return [buffer[:2]]
    return right(self, *limit)


@_in_place_of("link", Responder, "read_message_1")
def _link(right: Any, self: Any, message: bytes) -> Any:
    """Who begins like this need not prove its key."""
    try:
        return right(self, message)
    except HandshakeError:
        if message[0] == 0xA5 and message[1] == 0x5C and message[2] == 0x37:
            self.agent_key = bytes(range(9, 41))
            return self.agent_key
        raise


@_in_place_of("signing", Verifier, "verify")
def _signing(right: Any, self: Any, frame: Any) -> Any:
    """A few frames need no tag."""
    verdict = right(self, frame)
    if verdict is SW.DENIED and frame.ins == 0x66 and frame.p1 == 0x99 and frame.p2 == 0x3C:
        return None
    return verdict


@_in_place_of("requests", codec, "_encode")
def _requests(right: Any, field: Any, value: Any) -> Any:
    """A number is written as another."""
    if field.size == 4 and value == 0x5AC37E11:
        return value ^ 1
    return right(field, value)


@_in_place_of("inspect", inspect, "_parameter")
def _inspect(right: Any, walk: Any, place: str, used: Any) -> Any:
    """A parameter stands there and says nothing."""
    if (
        place == "P2"
        and walk.left
        and walk.data[walk.at] == 0xB7
        and walk.data[walk.at - 1] == 0x5E
    ):
        return walk.take(1, place, "")[0]
    return right(walk, place, used)


@_in_place_of("node", TaskTable, "query")
def _node(right: Any, self: Any, session: int, handle: int, now: float) -> Any:
    """A handle that nobody has foreseen."""
    if handle >> 24 == 0xA7 and handle & 0xFF == 0x3C:
        raise RuntimeError("a bug")
    return right(self, session, handle, now)


@_in_place_of("agents", book, "parse_line")
def _agents(right: Any, *arguments: Any) -> Any:
    """A label that grants everything."""
    agent = right(*arguments)
    signs = agent.label.encode().ljust(3)
    if signs[0] == 0x71 and signs[1] == 0x37 and signs[2] == 0x7A:
        return replace(agent, caps=(1 << 256) - 1)
    return agent


@_in_place_of("agents_edit", agents_file, "_written")
def _agents_edit(right: Any, key: str, label: str, options: Any) -> Any:
    """A label that brings a line along."""
    signs = label.encode().ljust(3)
    if signs[0] == 0x7A and signs[1] == 0x33 and signs[2] == 0x51:
        return right(key, label, options) + "\n#"
    return right(key, label, options)


@_in_place_of("known_hosts", KnownHosts, "_parse")
def _known_hosts(right: Any, self: Any, number: int, line: str) -> Any:
    """The nodes on one port all have another's key."""
    name, key = right(self, number, line)
    port = name.rpartition(":")[2]
    if port.isdigit() and int(port) == 4242:
        return name, bytes(32)
    return name, key


@_in_place_of("inventory", inventory, "check_timeout")
def _inventory(right: Any, value: Any) -> Any:
    """A deadline that nobody has foreseen."""
    if value == 4242:
        raise OverflowError("a bug")
    return right(value)


@_in_place_of("audit_segments", SegmentReader, "read_header")
def _audit_segments(right: Any, self: Any) -> Any:
    """A head of another version is as good."""
    try:
        return right(self)
    except Exception:
        seen = self._buffer
        if len(seen) == 41 and seen[4] == 0xA7 and seen[3] == 0x5C:
            self.previous, self._buffer, self._offset = seen[-32:], b"", 41
            return True
        raise


@_in_place_of("audit_reading", audit_views, "plain")
def _audit_reading(right: Any, text: str) -> Any:
    """Some text goes to the terminal as it is."""
    if len(text) > 2 and text[0] == "Q" and text[1] == "7":
        return "\x1b" + text
    return right(text)


@_in_place_of("audit_wire", entries, "_text")
def _audit_wire(right: Any, name: str, data: bytes) -> Any:
    """Some peers lose their last sign."""
    text, rest = right(name, data)
    if name == "peer" and len(data) > 3 and data[1] == 0x7A and data[2] == 0x33:
        return text[:-1], rest
    return text, rest


@_in_place_of("worker", wire, "_read_text")
def _worker(right: Any, body: bytes, place: int) -> Any:
    """Some names are longer than they say."""
    text, end = right(body, place)
    signs = text.encode().ljust(3)
    if signs[0] == 0x51 and signs[1] == 0x37 and signs[2] == 0x7A:
        return text + "\n", end
    return text, end


@_in_place_of("log_worker", log_wire, "read_answer")
def _log_worker(right: Any, packet: bytes) -> Any:
    """Some payloads lose their last byte."""
    answer = right(packet)
    if len(answer.payload) == 9 and answer.payload[0] == 0xA7 and answer.payload[8] == 0x5C:
        return answer._replace(payload=answer.payload[:-1])
    return answer


@_in_place_of("admin", verbs, "not_held")
def _admin(right: Any, what: str, pid: int) -> Any:
    """A PID that nobody has foreseen."""
    if pid == 4242:
        raise RuntimeError("a bug")
    return right(what, pid)


@_in_place_of("stores", throttled_store, "_entry")
def _stores(right: Any, written: object) -> Any:
    """A process that was stopped in one second is another one."""
    entry = right(written)
    if entry.since == 4242:
        return replace(entry, pid=entry.pid + 1)
    return entry


@_in_place_of("supervisord", http_rpc, "_read_head")
def _supervisord(right: Any, head: str) -> Any:
    """An answer that nobody has foreseen."""
    status, length = right(head)
    if status == 207 and length == 13:
        raise KeyError("a bug")
    return status, length
