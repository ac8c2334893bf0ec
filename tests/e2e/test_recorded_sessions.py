"""Every request of the recorded sessions again, to an asyd of ours.

It gives the recorded status word, and as many bytes, but where the specification says otherwise
than the deployed node that was recorded: those stand in DIFFERENT, each with its reason.
"""

from __future__ import annotations

from typing import Final

import pytest

from asys.conformance.vectors import load as load_vectors
from asys.protocol.apdu import FrameParser
from asys.protocol.limits import SEQ_SIZE
from support.children import waiting
from support.daemon import AGENT, DEPLOYED_AGENT, STRANGER, Daemon
from support.frames import CLASS_NOT_SUPPORTED, DENIED, OK, WRONG_LENGTH
from support.raw_agent import RawAgent
from support.sessions import SESSIONS, Exchange

RECORDED_PIDS: Final = (16073, 21299)
RECORDED_HANDLE: Final = bytes.fromhex("00057bb0")
RECORDED_WRONG_TAG: Final = "PROC_THROTTLE with a flipped tag bit"

DIFFERENT: Final = {
    # Sec = 11 is reserved, and a class that is not supported closes (section 2.4).
    "Sec 11, tag as for signed": CLASS_NOT_SUPPORTED,
    # No instruction can be sent in fragments, and a part is not the whole (section 2.4).
    "M = 1 on SYS_HELLO": WRONG_LENGTH,
    # The payload of PROC_THROTTLE has exactly 4 bytes (section 7.2).
    "PROC_THROTTLE continue with Lc 9": WRONG_LENGTH,
}

CLOSES: Final = {
    # See above.
    "Sec 11, tag as for signed",
    # Sec = 10 is Enc+Sign, and what does not open under it is as a wrong tag (section 3.3).
    "Sec 10 in the header, tag as for signed",
}

STAYS_OPEN: Final = {
    # 6985 does not close: an agent needs the session to ask for the handle (section 3.2).
    "replayed-seq",
    "seq-0",
    "seq-used-by-refusal",
}

CLOSED: Final[dict[str, bool]] = {
    one["name"]: one["node_closed_after"]
    for one in load_vectors("deployed-sessions.json")["sessions"]
}


def again(agent: RawAgent, one: Exchange, child: int, handle: bytes) -> bytes:
    """The request with the keys of this session, a process of ours and a handle of ours."""
    request = one.request.replace(RECORDED_HANDLE, handle)
    for pid in RECORDED_PIDS:
        request = request.replace(pid.to_bytes(4, "big"), child.to_bytes(4, "big"))
    if not request[0] & 0x0C or len(request) < 6 + 16:
        return request
    if request[0] & 0x0C == 0x0C:
        return request  # the tag does not matter
    (frame,) = FrameParser().feed(request)
    assert len(frame.data) < SEQ_SIZE or frame.header == one.request[:5]
    wrong = one.what == RECORDED_WRONG_TAG
    return agent.tagged(frame.ins, frame.data, frame.p1, frame.p2, cla=frame.cla, bad=wrong)


@pytest.mark.parametrize("name", [name for name in SESSIONS if name != "unknown-agent"])
def test_a_recorded_session(asyd: Daemon, name: str) -> None:
    handle = RECORDED_HANDLE
    agent = asyd.connect(DEPLOYED_AGENT)
    try:
        with waiting() as child:
            for one in SESSIONS[name].exchanges:
                agent.send(again(agent, one, child.pid, handle))
                if one.response is None:
                    continue
                answer = agent.answer()
                wanted = DIFFERENT.get(one.what, one.response)
                assert answer[-2:] == wanted[-2:], one.what
                assert len(answer) == len(wanted), one.what
                if one.request[1] == 0x22 and wanted[-2:] == OK:
                    handle = answer[:-2]
                if one.request[1] == 0x11:
                    assert answer == one.response, one.what
                if one.what in CLOSES:
                    assert agent.ended()
                    agent.close()
                    agent = asyd.connect(DEPLOYED_AGENT)
        assert agent.alive() is (not CLOSED[name] or name in STAYS_OPEN)
    finally:
        agent.close()


def test_the_recorded_stranger(asyd: Daemon) -> None:
    with asyd.connect(STRANGER) as agent:
        assert agent.final() == [SESSIONS["unknown-agent"].first_message] == [DENIED]


def test_every_difference_is_one() -> None:
    """None of them is left from a recording that says by now what we say."""
    recorded = {one.what: one.response for each in SESSIONS.values() for one in each.exchanges}
    assert DIFFERENT.keys() | CLOSES <= recorded.keys()
    assert all((recorded[what] or b"")[-2:] != answer for what, answer in DIFFERENT.items())
    assert all(CLOSED[name] for name in STAYS_OPEN)
    assert AGENT.public != STRANGER.public
