"""Frames as bytes, right and wrong ones, for agents of tests. Nothing is checked here."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from asys.conformance.frames import frame as frame
from asys.conformance.frames import header as header
from asys.protocol.link import AgentLink
from asys.protocol.signing import epoch_id

CAPS: Final = bytes.fromhex("000000000000")
HELLO: Final = bytes.fromhex("000100000000")
STATUS: Final = bytes.fromhex("000200000000")
PROCS: Final = bytes.fromhex("000300000000")

OK: Final = b"\x90\x00"
BLOCKED: Final = b"\x64\x00"
WRONG_LENGTH: Final = b"\x67\x00"
DENIED: Final = b"\x69\x82"
ALREADY_RECEIVED: Final = b"\x69\x85"
INVALID_PAYLOAD: Final = b"\x6a\x80"
NO_SUCH_INSTRUCTION: Final = b"\x6a\x81"
NOT_SUPPORTED: Final = b"\x6d\x00"
CLASS_NOT_SUPPORTED: Final = b"\x6e\x00"


def pid_payload(pid: int) -> bytes:
    """What PROC_THROTTLE is about."""
    return pid.to_bytes(4, "big")


def scrambled(size: int, seed: str = "") -> bytes:
    """Bytes without any order in them, the same in every run."""
    return hashlib.shake_128(seed.encode()).digest(size)


class Frames:
    """What an agent sends in a session. `seq` is the last Seq that `signed` gave out."""

    link: AgentLink

    def __init__(self) -> None:
        self.seq = 0

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        raise NotImplementedError

    def sealed(self, *messages: bytes) -> bytes:
        """The records that carry messages."""
        return self.link.seal(messages)

    def send(self, *messages: bytes) -> None:
        """Sends each as a message of its own, all in one write."""
        self.write(self.sealed(*messages))

    def tag(self, head: bytes, data: bytes) -> bytes:
        """The Auth_Tag of a frame."""
        assert self.link.keys is not None
        key = self.link.keys.agent_to_node
        return hmac.digest(key, head + epoch_id(key) + data, "blake2b")[:16]

    def signed(
        self,
        ins: int,
        payload: bytes = b"",
        p1: int = 0,
        p2: int = 0,
        *,
        seq: int | None = None,
        cla: int = 0x04,
        bad: bool = False,
    ) -> bytes:
        """A frame with a right tag, or a `bad` one; the next Seq unless one is given."""
        if seq is None:
            seq = self.seq = self.seq + 1
        data = seq.to_bytes(4, "big") + payload
        return self.tagged(ins, data, p1, p2, cla=cla, bad=bad)

    def tagged(
        self, ins: int, data: bytes, p1: int = 0, p2: int = 0, *, cla: int = 0x04, bad: bool = False
    ) -> bytes:
        """As `signed`, with whatever data."""
        tag = self.tag(header(ins, p1, p2, len(data), cla), data)
        if bad:
            tag = bytes((tag[0] ^ 1,)) + tag[1:]
        return frame(ins, data, p1, p2, cla=cla, tag=tag)

    def throttle(self, pid: int, action: int = 0) -> bytes:
        """A PROC_THROTTLE frame: 0 stops, 1 continues."""
        return self.signed(0x20, pid_payload(pid), action)

    def restart(self, name: str) -> bytes:
        """An SVC_RESTART frame."""
        return self.signed(0x22, name.encode("ascii"))
