"""systemd's side of D-Bus: the calls that are made to it, and what its answers mean."""

from __future__ import annotations

from typing import Any, Final

from dbus_fast import Message, MessageType

from asys.node.platform.base import NoSuchTarget, NotPermitted, SystemFailure
from asys.protocol.status import SW

SERVICE: Final = "org.freedesktop.systemd1"
MANAGER_PATH: Final = "/org/freedesktop/systemd1"
MANAGER: Final = "org.freedesktop.systemd1.Manager"
BUS: Final = "org.freedesktop.DBus"
UNITS: Final = "a(ssssssouso)"
"""A row of ListUnitsByNames: Id, description, load, active and sub state, followed unit, object,
job number, job type, job object."""

MATCHES: Final = (
    f"type='signal',sender='{SERVICE}',path='{MANAGER_PATH}',interface='{MANAGER}',"
    "member='JobRemoved'",
    f"type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg0='{SERVICE}'",
)

ABSENT: Final = {
    "org.freedesktop.systemd1.NoSuchUnit",
    "org.freedesktop.DBus.Error.InvalidArgs",  # what cannot be a unit's name
}
FORBIDDEN: Final = {
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    "org.freedesktop.DBus.Error.AuthFailed",
}
FAILURES: Final = {
    "org.freedesktop.DBus.Error.NoMemory": SW.NODE_OUT_OF_MEMORY,
    "org.freedesktop.DBus.Error.NoReply": SW.NODE_TIMED_OUT,
    "org.freedesktop.DBus.Error.Timeout": SW.NODE_TIMED_OUT,
    "org.freedesktop.DBus.Error.TimedOut": SW.NODE_TIMED_OUT,
    "org.freedesktop.DBus.Error.LimitsExceeded": SW.NODE_BUSY,
}


def manager_call(member: str, signature: str, *body: Any) -> Message:
    """A call of systemd's manager object."""
    return Message(
        destination=SERVICE,
        path=MANAGER_PATH,
        interface=MANAGER,
        member=member,
        signature=signature,
        body=list(body),
    )


def bus_call(member: str, argument: str) -> Message:
    """A call of the message bus itself."""
    return Message(
        destination=BUS,
        path="/org/freedesktop/DBus",
        interface=BUS,
        member=member,
        signature="s",
        body=[argument],
    )


def error_text(reply: Message) -> str:
    """What an error reply says."""
    return str(reply.body[0]) if reply.body else str(reply.error_name)


def values(message: Message, signature: str) -> list[Any]:
    """The values of a reply or signal; an error becomes its PlatformError."""
    if message.message_type is not MessageType.ERROR:
        if message.signature != signature:
            raise SystemFailure(
                f"systemd answers {message.signature!r} and not {signature!r}", SW.NODE_ERROR
            )
        return message.body
    error = message.error_name or ""
    text = f"systemd: {error_text(message)}"
    if error in ABSENT:
        raise NoSuchTarget(text)
    if error in FORBIDDEN:
        raise NotPermitted(text)
    raise SystemFailure(text, FAILURES.get(error, SW.NODE_ERROR))
