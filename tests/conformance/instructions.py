"""What the model node answers when every check has passed."""

from __future__ import annotations

import secrets
import threading
import time
from typing import ClassVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from asys.conformance import signing
from asys.conformance.delegate import wire_map
from asys.conformance.handshake import (
    RIGHT,
    Rules,
)
from asys.conformance.probe import Timing
from conformance.keys import signing_key
from conformance.machine import Machine
from conformance.parts import (
    ABSENT,
    ALL,
    BLOCKED,
    CHAINABLE,
    CORE,
    DENIED,
    INVALID,
    OK,
    TIMING,
    WRONG_LENGTH,
    Agent,
    Closing,
    Connection,
    Frame,
    public,
)


class Base(Machine):
    """What every part of it has."""

    rules: ClassVar[Rules] = RIGHT
    tag_rules: ClassVar[signing.TagRules] = signing.RIGHT
    seal_rules: ClassVar[signing.TagRules] = signing.RIGHT
    deadlines: ClassVar[Timing] = TIMING
    """What the node keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.signer, self.private = signing_key()
        self.next = X25519PrivateKey.generate()
        self.main, self.other = (X25519PrivateKey.generate() for _ in range(2))
        self.agents: dict[bytes, Agent] = {
            public(self.main): Agent(ALL),
            public(self.other): Agent((*CORE, 0x20, 0x22)),
        }
        self.connections: list[Connection] = []
        self.replays: set[bytes] = set()
        self.lock = threading.RLock()

    def knows(self, agent: bytes) -> Agent | None:
        """Who that is."""
        found = self.agents.get(agent)
        if found is not None and found.expires and time.monotonic() >= found.expires:
            return None
        return found


class Instructions(Base):
    """Core ISA, tasks, processes, Protocol Control, vendors and diagnostics."""

    # -- Core ISA

    def do_00(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """SYS_CAPS."""
        if frame.p1 > 3:
            return INVALID
        known = self.knows(one.agent)
        lit = wire_map(*(known.lit if known else ()))
        return self.caps(lit[8 * frame.p1 : 8 * frame.p1 + 8], frame.p1) + OK

    def do_01(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """SYS_HELLO."""
        return self.hello() + OK

    def do_02(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """SYS_STATUS."""
        return self.status() + OK

    def do_03(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """SYS_PROCS."""
        return self.procs() + OK

    # -- tasks

    def do_11(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """TASK_QUERY."""
        if len(payload) < 4:
            return WRONG_LENGTH
        return bytes((self.task_status(one, payload[:4]),)) + OK

    def task_status(self, one: Connection, handle: bytes) -> int:
        """Where a task of this session stands; a terminal answer frees it."""
        found = one.tasks.get(handle)
        if found is None:
            return 0xFF
        service, created = found
        if service in self.SERVICES and time.monotonic() - created < self.RESTART_SECONDS:
            return 0
        del one.tasks[handle]
        return 1 if service in self.SERVICES else 2

    def do_12(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """TASK_CANCEL."""
        if len(payload) != 4:
            return WRONG_LENGTH
        return bytes((self.task_status(one, payload),)) + OK

    # -- keys

    def do_15(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """KEY_STATEMENT."""
        if payload:
            return WRONG_LENGTH
        said = public(self.private) + public(self.next) + bytes.fromhex("6b49d2006b715f00")
        return said + self.signer.sign(self.context + said) + OK

    context: ClassVar[bytes] = b"asys-key-statement-v1"

    def new_handle(self, one: Connection) -> bytes:
        """The session's id, then a random number that is not 0."""
        return one.id.to_bytes(2, "big") + (1 + secrets.randbelow(0xFFFF)).to_bytes(2, "big")

    def do_22(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """SVC_RESTART."""
        if not payload:
            return WRONG_LENGTH
        if not self.is_name(payload):
            return INVALID
        name = payload.decode("ascii")
        if not self.in_services(one, name):
            return DENIED
        for handle, (other, _) in one.tasks.items():
            if other == name and self.task_is_pending(name):
                return handle + OK
        handle = self.new_handle(one)
        one.tasks[handle] = (name, time.monotonic())
        return handle + OK

    def task_is_pending(self, name: str) -> bool:
        """Whether a second request for it is the first one's."""
        return name in self.SERVICES

    def is_name(self, name: bytes) -> bool:
        """1 to 64 of some characters, without .service."""
        fine = all(octet in b"abcdefghijklmnopqrstuvwxyz0123456789_.-" for octet in name)
        return fine and len(name) <= 64 and not name.endswith(b".service")

    def in_services(self, one: Connection, name: str) -> bool:
        """Whether the agent may touch it."""
        return one.agent != public(self.other) or name != self.OUTSIDE_SERVICE

    # -- processes

    def do_20(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """PROC_THROTTLE."""
        if not self.throttle_length(payload):
            return WRONG_LENGTH
        pid = int.from_bytes(payload[:4], "big")
        if frame.p1 > 1 or pid == 0:
            return INVALID
        if pid == 1 or not self.in_users(one, pid):
            return DENIED
        return OK if pid in self.PIDS else INVALID

    def throttle_length(self, payload: bytes) -> bool:
        """4 bytes."""
        return len(payload) == 4

    def in_users(self, one: Connection, pid: int) -> bool:
        """Whether the agent may touch it."""
        return one.agent != public(self.other) or pid != self.OUTSIDE_PID

    def do_21(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """NET_ISOLATE, of nobody."""
        if len(payload) != 4 and (len(payload) != 8 or frame.p1 == 1):
            return WRONG_LENGTH
        pid = int.from_bytes(payload[:4], "big")
        return OK if pid in self.PIDS else INVALID

    # -- Protocol Control

    def do_13(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        """REKEY."""
        if payload:
            return WRONG_LENGTH
        if one.stream:
            raise Closing(WRONG_LENGTH)
        one.say(OK)
        self.rekey(one)
        return None

    def rekey(self, one: Connection) -> None:
        """New keys in both directions, and a new K."""
        one.records.rekey()
        one.k = one.records.receive_key

    def do_14(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """ABANDON."""
        if payload:
            return WRONG_LENGTH
        closed = 0
        with self.lock:
            for other in self.connections:
                if other is not one and self.abandons(one, other):
                    other.end()
                    closed += other.confirmed
        return self.abandoned(closed) + OK

    def abandons(self, one: Connection, other: Connection) -> bool:
        """Whether a session is of the same agent."""
        return other.agent == one.agent

    def abandoned(self, closed: int) -> bytes:
        """How many were closed, as it travels."""
        return closed.to_bytes(2, "big")

    def do_10(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """CONTINUE. What would be the last fragment is refused: nothing is carried out here."""
        if len(payload) < 4:
            return WRONG_LENGTH
        if one.chain is None or not self.chain_is(one, payload[:4]):
            return INVALID
        if frame.sec != one.chain[1]:
            return self.other_sec(one)
        return OK if frame.more else BLOCKED

    def chain_is(self, one: Connection, handle: bytes) -> bool:
        """Whether a handle is that of the session's chain."""
        return one.chain is not None and one.chain[0] == handle

    def other_sec(self, one: Connection) -> bytes:
        """A fragment with another Sec: the chain ends."""
        one.chain = None
        return DENIED

    def vendor(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """C0-FF: one vendor, with one instruction that takes fragments."""
        if len(payload) < 4 or len(payload) > 4 + 16384:
            return WRONG_LENGTH
        if payload[:4] != CHAINABLE.vendor_id.to_bytes(4, "big"):
            return DENIED
        if frame.ins != CHAINABLE.code:
            return ABSENT
        if not frame.more:
            return BLOCKED
        return self.first_fragment(one, frame)

    def first_fragment(self, one: Connection, frame: Frame) -> bytes:
        """A new chain; the one before it ends."""
        handle = self.new_handle(one)
        one.chain = (handle, frame.sec)
        return handle + OK

    # -- diagnostics

    def do_40(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """LOG_SUMMARY."""
        if len(payload) != 4:
            return WRONG_LENGTH
        if frame.p1 > 7 or frame.p2 > 32:
            return INVALID
        return self.log_summary(frame.p1, frame.p2 or 16) + OK

    def do_41(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """LOG_DETAIL."""
        if len(payload) != 8:
            return WRONG_LENGTH
        if frame.p1 > 30 or frame.p2 > 30 or not self.was_shown(payload):
            return INVALID
        return self.log_detail() + OK

    def do_42(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        """PROC_TREE."""
        if len(payload) != 4:
            return WRONG_LENGTH
        pid = int.from_bytes(payload, "big")
        return self.proc_tree(pid) + OK if pid in self.PIDS else INVALID
