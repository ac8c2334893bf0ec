"""Writes instructions.json of the test vectors anew: a request and a reply of each instruction.

    python tools/conformance_vectors.py

Requests are made from the declarations, as the examples of docs/instructions.md are. Replies stand
here as bytes, and what they say is read from them. What changes is seen in the difference: look at
it before you commit it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from asys import isa
from asys.cli.values import as_data
from asys.isa import sample
from asys.isa.definition import AnyInstruction, Level
from asys.protocol.apdu import FrameParser
from asys.protocol.signing import Verifier

FILE: Final = (
    Path(__file__).parents[1] / "src" / "asys" / "conformance" / "vectors" / "instructions.json"
)

NOTE: Final = (
    "A request and a reply of each instruction, in clear. Requests are at the level of the "
    "instruction; signed and Enc+Sign ones have the K given here and Seq 1. `fields` are those of "
    "the payload, and P1 and P2 where they have a meaning; a reading that travels x 10 or x 100 is "
    "given as it is meant. A reply is payload || SW; that of a refusal is the status word alone."
)

_KEY_HASH: Final = "a484d127"
_OLD_KEY: Final = "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"
_NEXT_KEY: Final = "ab9f2628c325c141e9fb2430f106850f62930bc3f0b12df39a9b84a49c7c1d12"
_STATED: Final = (
    "10fad669008b0404f209db7a66b90bed278e4b87db0ab29e17e9f7d5d8b529ec"
    "e5524224219e416d9f9f3fb97675982c37df4d18c1bcadddd9aa20c5ca1c6a0b"
)
"""The private key behind the first is 01 02 .. 20; the random bytes in the signature are zeros."""

_LOG_TEXT: Final = b"disk full"
_UNIT: Final = b"web.service".ljust(32, b"\0")

REPLIES: Final[dict[str, str]] = {
    "SYS_CAPS": "0002000f0000000501000612002c0002000100005e29000000000003efe3000101009000",
    "SYS_HELLO": "415359533d1219c718e9c9ca6d359f719000",
    "SYS_STATUS": "1812640000590e0b000000050001000232000000009000",
    "SYS_PROCS": "007c000064202434010400003de4079f010400003ea905b700020000000000000000"
    "0000000000000000 9000",
    "CONTINUE": "9000",
    "TASK_QUERY": "01 9000",
    "TASK_CANCEL": "04 9000",
    "REKEY": "9000",
    "ABANDON": "0002 9000",
    "KEY_STATEMENT": _OLD_KEY + _NEXT_KEY + "6b49d200 6b715f00" + _STATED + "9000",
    "PROC_THROTTLE": "9000",
    "NET_ISOLATE": "9000",
    "SVC_RESTART": "00057bb0 9000",
    "LOG_SUMMARY": "00000007 01 01 0001"
    "0123456789abcdef 18e9c9ca6d359f71 00000007 00003ec9 03 000000" + _UNIT.hex() + "9000",
    "LOG_DETAIL": "01 00 0000 18e9c9ca6d359f71 00003ec9 03 00 0009" + _LOG_TEXT.hex() + "9000",
    "PROC_TREE": "0003 0002 0001 0000"
    "00000001 00000000 00000000 0000 0001 00 53 04 00"
    + b"systemd".ljust(16, b"\0").hex()
    + "00003ec9 00000001 000003e8 2434 0004 01 52 00 03"
    + b"web".ljust(16, b"\0").hex()
    + "9000",
    "AGENT_ADD": _KEY_HASH + "9000",
    "AGENT_REMOVE": "9000",
    "AGENT_LIST": "0001 01 00"
    "761b4d9b298c1bfb6ca1d979a5d4b59d9f0b849eb09e8c429b6e3f032476147c"
    + _KEY_HASH
    + "000a000f00000004000000000000000000000000000000000000000000000000"
    "6b49d200 01 000000" + b"web-1".ljust(32, b"\0").hex() + "9000",
}
"""A reply of each instruction, with the status word."""


def _request(one: AnyInstruction) -> dict[str, Any]:
    frame = sample.frame(one)
    cut = FrameParser().push(frame)
    if cut is None:
        raise ValueError(f"{one.name}: its example is no frame")
    if one.level is not Level.PLAIN:
        verifier = Verifier(sample.SESSION_KEY)
        verifier.verify(cut)
        opened = verifier.open(cut)
        if opened is None:
            raise ValueError(f"{one.name}: its example does not open")
        cut = opened
    payload = cut.data if one.level is Level.PLAIN else cut.data[4:]
    return {
        "frame": frame.hex(),
        "payload": payload.hex(),
        "fields": as_data(one.parse(cut.p1, cut.p2, payload)),
    }


def _reply(one: AnyInstruction) -> dict[str, Any]:
    message = bytes.fromhex(REPLIES[one.name])
    return {"message": message.hex(), "fields": as_data(one.reply.unpack(message[:-2]))}


def text() -> str:
    """What stands in the file."""
    data = {
        "note": NOTE,
        "signing_key": sample.SESSION_KEY.hex(),
        "instructions": [
            {
                "code": f"{one.code:02X}",
                "name": one.name,
                "level": one.level.title,
                "request": _request(one),
                "reply": _reply(one),
            }
            for one in isa.REGISTRY
        ],
    }
    return json.dumps(data, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
