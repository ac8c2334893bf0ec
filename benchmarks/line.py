"""A connection with a node: what it sends is sealed beforehand, what it gets is checked after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from asys.errors import LinkError
from asys.isa import SYS_CAPS, Capabilities
from asys.protocol.apdu import encode_plain, split_response
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import (
    AEAD_TAG_SIZE,
    MAGIC,
    MESSAGE_2_SIZE,
    PRE_HANDSHAKE_SIZE,
    RECORD_PREFIX_SIZE,
    VERSION,
)
from asys.protocol.link import AgentLink, LinkState
from asys.protocol.status import SW
from benchmarks.loop import Turn, connect, receive
from benchmarks.plan import BenchmarkError

OVERHEAD: Final = RECORD_PREFIX_SIZE + AEAD_TAG_SIZE
"""Bytes that a record adds to its message."""


@dataclass(frozen=True, slots=True)
class Target:
    """A node to measure. `pid` is None where its process is not on this machine or not known."""

    name: str
    host: str
    port: int
    node_key: bytes
    agent: PrivateKey
    pid: int | None = None


class Line:
    """A session with a node. BenchmarkError when there cannot be one."""

    def __init__(self, target: Target) -> None:
        try:
            self.sock = connect(target.host, target.port)
        except OSError as error:
            raise BenchmarkError(f"{target.name} cannot be reached: {error}") from error
        self.link = AgentLink(target.agent)
        try:
            self._handshake(target)
            self.caps = self._capabilities(target)
        except BaseException:
            self.sock.close()
            raise

    def _handshake(self, target: Target) -> None:
        self.sock.sendall(self.link.data_to_send())
        self._take(PRE_HANDSHAKE_SIZE)
        if self.link.node_key != target.node_key:
            raise BenchmarkError(f"{target.name} shows another key than the one that is trusted")
        self.link.begin_handshake()
        self.sock.sendall(self.link.data_to_send())
        self._take(MESSAGE_2_SIZE)

    def _take(self, size: int) -> None:
        try:
            self.link.receive_data(receive(self.sock.recv, size))
        except LinkError as error:
            raise BenchmarkError(f"no handshake: {error}") from error

    def _capabilities(self, target: Target) -> Capabilities:
        answer = self.ask(encode_plain(SYS_CAPS.code))
        payload, sw = split_response(answer)
        if sw == SW.DENIED:
            raise BenchmarkError(
                f"{target.name} does not know the agent {target.agent.public.hex()}; "
                "add it to its authorized_agents"
            )
        if sw != SW.SUCCESS:
            raise BenchmarkError(f"{target.name} answers SYS_CAPS with {sw:04X}")
        return Capabilities.unpack(payload)

    def ask(self, frame: bytes) -> bytes:
        """One request and its answer, whatever its size; nothing is timed here."""
        self.sock.sendall(self.link.seal([frame]))
        recv = self.sock.recv
        prefix = receive(recv, RECORD_PREFIX_SIZE)
        return self.read([prefix + receive(recv, int.from_bytes(prefix, "big"))])[0]

    def turn(self, frames: Sequence[bytes], size: int) -> Turn:
        """Requests in one write; each is to be answered with `size` bytes, SW included."""
        return Turn(self.sock, self.link.seal(frames), len(frames) * (size + OVERHEAD))

    def read(self, answers: Sequence[bytes]) -> list[bytes]:
        """The messages in what has been received. BenchmarkError when they do not open."""
        try:
            self.link.receive_data(b"".join(answers))
            return self.link.messages()
        except LinkError as error:
            raise BenchmarkError(f"an answer does not open: {error}") from error

    def check(self, answers: Sequence[bytes], count: int) -> list[bytes]:
        """The payloads of `count` answers, each of which must be a success."""
        payloads = []
        for message in self.read(answers):
            payload, sw = split_response(message)
            if sw != SW.SUCCESS:
                raise BenchmarkError(f"a request was answered with {sw:04X}")
            payloads.append(payload)
        if len(payloads) != count:
            raise BenchmarkError(f"{len(payloads)} answers to {count} requests")
        return payloads

    def close(self) -> None:
        """Ends the session."""
        self.sock.close()

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class PreparedHandshake:
    """The agent's two messages of a handshake, made before the clock starts."""

    def __init__(self, target: Target) -> None:
        self._link = AgentLink(target.agent)
        self._expected = MAGIC + VERSION.to_bytes(2, "big") + target.node_key
        self._magic = self._link.data_to_send()
        self._link.receive_data(self._expected)
        self._link.begin_handshake()
        self._message_1 = self._link.data_to_send()

    def turns(self, host: str, port: int) -> list[Turn]:
        """The two messages on a new connection."""
        sock = connect(host, port)
        return [
            Turn(sock, self._magic, PRE_HANDSHAKE_SIZE),
            Turn(sock, self._message_1, MESSAGE_2_SIZE),
        ]

    def check(self, answers: Sequence[bytes]) -> None:
        """BenchmarkError unless the node answered as it must."""
        pre_frame, message_2 = answers
        if pre_frame != self._expected:
            raise BenchmarkError("the node shows another key or version than before")
        try:
            self._link.receive_data(message_2)
        except LinkError as error:
            raise BenchmarkError(f"a handshake failed: {error}") from error
        if self._link.state is not LinkState.OPEN:
            raise BenchmarkError("a handshake was not completed")
