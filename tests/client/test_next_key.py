"""A node that gets another key, as the SDK sees it: asked once, checked, written, never back."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import asys
from asys import isa
from asys.client.address import Address
from asys.client.caller import Caller
from asys.client.next_key import Carry, KeyRecord
from asys.client.reconnect import is_final
from asys.client.renewal import Renewal
from asys.client.upkeep import LOOK_SECONDS
from asys.isa import KEY_STATEMENT, StatedKey
from asys.isa.capmap import CORE, STATEMENT
from asys.protocol.apdu import FrameParser
from asys.protocol.keys import PrivateKey
from asys.protocol.link import LinkState, NodeLink
from asys.protocol.statement import BadStatement, KeyStatement
from support.wire_node import HELLO, OK, answer_caps, page_of

ADDRESS = Address.of("node", 1)
AGENT, OLD, NEW, OTHER = (PrivateKey(bytes([number]) * 32) for number in (21, 22, 23, 24))
STATED = KeyStatement.of(OLD, NEW.public, 7, 9)
ROTATED = b"\x6a\x81"


def page(number: int, *, rotating: bool) -> bytes:
    """A page of the map of a node that has a next key, or none."""
    reply = page_of(CORE, number)
    if not number and rotating:
        lit = int.from_bytes(reply[:4], "big") | STATEMENT
        reply = lit.to_bytes(4, "big") + reply[4:]
    return reply


class Both:
    """A caller, and a node that shows `shown` and has `keys`."""

    def __init__(
        self,
        trusted: bytes = OLD.public,
        *,
        superseded: frozenset[bytes] = frozenset(),
        carry: Carry | None = None,
        shown: PrivateKey = OLD,
        more: tuple[PrivateKey, ...] = (NEW,),
    ) -> None:
        self.traced: list[str] = []
        self.caller = Caller(
            AGENT,
            ADDRESS,
            trusted,
            trace=lambda exchange: self.traced.append(exchange.instruction),
            superseded=superseded,
            carry=carry,
            renewal=Renewal(None, None),
        )
        self.node = NodeLink(shown, more=more)
        self.parser = FrameParser()

    def open(self) -> None:
        while self.node.state is not LinkState.OPEN:
            self.node.receive_data(self.caller.data_to_send())
            self.caller.receive_data(self.node.data_to_send(), 0.0)

    def asked(self) -> list[int]:
        self.node.receive_data(self.caller.data_to_send())
        return [
            frame.ins for message in self.node.messages() for frame in self.parser.feed(message)
        ]

    def say(self, *answers: bytes, now: float = 0.0) -> None:
        self.caller.receive_data(self.node.seal(answers), now)

    def greet(self, *, rotating: bool = True) -> None:
        self.open()
        assert self.asked() == [0] * 4
        self.say(*(page(number, rotating=rotating) for number in (1, 2, 3, 0)))


def test_it_is_asked_before_the_connection_is_made() -> None:
    both = Both()
    both.greet()
    assert [both.caller.opening.answered] == [False]
    assert both.asked() == [KEY_STATEMENT.code]
    both.say(STATED.pack() + OK)
    assert both.caller.opening.answered
    assert both.caller.node_keys.next_key == NEW.public
    assert both.traced == ["SYS_CAPS"] * 4  # that is nobody's business


def test_a_node_without_one_is_asked_nothing() -> None:
    both = Both()
    both.greet(rotating=False)
    assert both.caller.opening.answered
    assert both.asked() == []


def test_success_with_node_flags_is_success() -> None:
    both = Both()
    both.greet()
    both.asked()
    both.say(STATED.pack() + b"\x91\x01")
    assert both.caller.node_keys.next_key == NEW.public


def test_an_overlap_that_has_just_ended_is_no_fault() -> None:
    both = Both()
    both.greet()
    both.asked()
    both.say(ROTATED)
    assert both.caller.opening.answered
    assert both.caller.error is None
    assert both.caller.node_keys.next_key is None


def test_one_that_has_moved_proves_the_next_key_and_asks_nothing() -> None:
    both = Both(NEW.public, superseded=frozenset({OLD.public}))
    both.greet()
    assert both.node.node_key == NEW.public
    assert both.caller.link.node_key == NEW.public
    assert both.caller.link.shown_key == OLD.public
    assert both.asked() == []
    assert both.caller.opening.answered


@pytest.mark.parametrize("at", range(0, 136, 5))
def test_a_wrong_statement_ends_it_and_changes_nothing(at: int) -> None:
    written: list[object] = []

    def carry(statements: object) -> bytes:
        written.append(statements)
        return b""

    both = Both(carry=carry)
    both.greet()
    both.asked()
    data = bytearray(STATED.pack())
    data[at] ^= 4
    both.say(bytes(data) + OK)
    error = both.caller.error
    assert isinstance(error, asys.BadKeyStatement)
    assert "asyd key status" in str(error)
    assert (error.host, bool(error.reason)) == ("node:1", True)
    assert is_final(error)
    assert not written
    assert both.caller.node_keys.next_key is None
    assert repr(type(error)(*error.__reduce__()[1])) == repr(error)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("statement", "superseded"),
    [
        (KeyStatement.of(OTHER, NEW.public, 7, 9), frozenset()),
        (KeyStatement.of(OLD, OLD.public, 7, 9), frozenset()),
        (KeyStatement.of(OLD, bytes(32), 7, 9), frozenset()),
        (STATED, frozenset({NEW.public})),
    ],
    ids=["of another key", "its own", "nobody's", "back"],
)
def test_a_statement_that_leads_nowhere_is_wrong(
    statement: KeyStatement, superseded: frozenset[bytes]
) -> None:
    both = Both(superseded=superseded)
    both.greet()
    both.asked()
    both.say(statement.pack() + OK)
    assert isinstance(both.caller.error, asys.BadKeyStatement)


@pytest.mark.parametrize("moved", [False, True])
def test_the_next_connection_wants_the_next_key(moved: bool) -> None:
    both = Both()
    both.greet(rotating=moved)
    if moved:
        both.asked()
        both.say(STATED.pack() + OK)
    fresh = both.caller.successor()
    wanted = NEW if moved else OLD
    assert fresh.node_keys.trusted == wanted.public
    fresh.receive_data(b"ASYS\x01\x00" + OLD.public, 0.0)
    fresh.lost()
    # The node shows the old key until its overlap ends: a lost connection is that, and no more.
    assert isinstance(fresh.error, asys.ConnectionLost)


def test_a_shown_key_that_was_proven_to_be_of_the_same_node_is_no_alarm() -> None:
    """With the next key in code, nobody has told that the old one was the node's too."""
    both = Both(NEW.public)
    both.greet()
    fresh = both.caller.successor()
    fresh.receive_data(b"ASYS\x01\x00" + OLD.public, 0.0)
    fresh.lost()
    assert isinstance(fresh.error, asys.ConnectionLost)
    other = both.caller.successor()
    other.receive_data(b"ASYS\x01\x00" + OTHER.public, 0.0)
    other.lost()
    assert isinstance(other.error, asys.HostKeyChanged)


def test_a_connection_that_lives_long_asks_again() -> None:
    both = Both()
    both.greet(rotating=False)
    for now in (LOOK_SECONDS - 1, LOOK_SECONDS, LOOK_SECONDS + 1):
        both.caller.request(isa.SYS_HELLO, (), {}, now)
        asked = both.asked()
        assert asked == ([0, 1] if now == LOOK_SECONDS else [1])
        if now == LOOK_SECONDS:
            both.say(page(0, rotating=True), HELLO.pack() + OK)
            assert both.asked() == [KEY_STATEMENT.code]
            both.say(STATED.pack() + OK)
        else:
            both.say(HELLO.pack() + OK)
    assert both.caller.node_keys.next_key == NEW.public
    both.caller.request(isa.SYS_HELLO, (), {}, 3 * LOOK_SECONDS)
    assert both.asked() == [1]  # once a connection
    assert both.traced == ["SYS_CAPS"] * 4 + ["SYS_HELLO"] * 3


def test_one_that_is_only_kept_alive_asks_too() -> None:
    both = Both()
    both.greet(rotating=False)
    both.caller.keep_alive(LOOK_SECONDS)
    assert both.asked() == [0, 1]
    both.say(page(0, rotating=True), HELLO.pack() + OK)
    assert both.asked() == [KEY_STATEMENT.code]
    both.say(STATED.pack() + OK)
    assert both.caller.node_keys.next_key == NEW.public


def test_a_deployed_node_is_asked_nothing() -> None:
    both = Both(more=())
    both.open()
    assert both.asked() == [0] * 4
    both.say(*[answer_caps(FrameParser().feed(bytes.fromhex("000000000000"))[0])] * 4)
    assert both.caller.opening.answered
    assert both.asked() == []


# -- what is written


def stated() -> StatedKey:
    return StatedKey(OLD.public, NEW.public, 7, 9, STATED.signature)


def test_it_is_said_where_it_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hosts = asys.KnownHosts(tmp_path / "known_hosts")
    hosts.add("node", 1, OLD.public)
    record = KeyRecord(
        ADDRESS, OLD.public, frozenset(), lambda statements: hosts.carry("node", 1, statements)
    )
    record.stated(stated(), OLD.public)
    assert hosts.lookup("node", 1) == record.next_key == NEW.public
    assert "it is on record now" in caplog.text


def test_it_is_said_where_it_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    def carry(statements: object) -> bytes:
        raise asys.IdentityError("the disk is full")

    record = KeyRecord(ADDRESS, OLD.public, frozenset(), carry)
    with caplog.at_level(logging.WARNING, "asys.client"):
        record.stated(stated(), OLD.public)
    assert record.next_key == NEW.public
    assert "it could not be written: the disk is full" in caplog.text


def test_a_record_that_says_otherwise_is_told() -> None:
    def carry(statements: object) -> bytes:
        raise BadStatement("it leads back")

    record = KeyRecord(ADDRESS, OLD.public, frozenset(), carry)
    with pytest.raises(asys.BadKeyStatement, match="it leads back"):
        record.stated(stated(), OLD.public)
    assert record.next_key is None
