"""Every exception of ASys, in three families under one root.

    AsysError
    |-- ArgumentError (ValueError)         yours: refused before a byte was sent
    |-- IdentityError                      a key file or known_hosts that cannot be used
    |-- InventoryError                     a fleet's list of nodes that cannot be used
    |-- LinkError (ConnectionError)        the connection: nothing was answered
    |   |-- ConnectFailed                  the node cannot be reached
    |   |-- UnknownHost                    the node's key is not in known_hosts
    |   |-- HostKeyChanged                 known_hosts has another key for this node
    |   |-- BadKeyStatement                the node states a next key, and not as it must be
    |   |-- AgentRejected                  the node does not know this agent's key
    |   |-- SessionLimit                   the node has no room for another session
    |   |-- ConnectionLost                 the connection ended
    |   |-- SessionEnded                   what is named went with its session; nothing was sent
    |   |-- DeadlineExceeded (TimeoutError) no answer in time
    |   `-- ProtocolError                  the peer sent what the protocol does not allow
    |       |-- HandshakeError
    |       `-- ChannelError
    |-- OutcomeUnknown                     a signed instruction was sent and its answer is not known
    |   `-- AlreadyReceived                6985
    |-- StillSuspended                     a process was stopped and could not be continued
    `-- StatusError                        the node answered, and not with success
        |-- Blocked                        6400
        |-- WrongLength                    6700
        |-- Denied                         6982
        |-- InvalidPayload                 6A80
        |-- NoSuchInstruction              6A81
        |-- NotSupported                   6D00
        |-- ClassNotSupported              6E00
        `-- NodeError                      6F00 and every 6Fxx that has no class of its own
            |-- NodeOutOfMemory            6F01
            |-- NodeIOError                6F02
            |-- NodeNoSpace                6F03
            |-- NodeTimedOut               6F04
            |-- NodeBusy                   6F05
            `-- NodeUnknownError           6FFF

AlreadyReceived is a StatusError as well: it has a status word, and says only that the first
delivery arrived. No message ever holds key material.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Final

from asys.protocol.status import SW, explain


class AsysError(Exception):
    """Root of everything that ASys raises on purpose."""


class ArgumentError(AsysError, ValueError):
    """An argument is wrong; nothing was sent. The message says which one and what is allowed."""


class IdentityError(AsysError):
    """A key file or `known_hosts` cannot be used; the message says how to mend it."""


class InventoryError(AsysError):
    """A fleet's list of nodes cannot be used; the message names the file, the line and the key."""


class LinkError(AsysError, ConnectionError):
    """The connection failed; no status word was received."""


class ConnectFailed(LinkError):
    """The node cannot be reached at all."""


class UnknownHost(LinkError):
    """The node's key is not in `known_hosts`; `host` and `key` (32 bytes) are what was seen.

    Library code never adds a key by itself. Compare the fingerprint with `asyd pubkey` on the node,
    then add it with `asys trust` or `KnownHosts.add`.
    """

    def __init__(self, host: str, key: bytes) -> None:
        super().__init__(
            f"{host} shows the key {key.hex()}, which known_hosts does not have; compare it with "
            f"`asyd pubkey` on the node, then run: asys trust {host}"
        )
        self.host = host
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.host, self.key)


class HostKeyChanged(LinkError):
    """The node shows another key than the expected one, and could not prove that it has that one
    too: possibly somebody in between.
    """

    def __init__(self, host: str, key: bytes, known: bytes) -> None:
        super().__init__(
            f"THE KEY OF {host} HAS CHANGED: {known.hex()} is expected, the node shows "
            f"{key.hex()}. Somebody may be in between. If the node really has a new key, as "
            f"`asyd pubkey` there prints it, run: asys trust --replace {host}; or, with what `asyd "
            f"key statement` prints there: asys trust --statement FILE {host}"
        )
        self.host = host
        self.key = key
        self.known = known

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.host, self.key, self.known)


class BadKeyStatement(LinkError):
    """The node has stated a next key, and the statement carries nobody over: `reason` says why.

    The key on record stays, and there is no connection (docs/protocol.md, section 8.4).
    """

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"{host} states a next key, and the statement is bad: {reason}. Nothing has changed "
            "here. Ask the admin of the node to look at `asyd key status`; if the node really has "
            f"another key, `asyd pubkey` there prints it, for: asys trust --replace {host}"
        )
        self.host = host
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.host, self.reason)


class AgentRejected(LinkError):
    """The node does not know this agent's key, or no longer does, or not from this address.

    An admin of the node adds the agent's public key: `asyd agents add KEY`.
    """


class SessionLimit(LinkError):
    """The node has no room for another session; back off and try again."""


class ConnectionLost(LinkError):
    """The connection ended. What was sent unsigned and not answered may be asked again."""


class SessionEnded(LinkError):
    """A task handle, or a PID, of a session that has ended, on a node that has reconnected.

    Nothing was sent. A task goes on, and its end cannot be asked any more: look at what it was to
    bring about. A PID may be another process by now, which the new session cannot tell before it
    has been shown it: look again (SYS_PROCS, PROC_TREE), then decide anew. What takes back, as
    continuing a process, is never refused for it.
    """


class DeadlineExceeded(LinkError, TimeoutError):
    """The peer did not answer in time."""


class ProtocolError(LinkError):
    """The peer sent what the protocol does not allow; the connection is of no further use."""


class HandshakeError(ProtocolError):
    """The handshake did not authenticate or had the wrong form."""


class ChannelError(ProtocolError):
    """A record did not decrypt, or its length is impossible."""


class OutcomeUnknown(AsysError):
    """A signed instruction was sent, and whether it ran is not known. Never take it for either.

    `seq` is its Seq in the session, `instruction` its name.
    """

    def __init__(self, message: str, *, instruction: str, seq: int) -> None:
        super().__init__(message)
        self.instruction = instruction
        self.seq = seq

    def __reduce__(self) -> tuple[object, ...]:
        rebuild = partial(type(self), instruction=self.instruction, seq=self.seq)
        return rebuild, (str(self),)


class StillSuspended(AsysError):
    """The process `pid` was stopped for a block and could not be continued, or may not have been.

    Its cause says why. It stays stopped until somebody continues it, or its lease ends.
    """

    def __init__(self, pid: int, reason: str) -> None:
        super().__init__(
            f"process {pid} is still stopped on the node, as far as is known: {reason}. Continue "
            f"it from another connection, or on the node with: asyd throttled release {pid}; by "
            "itself it goes on only where asyd has a --throttle-lease"
        )
        self.pid = pid
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.pid, self.reason)


class StatusError(AsysError):
    """The node answered with a status word other than success (docs/protocol.md, section 5).

    `sw` is the status word, `meaning` what it says, `advice` what to do, `instruction` what was
    asked for (empty where it is not known).
    """

    default_sw: ClassVar[int] = 0

    def __init__(self, sw: int | None = None, instruction: str = "") -> None:
        self.sw: int = self.default_sw if sw is None else int(sw)
        self.meaning, self.advice = explain(self.sw)
        self.instruction = instruction
        asked = f"{instruction}: " if instruction else ""
        # Exception.__init__ by name: a subclass may have a second base with another signature.
        Exception.__init__(self, f"{asked}{self.sw:04X} {self.meaning}; {self.advice}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.sw, self.instruction)


class Blocked(StatusError):
    """6400: blocked for now, as by a full pool or a rate; back off exponentially, then retry."""

    default_sw = SW.BLOCKED


class WrongLength(StatusError):
    """6700: wrong length or malformed frame; do not send it again as it is."""

    default_sw = SW.WRONG_LENGTH


class Denied(StatusError):
    """6982: the instruction exists for this agent, and this use of it is refused.

    The target is outside its scope or nobody's to touch, it would hand on more than it has, or the
    security level is too low. Stop, log a security event.
    """

    default_sw = SW.DENIED


class AlreadyReceived(StatusError, OutcomeUnknown):
    """6985: the node had this Seq before; whether the first delivery worked is not known."""

    default_sw = SW.ALREADY_RECEIVED

    def __init__(self, sw: int | None = None, instruction: str = "", seq: int = 0) -> None:
        StatusError.__init__(self, sw, instruction)
        self.seq = seq

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.sw, self.instruction, self.seq)


class InvalidPayload(StatusError):
    """6A80: the parameters are invalid or name nothing that exists; do not retry with them."""

    default_sw = SW.INVALID_PAYLOAD


class NoSuchInstruction(StatusError):
    """6A81: the instruction does not exist for this agent; refresh the capability map."""

    default_sw = SW.NO_SUCH_INSTRUCTION


class NotSupported(StatusError):
    """6D00: granted, but this platform cannot do it; fall back."""

    default_sw = SW.NOT_SUPPORTED


class ClassNotSupported(StatusError):
    """6E00: protocol version or class not supported."""

    default_sw = SW.CLASS_NOT_SUPPORTED


class NodeError(StatusError):
    """6Fxx: the node itself failed; trip a circuit breaker and alert."""

    default_sw = SW.NODE_ERROR


class NodeOutOfMemory(NodeError):
    """6F01: the node is out of memory."""

    default_sw = SW.NODE_OUT_OF_MEMORY


class NodeIOError(NodeError):
    """6F02: input/output error on the node."""

    default_sw = SW.NODE_IO_ERROR


class NodeNoSpace(NodeError):
    """6F03: no space left on the node."""

    default_sw = SW.NODE_NO_SPACE


class NodeTimedOut(NodeError):
    """6F04: something that the node waited for did not answer."""

    default_sw = SW.NODE_TIMED_OUT


class NodeBusy(NodeError):
    """6F05: a resource of the node is busy."""

    default_sw = SW.NODE_BUSY


class NodeUnknownError(NodeError):
    """6FFF: the node failed in a way that it cannot name."""

    default_sw = SW.NODE_UNKNOWN_ERROR


STATUS_ERRORS: Final[dict[int, type[StatusError]]] = {
    kind.default_sw: kind
    for kind in (
        Blocked,
        WrongLength,
        Denied,
        AlreadyReceived,
        InvalidPayload,
        NoSuchInstruction,
        NotSupported,
        ClassNotSupported,
        NodeError,
        NodeOutOfMemory,
        NodeIOError,
        NodeNoSpace,
        NodeTimedOut,
        NodeBusy,
        NodeUnknownError,
    )
}
"""Status word -> exception."""


def status_error(sw: int, instruction: str = "", seq: int = 0) -> StatusError:
    """The exception for a status word; NodeError for an unknown 6Fxx, else plain StatusError."""
    kind = STATUS_ERRORS.get(sw)
    if kind is AlreadyReceived:
        return AlreadyReceived(sw, instruction, seq)
    if kind is None:
        kind = NodeError if sw >> 8 == 0x6F else StatusError
    return kind(sw, instruction)
