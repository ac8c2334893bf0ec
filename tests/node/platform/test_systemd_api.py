"""What systemd's answers mean."""

from __future__ import annotations

import pytest
from dbus_fast import Message, MessageType

from asys.node.platform.base import NoSuchTarget, NotPermitted, PlatformError, SystemFailure
from asys.node.platform.services.systemd_api import values
from asys.protocol.status import SW

DBUS = "org.freedesktop.DBus.Error"


def error(name: str, *text: str) -> Message:
    return Message(
        message_type=MessageType.ERROR,
        error_name=name,
        reply_serial=1,
        signature="s" * len(text),
        body=list(text),
    )


@pytest.mark.parametrize(
    ("name", "kind", "sw"),
    [
        ("org.freedesktop.systemd1.NoSuchUnit", NoSuchTarget, SW.INVALID_PAYLOAD),
        (f"{DBUS}.InvalidArgs", NoSuchTarget, SW.INVALID_PAYLOAD),
        (f"{DBUS}.AccessDenied", NotPermitted, SW.DENIED),
        (f"{DBUS}.InteractiveAuthorizationRequired", NotPermitted, SW.DENIED),
        (f"{DBUS}.NoMemory", SystemFailure, SW.NODE_OUT_OF_MEMORY),
        (f"{DBUS}.NoReply", SystemFailure, SW.NODE_TIMED_OUT),
        (f"{DBUS}.LimitsExceeded", SystemFailure, SW.NODE_BUSY),
        (f"{DBUS}.ServiceUnknown", SystemFailure, SW.NODE_ERROR),
        ("org.freedesktop.systemd1.ShuttingDown", SystemFailure, SW.NODE_ERROR),
    ],
)
def test_errors(name: str, kind: type[PlatformError], sw: SW) -> None:
    with pytest.raises(kind, match="systemd: in words") as caught:
        values(error(name, "in words"), "s")
    assert caught.value.sw == sw
    with pytest.raises(kind, match=f"systemd: {name}"):
        values(error(name), "s")


def test_an_answer_of_another_shape_is_refused() -> None:
    reply = Message(message_type=MessageType.METHOD_RETURN, reply_serial=1, signature="u", body=[5])
    assert values(reply, "u") == [5]
    with pytest.raises(SystemFailure, match="'u' and not 'o'"):
        values(reply, "o")
