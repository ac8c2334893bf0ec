"""An agent that sends any bytes at all, over a blocking socket, and gives answers as they are.

Every wait ends after PATIENCE: a test of a silent node fails and does not hang.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Final, TypeAlias

from asys.errors import LinkError
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MAGIC, MESSAGE_2_SIZE, PRE_HANDSHAKE_SIZE
from asys.protocol.link import AgentLink, LinkState
from support.frames import HELLO, Frames

PATIENCE: Final = 60.0
"""Seconds until a node that does not answer counts as broken."""

Address: TypeAlias = "tuple[str, int] | str"
"""Host and port, or the path of a Unix socket."""


class Ended(Exception):
    """The node has closed the connection."""


class RawAgent(Frames):
    """A connection; after `handshake`, a session."""

    def __init__(self, address: Address, source: str = "") -> None:
        """`source` is the address of this machine that it comes from; "": whichever fits."""
        super().__init__()
        self.answers: list[bytes] = []
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(
                address, PATIENCE, source_address=(source, 0) if source else None
            )
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- bytes

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def read(self, size: int = 1 << 16) -> bytes:
        """What is there, or comes next. Ended at the end, however it came."""
        try:
            data = self.socket.recv(size)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            raise Ended
        return data

    def read_exactly(self, size: int) -> bytes:
        """So many bytes."""
        data = b""
        while len(data) < size:
            data += self.read(size - len(data))
        return data

    def rest(self) -> bytes:
        """All bytes until the node closes."""
        data = b""
        try:
            while True:
                data += self.read()
        except Ended:
            return data

    # -- the handshake

    def magic(self) -> bytes:
        """Says who speaks; gives the node's static key."""
        self.write(MAGIC)
        return self.read_exactly(PRE_HANDSHAKE_SIZE)[-32:]

    def handshake(self, key: PrivateKey) -> None:
        """To an open session, whoever it is. Ended when the node closes."""
        self.link = AgentLink(key)
        self.write(self.link.data_to_send())
        self.link.receive_data(self.read_exactly(PRE_HANDSHAKE_SIZE))
        self.link.begin_handshake()
        self.write(self.link.data_to_send())
        self.link.receive_data(self.read_exactly(MESSAGE_2_SIZE))
        assert self.link.state is LinkState.OPEN

    # -- responses

    def answer(self) -> bytes:
        """The next response, status word and all. Ended when there will be none."""
        while not self.answers:
            self.link.receive_data(self.read())
            self.answers = self.link.messages()
        return self.answers.pop(0)

    def ask(self, message: bytes) -> bytes:
        """One request, and its response."""
        self.send(message)
        return self.answer()

    def ended(self) -> bool:
        """Waits for what comes next: True when it is the end, False when it is a response."""
        try:
            found = self.answer()
        except Ended:
            return True
        self.answers.insert(0, found)
        return False

    def final(self) -> list[bytes]:
        """All responses until the node closes."""
        found = []
        try:
            while True:
                found.append(self.answer())
        except Ended:
            return found

    def alive(self) -> bool:
        """Whether the session still answers."""
        try:
            return self.ask(HELLO)[:4] == MAGIC
        except (Ended, LinkError, ConnectionError):
            return False

    # -- the end

    def finish(self) -> None:
        """Says that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection without a farewell."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self) -> None:
        """Ends the connection."""
        self.socket.close()

    def __enter__(self) -> RawAgent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
