"""Sessions recorded with a deployed node, derived again byte by byte."""

from __future__ import annotations

import hmac

import pytest

from asys.isa import REGISTRY, Capabilities, Status, TaskState, TaskStatus
from asys.isa.process import Restart, Throttle
from asys.protocol.apdu import (
    SEC_PLAIN,
    SEC_SIGNED,
    STANDARD_HEADER,
    Frame,
    FrameParser,
    check_class,
    encode_plain,
    split_response,
)
from asys.protocol.channel import Channel
from asys.protocol.codec import BadValue, WrongSize
from asys.protocol.limits import AUTH_TAG_SIZE, MAGIC, SEQ_SIZE
from asys.protocol.link import AgentLink, LinkState, NodeLink
from asys.protocol.noise import Initiator, Responder
from asys.protocol.signing import Signer, Verifier, epoch_id
from asys.protocol.status import SW
from support.sessions import SESSIONS, Exchange, Session

sessions = pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS.keys())
exchanges = pytest.mark.parametrize(
    ("session", "exchange"),
    [
        pytest.param(session, exchange, id=f"{session.name}: {exchange.what}")
        for session in SESSIONS.values()
        for exchange in session.exchanges
    ],
)

DIFFERS = {
    "Sec 11, tag as for signed": SW.CLASS_NOT_SUPPORTED,
    "PROC_THROTTLE continue with Lc 9": SW.WRONG_LENGTH,
}
"""Where the deployed node falls short of its specification: what the specification says."""


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _opened(session: Session) -> AgentLink:
    link = AgentLink(session.agent, ephemeral=session.agent_ephemeral)
    link.receive_data(session.pre_handshake_frame)
    link.begin_handshake()
    link.data_to_send()
    link.receive_data(session.message_2)
    return link


def test_all_sessions_are_here() -> None:
    assert len(SESSIONS) == 13
    assert sum(len(session.exchanges) for session in SESSIONS.values()) == 45


@sessions
def test_the_agents_side_of_the_handshake(session: Session) -> None:
    link = AgentLink(session.agent, ephemeral=session.agent_ephemeral)
    assert link.data_to_send() == session.magic == MAGIC
    link.receive_data(session.pre_handshake_frame)
    assert link.node_key == session.node.public
    assert link.node_version == 0x0100
    link.begin_handshake()
    assert link.data_to_send() == session.message_1
    link.receive_data(session.message_2)
    assert link.state is LinkState.OPEN
    assert link.keys is not None
    assert link.keys.handshake_hash == session.handshake_hash
    assert link.keys.agent_to_node == session.agent_to_node_key
    assert link.keys.node_to_agent == session.node_to_agent_key
    assert epoch_id(link.keys.agent_to_node) == session.epoch_id


@sessions
def test_the_initiator_alone(session: Session) -> None:
    initiator = Initiator(session.agent, session.node.public, ephemeral=session.agent_ephemeral)
    assert initiator.write_message_1() == session.message_1
    keys = initiator.read_message_2(session.message_2)
    assert keys.handshake_hash == session.handshake_hash
    assert (keys.agent_to_node, keys.node_to_agent) == (
        session.agent_to_node_key,
        session.node_to_agent_key,
    )


@sessions
def test_the_agent_reads_everything_one_byte_at_a_time(session: Session) -> None:
    link = AgentLink(session.agent, ephemeral=session.agent_ephemeral)
    for byte in _pieces(session.pre_handshake_frame, 1):
        assert link.state is LinkState.MAGIC
        link.receive_data(byte)
    link.begin_handshake()
    assert link.data_to_send() == MAGIC + session.message_1
    for byte in _pieces(session.message_2, 1):
        assert link.keys is None
        link.receive_data(byte)
    messages = []
    for byte in _pieces(b"".join(wire for _, wire in session.from_node), 1):
        link.receive_data(byte)
        messages += link.messages()
    assert messages == [clear for clear, _ in session.from_node]
    assert link.channel.buffered == 0


@sessions
def test_the_agent_reads_everything_in_one_piece_with_bytes_after_it(session: Session) -> None:
    link = AgentLink(session.agent, ephemeral=session.agent_ephemeral)
    link.receive_data(session.pre_handshake_frame)
    link.begin_handshake()
    wires = b"".join(wire for _, wire in session.from_node)
    link.receive_data(session.message_2 + wires + b"\x00")
    assert link.messages() == [clear for clear, _ in session.from_node]
    assert link.channel.buffered == 1


@sessions
def test_the_agent_seals_each_request_as_recorded(session: Session) -> None:
    link = _opened(session)
    for exchange in session.exchanges:
        assert link.seal([exchange.request]) == exchange.request_on_wire
        link.receive_data(exchange.response_on_wire)
        expected = [] if exchange.response is None else [exchange.response]
        if session.first_message:
            expected.insert(0, session.first_message)
        assert link.messages() == expected


@sessions
def test_the_node_reads_message_1(session: Session) -> None:
    responder = Responder(session.node)
    assert responder.read_message_1(session.message_1) == session.agent.public


@sessions
@pytest.mark.parametrize("size", [1, 3, 4, 5, 96, 4096])
def test_the_nodes_link_reads_magic_and_message_1(session: Session, size: int) -> None:
    link = NodeLink(session.node)
    sent = b""
    for piece in _pieces(session.magic + session.message_1, size):
        assert link.agent_key == b""
        link.receive_data(piece)
        sent += link.data_to_send()
    assert link.state is LinkState.OPEN
    assert link.agent_key == session.agent.public
    assert sent[:38] == session.pre_handshake_frame
    assert len(sent) == 38 + 48


@sessions
def test_the_nodes_link_keeps_bytes_behind_message_1(session: Session) -> None:
    link = NodeLink(session.node)
    behind = b"".join(exchange.request_on_wire for exchange in session.exchanges) + b"\x00"
    link.receive_data(session.magic + session.message_1 + behind)
    assert link.state is LinkState.OPEN
    assert link.channel.buffered == len(behind)


@sessions
def test_the_node_opens_each_request_and_seals_each_response_as_recorded(session: Session) -> None:
    channel = Channel(session.node_to_agent_key, session.agent_to_node_key)
    for byte in _pieces(b"".join(one.request_on_wire for one in session.exchanges), 1):
        channel.feed(byte)
    assert channel.receive() == [exchange.request for exchange in session.exchanges]
    clear = [message for message, _ in session.from_node]
    assert channel.seal(clear) == b"".join(wire for _, wire in session.from_node)


def _frame(exchange: Exchange) -> Frame | None:
    frames = FrameParser().feed(exchange.request)
    return frames[0] if frames else None


@sessions
def test_frames_are_cut_from_the_stream_as_answered(session: Session) -> None:
    """One frame for each answer, in whatever pieces the stream arrives."""
    stream = b"".join(exchange.request for exchange in session.exchanges)
    whole = FrameParser()
    frames = whole.feed(stream)
    bytewise = FrameParser()
    assert [one for byte in _pieces(stream, 1) for one in bytewise.feed(byte)] == frames
    assert bytewise.error == whole.error
    if whole.error is None:
        assert len(frames) == sum(one.response is not None for one in session.exchanges)
        assert whole.pending == 0
        behind = FrameParser()
        assert behind.feed(stream + b"\x00\x01") == frames
        assert behind.pending == 2


@exchanges
def test_what_is_malformed_is_answered_as_recorded(session: Session, exchange: Exchange) -> None:
    parser = FrameParser()
    parser.feed(exchange.request)
    if parser.error is not None:
        assert exchange.response is not None
        expected = DIFFERS.get(exchange.what, int.from_bytes(exchange.response, "big"))
        assert parser.error == expected


@sessions
def test_the_verifier_judges_each_signed_frame_as_recorded(session: Session) -> None:
    verifier = Verifier(session.agent_to_node_key)
    judged = 0
    for exchange in session.exchanges:
        frame = _frame(exchange)
        if frame is None or frame.sec == SEC_PLAIN:
            continue
        judged += 1
        assert exchange.response is not None
        _, sw = split_response(exchange.response)
        verdict = verifier.verify(frame)
        if frame.sec == SEC_SIGNED and sw in (SW.DENIED, SW.ALREADY_RECEIVED):
            assert verdict == sw
        else:
            # Also for Sec 10: the tag is right, and that nothing is sealed is not its business.
            assert verdict is None
    assert judged == sum(one.request[0] & 0x0C in (4, 8) for one in session.exchanges)


@exchanges
def test_each_signed_request_is_signed_again(session: Session, exchange: Exchange) -> None:
    request = exchange.request
    if check_class(request[0]) is not None or not request[0] & SEC_SIGNED:
        return
    frame = _frame(exchange)
    assert frame is not None
    if len(frame.data) < SEQ_SIZE or frame.data[:SEQ_SIZE] == bytes(SEQ_SIZE):
        # No Signer makes such a frame; its tag is right all the same.
        message = frame.header + session.epoch_id + frame.data
        assert frame.tag == hmac.digest(session.agent_to_node_key, message, "blake2b")[:16]
        return
    signer = Signer(session.agent_to_node_key)
    signer.seq = int.from_bytes(frame.data[:SEQ_SIZE], "big") - 1
    made = signer.sign(frame.ins, frame.p1, frame.p2, frame.data[SEQ_SIZE:])
    le = len(request) - AUTH_TAG_SIZE - 1
    assert made[:le] == request[:le]
    assert made[le] == 0  # deployed agents send some other Le now and then; no tag covers it
    if exchange.what.endswith("flipped tag bit"):
        wrong = int.from_bytes(made[le + 1 :], "big") ^ int.from_bytes(frame.tag, "big")
        assert wrong.bit_count() == 1
    else:
        assert made[le + 1 :] == frame.tag


@exchanges
def test_each_plain_request_is_encoded_again(session: Session, exchange: Exchange) -> None:
    frame = _frame(exchange)
    if frame is None or frame.cla != 0:
        return
    made = encode_plain(frame.ins, frame.p1, frame.p2, frame.data)
    le = STANDARD_HEADER + len(frame.data)
    assert made[:le] == exchange.request[:le]
    assert len(made) == len(exchange.request)


@exchanges
def test_each_response_is_read_by_its_declaration(session: Session, exchange: Exchange) -> None:
    if exchange.response is None:
        return
    payload, sw = split_response(exchange.response)
    if sw != SW.SUCCESS:
        assert payload == b""
        return
    ins = 0x01 if session.name == "half-frame" else exchange.request[1]
    instruction = REGISTRY.get(ins)
    assert instruction is not None
    reply = instruction.reply.unpack(payload)
    assert reply.pack() == payload


@exchanges
def test_each_request_is_read_by_its_declaration(session: Session, exchange: Exchange) -> None:
    """A payload that the declaration refuses was refused with the same status word."""
    frame = _frame(exchange)
    if frame is None or frame.sec not in (SEC_PLAIN, SEC_SIGNED) or len(frame.data) == 3:
        return
    assert exchange.response is not None
    _, sw = split_response(exchange.response)
    instruction = REGISTRY.get(frame.ins)
    if instruction is None:
        assert sw in (SW.NO_SUCH_INSTRUCTION, SW.ALREADY_RECEIVED)
        return
    if frame.sec >> 2 < instruction.level:
        assert sw == SW.DENIED
        return
    payload = frame.data[SEQ_SIZE:] if frame.sec else frame.data
    try:
        request = instruction.parse(frame.p1, frame.p2, payload)
    except (WrongSize, BadValue) as error:
        verdict = SW.WRONG_LENGTH if isinstance(error, WrongSize) else SW.INVALID_PAYLOAD
        assert DIFFERS.get(exchange.what, sw) == verdict
        return
    if not instruction.ignores_extra:
        assert request.pack() == payload
        assert request.parameters()[0] == frame.p1
    assert exchange.what not in DIFFERS


def _reply(session: str, what: str) -> bytes:
    exchange = next(one for one in SESSIONS[session].exchanges if one.what == what)
    assert exchange.response is not None
    return split_response(exchange.response)[0]


def test_the_recorded_machine() -> None:
    """What the declarations make of a real answer, as its bytes read by hand."""
    caps = Capabilities.unpack(_reply("core-isa", "SYS_CAPS"))
    assert caps.instructions == (0x00, 0x01, 0x02, 0x03, 0x11, 0x20, 0x22)
    assert (caps.kernel_major, caps.kernel_minor, caps.kernel_patch) == (6, 18, 44)
    assert (caps.cpu_count, caps.ram_mb, caps.swap_mb, caps.root_size_mb) == (2, 24105, 0, 258019)
    assert caps.architecture.name == "X86_64"
    assert caps.root_file_system.name == "EXT"
    assert caps.rpi_source.name == "KERNEL_PSI"
    vitals = Status.unpack(_reply("core-isa", "SYS_STATUS"))
    read = {name: getattr(vitals, name) for name in vitals.FIELDS}
    assert read == {
        "load1": 2.4,
        "load5": 1.8,
        "cpu_percent": 100,
        "available_mb": 22798,
        "root_used_percent": 11,
        "io_wait_ms": 0,
        "inbound_mbps": 0,
        "outbound_mbps": 0,
        "rpi_percent": 50,
        "node_flags": 0,
    }


def test_the_recorded_task() -> None:
    first = TaskState.unpack(_reply("levels", "TASK_QUERY of that handle"))
    again = TaskState.unpack(_reply("levels", "TASK_QUERY of it again"))
    assert first.status is TaskStatus.FAILED
    assert again.status is TaskStatus.NOT_FOUND


def test_the_recorded_requests_for_actions() -> None:
    stop = _frame(SESSIONS["signed"].exchanges[0])
    assert stop is not None
    assert Throttle.unpack(stop.data[4:], stop.p1) == Throttle(16073, "stop")
    restart = next(one for one in SESSIONS["levels"].exchanges if one.what.startswith("SVC"))
    frame = _frame(restart)
    assert frame is not None
    assert Restart.unpack(frame.data[4:]) == Restart("no-such-unit")
