"""A small node that does what the specification says, made to be broken.

    with Node() as node:
        runner.run(node.target(), plan)

It says canned things of a machine that is not there, over real loopback sockets, a thread for each
connection. A broken node is a subclass that does one thing otherwise (`broken/`).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from asys.client.address import Address
from asys.conformance.handshake import (
    MAGIC,
    MESSAGE_1_SIZE,
    Records,
    Symmetric,
    Unauthentic,
)
from asys.conformance.probe import Target, Timing
from conformance.checks import Checks
from conformance.parts import (
    CHAINABLE,
    DENIED,
    TIMING,
    WRONG_CLASS,
    WRONG_LENGTH,
    Closing,
    Connection,
    Frame,
    Gone,
    public,
)


class Node(Checks):
    """The node. Each method is one thing that it does, so that a subclass can do it wrong."""

    caught_by: ClassVar[tuple[str, ...]] = ()
    """Of a broken node: the cases that fail, all of them."""
    named: ClassVar[str] = ""
    """Of a broken node: words that stand in the report."""
    up_to: ClassVar[int] = 6
    """The cases up to this level are run."""
    slow: ClassVar[bool] = False
    """Whether those that wait for long deadlines are run too."""
    timing: ClassVar[Timing] = TIMING
    """What the kit expects, and how long it waits."""

    def __init__(self) -> None:
        super().__init__()
        self._ids = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._threads: list[threading.Thread] = []

    # -- for tests

    def target(self) -> Target:
        """This node, with all means."""
        host, port = self._listener.getsockname()[:2]
        return Target(
            Address.of(host, port),
            self.main.private_bytes_raw(),
            public(self.private),
            other=self.other.private_bytes_raw(),
            pid=self.PID,
            service=self.SERVICE,
            outside_pid=self.OUTSIDE_PID,
            outside_service=self.OUTSIDE_SERVICE,
            chainable=CHAINABLE,
            slow=self.slow,
        )

    def __enter__(self) -> Node:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for one in list(self.connections):
            one.end()
        for thread in self._threads[1:]:
            thread.join()

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name="model-node")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(taken)
            with self.lock:
                self.connections.append(connection)
            self._start(lambda one=connection: self._serve(one))  # type: ignore[misc]

    def _serve(self, one: Connection) -> None:
        try:
            self.converse(one)
        except (Gone, Unauthentic):
            pass
        except Closing as end:
            if end.answer:
                one.say(end.answer)
        finally:
            one.end()
            with self.lock:
                self.connections.remove(one)
            one.socket.close()

    # -- a conversation

    def converse(self, one: Connection) -> None:
        """From the first byte to the last."""
        self.read_magic(one)
        one.send(self.pre_handshake_frame())
        self.shake_hands(one)
        known = self.knows(one.agent)
        if known is None:
            self.refuse_stranger(one)
            return
        one.send(self.greeting(one))
        with self.lock:
            self._ids += 1
            one.id = self._ids
        last = time.monotonic()
        begun: float | None = None
        while True:
            due = last + self.deadlines.idle
            if begun is not None:
                due = min(due, begun + self.deadlines.frame)
            known = self.knows(one.agent)
            if known is not None and known.expires:
                due = min(due, known.expires)
            messages = self.messages(one, due)
            one.fresh = False
            for message in messages:
                one.confirmed = True
                if self.take(one, message, messages):
                    last = time.monotonic()
            begun = (begun or time.monotonic()) if one.stream else None

    def read_magic(self, one: Connection) -> None:
        """The magic, byte by byte. Gone where it is another."""
        deadline = one.began + self.deadlines.magic
        for octet in MAGIC:
            if one.read(deadline, 1)[0] != octet:
                self.wrong_magic(one)

    def wrong_magic(self, one: Connection) -> None:
        """Close, without a byte."""
        raise Gone

    def version(self) -> bytes:
        """Protocol version of the pre-handshake frame."""
        return b"\x01\x00"

    def pre_handshake_frame(self) -> bytes:
        """38 bytes."""
        return MAGIC + self.version() + public(self.private)

    def ephemeral(self) -> X25519PrivateKey:
        """A new key for each handshake."""
        return X25519PrivateKey.generate()

    def exchange(self, private: X25519PrivateKey, peer: bytes) -> bytes:
        """X25519. Unauthentic for a key of low order."""
        try:
            return private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise Unauthentic from None

    def shake_hands(self, one: Connection) -> None:
        """Message 1 and message 2. Unauthentic, Gone."""
        message = one.read_exactly(MESSAGE_1_SIZE, one.began + self.deadlines.handshake)
        if self.replayed(message):
            raise Gone
        remote = message[:32]
        private = self.meant(message)
        state = self.begun(private, remote)
        one.agent = state.open(message[32:80])
        state.mix_key(self.exchange(private, one.agent))
        state.open(message[80:])
        self.replays.add(remote)
        mine = self.ephemeral()
        state.mix_hash(public(mine))
        state.mix_key(self.exchange(mine, remote))
        if self.rules.static_se:
            state.mix_key(self.exchange(private, remote))
        else:
            state.mix_key(self.exchange(mine, one.agent))
        one.send(self.message_2(public(mine) + state.seal(b"")))
        one.k, back = state.split()
        one.records = Records(back, one.k, self.rules)

    def begun(self, private: X25519PrivateKey, remote: bytes) -> Symmetric:
        """A handshake up to `es`, with one of the node's keys. Unauthentic."""
        state = Symmetric(self.rules)
        state.mix_hash(public(private))
        state.mix_hash(remote)
        state.mix_key(self.exchange(private, remote))
        return state

    def meant(self, message_1: bytes) -> X25519PrivateKey:
        """The key that it was made for: the next one where it opens with that, else the old one."""
        with contextlib.suppress(Unauthentic):
            self.begun(self.next, message_1[:32]).open(message_1[32:80])
            return self.next
        return self.private

    def message_2(self, message: bytes) -> bytes:
        """As it travels: bare."""
        return message

    def replayed(self, message_1: bytes) -> bool:
        """Whether this message 1 was here before."""
        return message_1[:32] in self.replays

    def refuse_stranger(self, one: Connection) -> None:
        """An unknown key: 6982, unasked."""
        one.say(DENIED)

    def greeting(self, one: Connection) -> bytes:
        """To a known agent, before it asks: nothing."""
        return b""

    def messages(self, one: Connection, due: float) -> list[bytes]:
        """The messages that have come. Unauthentic, Gone."""
        return one.records.feed(one.read(due))

    # -- frames

    def take(self, one: Connection, message: bytes, batch: list[bytes]) -> int:
        """Answers the frames that are whole with this message; says how many."""
        one.stream += message
        answered = 0
        while True:
            fault = self.fault(one.stream)
            if fault is not None:
                self.malformed(one, fault)
                return answered
            frame = self.cut(one)
            if frame is None:
                return answered
            answer = self.judge(one, frame)
            if answer is not None:
                self.reply(one, frame, answer)
            answered += 1

    def malformed(self, one: Connection, fault: bytes) -> None:
        """The answer to a malformed frame, and the end."""
        raise Closing(fault)

    def reply(self, one: Connection, frame: Frame, answer: bytes) -> None:
        """Sends an answer."""
        one.say(answer)

    def fault(self, stream: bytes) -> bytes | None:
        """The status word for what is malformed at the front of the stream."""
        if not stream:
            return None
        cla = stream[0]
        if cla & 0xE0 or cla >> 2 & 3 == 3:
            return WRONG_CLASS
        if cla & 1:
            return WRONG_LENGTH
        if cla & 2 and stream[4:5] not in (b"", b"\0"):
            return WRONG_LENGTH
        if cla & 2 and len(stream) >= 7 and self.extended_length(stream) > 65494:
            return WRONG_LENGTH
        return None

    def extended_length(self, stream: bytes) -> int:
        """Lc of an extended frame."""
        return int.from_bytes(stream[5:7], "big")

    def frame_size(self, stream: bytes) -> int:
        """Bytes of the frame at the front, once its header is there; else 0."""
        extended = stream[0] & 2
        head = 7 if extended else 5
        if len(stream) < head:
            return 0
        length = self.extended_length(stream) if extended else stream[4]
        return head + length + (2 if extended else 1) + (16 if stream[0] & 0x0C else 0)

    def cut(self, one: Connection) -> Frame | None:
        """The next whole frame, taken off the stream."""
        stream = one.stream
        size = self.frame_size(stream) if stream else 0
        if not size or len(stream) < size:
            return None
        one.stream = stream[size:]
        cla, ins, p1, p2 = stream[:4]
        head = stream[: 7 if cla & 2 else 5]
        tag = stream[size - 16 : size] if cla & 0x0C else b""
        body = stream[len(head) : size - len(tag)]
        le = 2 if cla & 2 else 1
        return Frame(cla, ins, p1, p2, head, body[:-le], body[-le:], tag)
