"""Level 6: fragments, TASK_CANCEL, NET_ISOLATE, logs, trees and vendors."""

from __future__ import annotations

from conformance.broken.core import swapped, with_byte
from conformance.model import Node
from conformance.parts import ABSENT, DENIED, INVALID, OK, VENDOR_CODES, Connection, Frame


class IgnoresMore(Node):
    """As deployed nodes do, and speaks part B."""

    caught_by = ("chain.not-chainable",)

    def not_chainable(self, one: Connection, frame: Frame, payload: bytes) -> bytes | None:
        return self.run(one, frame, payload)


class UnknownChainIsDenied(Node):
    """6982 for an unknown chain."""

    caught_by = ("chain.unknown", "chain.one-sec", "chain.own-session", "chain.one-each")

    def do_10(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_10(one, frame, payload)
        return DENIED if answer == INVALID else answer


class OneFragment(Node):
    """A chain ends with its second fragment."""

    caught_by = ("chain.grows", "chain.one-each")

    def do_10(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_10(one, frame, payload)
        one.chain = None
        return answer


class MixedChain(Node):
    """Fragments with any Sec."""

    caught_by = ("chain.one-sec",)

    def other_sec(self, one: Connection) -> bytes:
        return OK


class SharedChains(Node):
    """A chain is everybody's."""

    caught_by = ("chain.own-session",)

    def do_10(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        with self.lock:
            chains = [other.chain for other in self.connections if other.chain is not None]
        found = [chain for chain in chains if chain[0] == payload[:4]]
        if one.chain is None and found:
            return OK
        return super().do_10(one, frame, payload)


class ManyChains(Node):
    """Chains as many as somebody begins."""

    caught_by = ("chain.one-each",)

    def chain_is(self, one: Connection, handle: bytes) -> bool:
        return one.chain is not None and handle[:2] == one.chain[0][:2]


class UnknownCancelIsError(Node):
    """6A80 for a task that is not there."""

    caught_by = ("cancel.unknown", "cancel.own-session")

    def do_12(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_12(one, frame, payload)
        return INVALID if answer == b"\xff" + OK else answer


class LongCancel(Node):
    """Ignores bytes behind the handle."""

    caught_by = ("cancel.length",)

    def do_12(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_12(one, frame, payload[:4])


class CancelsForOthers(Node):
    """Cancels whatever handle it is given."""

    caught_by = ("cancel.own-session",)

    def do_12(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        with self.lock:
            known = any(payload in other.tasks for other in self.connections)
        return b"\x04" + OK if known else super().do_12(one, frame, payload)


class AnyIsolation(Node):
    """Takes the first 4 bytes of what there is."""

    caught_by = ("isolate.length",)

    def do_21(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_21(one, frame, payload[:4])


class IsolatesZero(Node):
    """PID 0 is denied."""

    caught_by = ("isolate.pid-zero",)

    def do_21(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return DENIED if payload == bytes(4) else super().do_21(one, frame, payload)


class IsolatesNobody(Node):
    """Success for a process that is not there."""

    caught_by = ("isolate.nobody",)

    def do_21(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_21(one, frame, payload)
        return OK if answer == INVALID and any(payload) else answer


class AnySummary(Node):
    """Does not look at the length."""

    caught_by = ("logs.length",)

    def do_40(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_40(one, frame, payload.ljust(4, b"\0")[:4])


class AnyPriority(Node):
    """Takes any P1 and P2."""

    caught_by = ("logs.range",)

    def do_40(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_40(one, frame, payload)
        return self.log_summary(7, 16) + OK if answer == INVALID else answer


class ShortEvents(Node):
    """59 bytes for an event."""

    caught_by = ("logs.layout", "logs.order", "log-detail.layout")

    def events(self) -> list[bytes]:
        return [one[:-1] for one in super().events()]


class ReservedInEvent(Node):
    """Reserved bytes of an event are not zero."""

    caught_by = ("logs.layout",)

    def events(self) -> list[bytes]:
        return [with_byte(one, 26, 1) for one in super().events()]


class LatinUnit(Node):
    """A unit that is not UTF-8."""

    caught_by = ("logs.layout",)

    def events(self) -> list[bytes]:
        return [with_byte(one, 30, 0xE9) for one in super().events()]


class BestFirst(Node):
    """The least severe first."""

    caught_by = ("logs.order", "log-detail.layout")

    def events(self) -> list[bytes]:
        return super().events()[::-1]


class AnyPriorityShown(Node):
    """Shows what is less severe than P1 too."""

    caught_by = ("logs.order",)

    def log_summary(self, priority: int, wanted: int) -> bytes:
        return super().log_summary(7, wanted)

    def events(self) -> list[bytes]:
        worst, other = super().events()
        return [worst, with_byte(other, 24, 7)]


class AnyEvent(Node):
    """Shows events that nobody was shown."""

    caught_by = ("log-detail.unknown",)

    def was_shown(self, event: bytes) -> bool:
        return True


class AnyEventLength(Node):
    """Does not look at the length."""

    caught_by = ("log-detail.length",)

    def do_41(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_41(one, frame, payload.ljust(8, b"\0")[:8])


class LittleEndianMessage(Node):
    """The length of a message the wrong way round."""

    caught_by = ("log-detail.layout",)

    def entry(self, time_ns: int, message: bytes = b"disk full") -> bytes:
        return swapped(super().entry(time_ns, message), 14, 2)


class AnyTree(Node):
    """PID 0 is PID 1."""

    caught_by = ("tree.parameters",)

    def do_42(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        if payload == bytes(4):
            payload = (1).to_bytes(4, "big")
        return super().do_42(one, frame, payload)


class FlatTree(Node):
    """Everything on one level."""

    caught_by = ("tree.layout",)

    def process(self, pid: int, parent: int, depth: int, name: bytes) -> bytes:
        return super().process(pid, parent, min(depth, 1), name)


class WrongIndex(Node):
    """The process that was asked for is another one."""

    caught_by = ("tree.layout",)

    def proc_tree(self, pid: int) -> bytes:
        return with_byte(super().proc_tree(pid), 5, 1 if pid == 1 else 0)


class UnsignedVendor(Node):
    """A vendor's instruction from who has not signed it."""

    caught_by = ("vendor.unsigned",)

    def minimum(self, code: int) -> int:
        return 0 if code in VENDOR_CODES else super().minimum(code)

    def vendor(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().vendor(one, frame, payload) if frame.sec else OK


class ShortVendor(Node):
    """6982 where there is no vendor's id."""

    caught_by = ("vendor.short",)

    def vendor(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return DENIED if len(payload) < 4 else super().vendor(one, frame, payload)


class LongVendor(Node):
    """Takes a body of any length."""

    caught_by = ("vendor.short",)

    def vendor(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().vendor(one, frame, payload[:16384])


class TellsVendors(Node):
    """6A81 for a vendor that is not there."""

    caught_by = ("vendor.nobody",)

    def vendor(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().vendor(one, frame, payload)
        return ABSENT if answer == DENIED else answer
