"""What cuts a process off the network: signed (docs/protocol.md, section 7.15).

Its code is in group 2, Process Control, as it is done to a process.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from asys.isa.definition import Empty, Guide, Instruction, Level, Risk
from asys.protocol.codec import Layout, layout, p1, p2, u32


class IsolateAction(IntEnum):
    """What NET_ISOLATE does."""

    ISOLATE = 0
    RELEASE = 1


@layout
class Isolate(Layout):
    """Which process, and how it is cut off. 4 bytes, or 8 with a TTL."""

    pid: Annotated[int, u32("process id; at a release the one given when it was isolated", least=1)]
    action: Annotated[
        IsolateAction | Literal["isolate", "release"],
        p1("0 isolate, 1 release", enum=IsolateAction),
    ]
    keep_loopback: Annotated[
        bool, p2("bit 0: packets between addresses of loopback pass", boolean=True)
    ] = False
    ttl_s: Annotated[
        int,
        u32(
            "how long until the node releases it by itself; 0 or left out: never",
            unit="s",
            optional=True,
            only_with=("action", IsolateAction.ISOLATE),
        ),
    ] = 0


NET_ISOLATE = Instruction(
    0x21,
    "NET_ISOLATE",
    since="0.1.0",
    request=Isolate,
    reply=Empty,
    level=Level.SIGNED,
    guide=Guide(
        description="Cuts a process and its descendants off the network, with the connections that "
        "they have; or releases them. They run on, and keep what they have in memory and on disk.",
        when="A process looks compromised: cut it off, then look at it. Give a TTL when nobody may "
        "be there to release it.",
        when_not="For a process that your own way to this node goes through. Not to make a service "
        "go away: its clients wait until they give up.",
        side_effects="Peers see silence; connections outlast a short isolation and time out in a "
        "long one. Connections not yet accepted are closed. Unix sockets and raw link access "
        "(AF_PACKET) are not cut.",
        reversible="Fully: action release, or the TTL. What timed out meanwhile is lost.",
        risk=Risk.HIGH,
    ),
)

INSTRUCTIONS = (NET_ISOLATE,)
