"""Level 5: TASK_QUERY, PROC_THROTTLE and SVC_RESTART."""

from __future__ import annotations

from conformance.model import Node
from conformance.parts import DENIED, INVALID, OK, WRONG_LENGTH, Connection, Frame


class UnknownTaskIsError(Node):
    """6A80 for a handle that is not there."""

    caught_by = ("task.unknown", "task.more-ignored", "restart.ends", "restart.other-session")

    def do_11(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        if len(payload) >= 4 and payload[:4] not in one.tasks:
            return INVALID
        return super().do_11(one, frame, payload)


class UnknownTaskHasFailed(Node):
    """2 for a handle that is not there."""

    caught_by = UnknownTaskIsError.caught_by

    def do_11(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_11(one, frame, payload)
        return b"\x02" + OK if answer == b"\xff" + OK else answer


class ShortTask(Node):
    """FF for half a handle."""

    caught_by = ("task.short",)

    def do_11(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_11(one, frame, payload.ljust(4, b"\0"))


class ExactTask(Node):
    """6700 for bytes behind the handle."""

    caught_by = ("task.more-ignored",)

    def do_11(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return WRONG_LENGTH if len(payload) > 4 else super().do_11(one, frame, payload)


class ShortThrottle(Node):
    """Half a PID is one with zeros in front."""

    caught_by = ("throttle.length", "order.length-before-parameters")

    def do_20(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_20(one, frame, payload.rjust(4, b"\0"))


class LongThrottle(Node):
    """As deployed nodes do, and speaks part B."""

    caught_by = ("throttle.too-long",)

    def throttle_length(self, payload: bytes) -> bool:
        return len(payload) >= 4


class PidZero(Node):
    """PID 0 is only refused."""

    caught_by = ("throttle.pid-zero",)

    def do_20(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return DENIED if payload == bytes(4) else super().do_20(one, frame, payload)


class AnyAction(Node):
    """All but 1 is a stop."""

    caught_by = ("throttle.action",)

    def do_20(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        if frame.p1 > 1 and payload == self.PID.to_bytes(4, "big"):
            return OK
        return super().do_20(one, frame, payload)


class NobodyIsDenied(Node):
    """6982 for a process that is not there."""

    caught_by = ("throttle.no-process",)

    def do_20(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_20(one, frame, payload)
        return DENIED if answer == INVALID and payload[:1] == b"\x7f" else answer


class StopsOnce(Node):
    """A second STOP is an error."""

    caught_by = ("throttle.does",)

    def __init__(self) -> None:
        super().__init__()
        self._stopped: set[bytes] = set()

    def do_20(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_20(one, frame, payload)
        if answer == OK and frame.p1 == 0:
            if payload in self._stopped:
                return b"\x6f\x05"
            self._stopped.add(payload)
        elif answer == OK:
            self._stopped.discard(payload)
        return answer


class AnyUser(Node):
    """Does not look at users=."""

    caught_by = ("throttle.outside-users",)

    def in_users(self, one: Connection, pid: int) -> bool:
        return True


class EmptyName(Node):
    """6A80 for no name."""

    caught_by = ("restart.empty",)

    def do_22(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        return super().do_22(one, frame, payload) if payload else INVALID


class AnyCharacter(Node):
    """Takes any name of 64 bytes at most."""

    caught_by = ("restart.name",)

    def is_name(self, name: bytes) -> bool:
        return super().is_name(b"x" * len(name)) and not name.endswith(b".service")


class LongName(Node):
    """Takes a name of any length."""

    caught_by = ("restart.name",)

    def is_name(self, name: bytes) -> bool:
        return super().is_name(name[:64])


class WithSuffix(Node):
    """Takes .service off."""

    caught_by = ("restart.suffix",)

    def is_name(self, name: bytes) -> bool:
        return super().is_name(name.removesuffix(b".service"))


class UnknownServiceAtOnce(Node):
    """6A80 for a service that is not there."""

    caught_by = ("restart.no-service",)

    def do_22(self, one: Connection, frame: Frame, payload: bytes) -> bytes:
        answer = super().do_22(one, frame, payload)
        known = payload.decode("ascii", "replace") in self.SERVICES
        return answer if known or answer[-2:] != OK else INVALID


class HalfHandle(Node):
    """A handle whose second half is 0."""

    caught_by = ("restart.handle", "chain.grows", "chain.one-each")

    def new_handle(self, one: Connection) -> bytes:
        return super().new_handle(one)[:2] + bytes(2)


class RestartsTwice(Node):
    """Another task for what is pending."""

    caught_by = ("restart.once",)
    RESTART_SECONDS = 3.0

    def task_is_pending(self, name: str) -> bool:
        return False


class NeverFrees(Node):
    """Tells the end of a task as often as it is asked."""

    caught_by = ("restart.ends",)

    def task_status(self, one: Connection, handle: bytes) -> int:
        kept = one.tasks.get(handle)
        status = super().task_status(one, handle)
        if kept is not None:
            one.tasks[handle] = kept
        return status


class RestartFails(Node):
    """Its tasks end as cancelled."""

    caught_by = ("restart.ends",)

    def task_status(self, one: Connection, handle: bytes) -> int:
        status = super().task_status(one, handle)
        return 4 if status == 1 else status


class SharedTasks(Node):
    """A handle is everybody's."""

    caught_by = ("restart.other-session", "cancel.own-session")

    def task_status(self, one: Connection, handle: bytes) -> int:
        with self.lock:
            owner = next((other for other in self.connections if handle in other.tasks), one)
        return super().task_status(owner, handle)


class AnyService(Node):
    """Does not look at services=."""

    caught_by = ("restart.outside-services",)

    def in_services(self, one: Connection, name: str) -> bool:
        return True
