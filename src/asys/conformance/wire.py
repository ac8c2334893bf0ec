"""An agent that can send any bytes, right or wrong, over a blocking socket. Every wait ends."""

from __future__ import annotations

import socket
import time
from typing import Final

from asys.client.address import Address
from asys.conformance import signing
from asys.conformance.frames import CLA_EXTENDED, CLA_SEALED, CLA_SIGNED, HELLO, frame, header
from asys.conformance.handshake import (
    MAGIC,
    MESSAGE_2_SIZE,
    PRE_HANDSHAKE_SIZE,
    RIGHT,
    AgentHandshake,
    Records,
    Rules,
    Unauthentic,
)

MOST: Final = 1 << 20
"""Bytes that are read where none, or few, should come."""


class WireError(Exception):
    """Something went otherwise than it should on the wire; the message says what."""


class Unreachable(WireError):
    """No connection, or it was closed before the node said a word to a right magic."""


class Ended(WireError):
    """The node has closed the connection where it should have gone on."""


class Silent(WireError):
    """The node has said nothing, or has not closed, within the time that it has for it."""


class Undecipherable(WireError):
    """A record of the node that does not open."""


class Wire:
    """A connection, and what travels on it as bytes."""

    def __init__(self, address: Address, timeout: float) -> None:
        """Connects. `timeout` is what each wait has, in seconds. Unreachable."""
        self.timeout: Final = timeout
        try:
            self._socket = _connected(address, timeout)
        except OSError as error:
            raise Unreachable(f"no connection: {error.strerror or error}") from None

    def send(self, data: bytes) -> None:
        """Sends bytes as they are. That the peer has gone is seen when reading."""
        try:
            self._socket.settimeout(self.timeout)
            self._socket.sendall(data)
        except TimeoutError:
            raise Silent("the node does not read") from None
        except OSError:
            return

    def read(self, within: float | None = None) -> bytes:
        """What comes next. Ended at the end, however it came; Silent."""
        wait = self.timeout if within is None else within
        try:
            self._socket.settimeout(max(wait, 0.001))
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise Silent(f"nothing came within {wait:g} s") from None
        except OSError:
            data = b""
        if not data:
            raise Ended("the node closed the connection")
        return data

    def read_exactly(self, size: int) -> bytes:
        """So many bytes. Bytes behind them stay for the next read. Ended, Silent."""
        data = b""
        deadline = time.monotonic() + self.timeout
        while len(data) < size:
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                found = self._socket.recv(size - len(data))
            except TimeoutError:
                raise Silent(
                    f"{len(data)} of {size} bytes came within {self.timeout:g} s"
                ) from None
            except OSError:
                found = b""
            if not found:
                raise Ended(f"the node closed the connection after {len(data)} of {size} bytes")
            data += found
        return data

    def rest(self, within: float | None = None) -> bytes:
        """All bytes until the node closes. Silent when it does not."""
        deadline = time.monotonic() + (self.timeout if within is None else within)
        data = b""
        try:
            while len(data) <= MOST:
                data += self.read(deadline - time.monotonic())
        except Ended:
            return data
        except Silent:
            raise Silent("the node did not close the connection") from None
        raise WireError("the node sends without end, and should have closed the connection")

    def overheard(self, seconds: float) -> bytes:
        """What the node says within a time although nobody has asked. Ended: it closed instead."""
        deadline = time.monotonic() + seconds
        data = b""
        try:
            while time.monotonic() < deadline and len(data) <= MOST:
                data += self.read(deadline - time.monotonic())
        except Silent:
            pass
        return data

    def finish(self) -> None:
        """Says that nothing more will be sent."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    # -- the steps up to a session

    def greet(self) -> bytes:
        """Says the magic; gives the pre-handshake frame. Unreachable where nothing comes of it."""
        self.send(MAGIC)
        try:
            return self.read_exactly(PRE_HANDSHAKE_SIZE)
        except Ended as end:
            raise Unreachable(f"no pre-handshake frame: {end}") from None


def _connected(address: Address, timeout: float) -> socket.socket:
    """A socket at the node. OSError."""
    if not address.path:
        made = socket.create_connection((address.host, address.port), timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(timeout)
        made.connect(address.path)
    except OSError:
        made.close()
        raise
    return made


class Session(Wire):
    """A connection behind its handshake. `seq` is the last Seq that `signed` gave out."""

    def __init__(
        self,
        address: Address,
        timeout: float,
        identity: bytes,
        node_key: bytes | None = None,
        rules: Rules = RIGHT,
    ) -> None:
        """As the agent with the private key `identity`; with the key that the node shows where
        `node_key` is None. Unreachable, Ended, Silent, Undecipherable.
        """
        super().__init__(address, timeout)
        self.seq = 0
        self.answers: list[bytes] = []
        try:
            self.shown = self.greet()
            handshake = AgentHandshake(identity, node_key or self.shown[6:], rules)
            self.message_1 = handshake.message_1()
            self.send(self.message_1)
            self.message_2 = self.read_exactly(MESSAGE_2_SIZE)
            to_node, to_agent = handshake.read_message_2(self.message_2)
        except Unauthentic:
            self.close()
            raise Undecipherable("message 2 does not authenticate") from None
        except WireError:
            self.close()
            raise
        self.records = Records(to_node, to_agent, rules)

    # -- messages

    def sealed_records(self, *messages: bytes) -> bytes:
        """The records that carry messages."""
        return b"".join(map(self.records.seal, messages))

    def say(self, *messages: bytes) -> None:
        """Sends each as a message of its own, all in one write."""
        self.send(self.sealed_records(*messages))

    def answer(self, within: float | None = None) -> bytes:
        """The next response, status word and all. Ended, Silent, Undecipherable."""
        deadline = time.monotonic() + (self.timeout if within is None else within)
        while not self.answers:
            data = self.read(deadline - time.monotonic())
            try:
                self.answers += self.records.feed(data)
            except Unauthentic:
                raise Undecipherable("a record of the node does not open") from None
        return self.answers.pop(0)

    def ask(self, message: bytes) -> bytes:
        """One request, and its response. Ended, Silent, Undecipherable."""
        self.say(message)
        return self.answer()

    def unasked(self, seconds: float) -> bytes | None:
        """A response within a time where none is due; None: there is none. Ended."""
        try:
            return self.answer(seconds)
        except Silent:
            return None

    def ended(self) -> bool:
        """Whether the node has ended the session: it answers nothing any more, and closes."""
        self.say(HELLO)
        try:
            self.answer()
        except (Ended, Undecipherable):
            return True
        except Silent:
            raise Silent("the node neither answers any more nor closes the connection") from None
        return False

    # -- frames with a tag

    def signed(
        self,
        ins: int,
        payload: bytes = b"",
        p1: int = 0,
        p2: int = 0,
        *,
        seq: int | None = None,
        cla: int = CLA_SIGNED,
        rules: signing.TagRules = signing.RIGHT,
    ) -> bytes:
        """A signed frame; with the next Seq unless one is given."""
        data = self._next(seq).to_bytes(4, "big") + payload
        return self.tagged(ins, data, p1, p2, cla=cla, rules=rules)

    def sealed(
        self,
        ins: int,
        payload: bytes = b"",
        p1: int = 0,
        p2: int = 0,
        *,
        seq: int | None = None,
        cla: int = CLA_SEALED,
        rules: signing.TagRules = signing.RIGHT,
    ) -> bytes:
        """An Enc+Sign frame; extended where its data needs it."""
        used = self._next(seq)
        if 20 + len(payload) > 0xFF:
            cla |= CLA_EXTENDED
        head = header(ins, p1, p2, 20 + len(payload), cla)
        ciphertext = signing.sealed(self.records.send_key, head, used, payload, rules)
        return self.tagged(ins, used.to_bytes(4, "big") + ciphertext, p1, p2, cla=cla)

    def tagged(
        self,
        ins: int,
        data: bytes,
        p1: int = 0,
        p2: int = 0,
        *,
        cla: int = CLA_SIGNED,
        rules: signing.TagRules = signing.RIGHT,
    ) -> bytes:
        """A frame with a right tag over whatever data."""
        head = header(ins, p1, p2, len(data), cla)
        tag = signing.auth_tag(self.records.send_key, head, data, rules)
        return frame(ins, data, p1, p2, cla=cla, tag=tag)

    def _next(self, seq: int | None) -> int:
        if seq is None:
            self.seq += 1
            return self.seq
        return seq
