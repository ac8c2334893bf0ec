"""Appendix A of docs/protocol.md: every byte of the worked session is computed again."""

from __future__ import annotations

import hmac
import re
from enum import IntEnum, IntFlag

import pytest

from asys.conformance.vectors import contents
from asys.isa import PROC_THROTTLE, REGISTRY, ThrottleAction
from asys.isa.process import Throttle
from asys.protocol import apdu, limits
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState, NodeLink
from asys.protocol.noise import PROTOCOL_NAME, Initiator, Responder, _hkdf, _SymmetricState
from asys.protocol.signing import EPOCH_CONTEXT, epoch_id
from asys.protocol.status import SW
from support.protocol_document import Table, prose, section, table_below, worked_values

Values = dict[str, bytes]

GIVEN = {
    "agent_static_private",
    "agent_ephemeral_private",
    "node_static_private",
    "message_2",
    "response_record",
    "response_record_2",
    "core_ephemeral_private",
    "core_message_2",
    "sys_caps_response_record",
    "sys_hello_response_record",
    "sys_status_response_record",
    "sys_procs_response_record",
}
"""What the recording gave; every other value of the appendix is computed from these."""

CORE = ("SYS_CAPS", "SYS_HELLO", "SYS_STATUS", "SYS_PROCS")


def appendix_values() -> Values:
    """The values of Appendix A."""
    return worked_values("Appendix A")


def transcript(static: PrivateKey, ephemeral: PrivateKey, node: bytes, answer: bytes) -> Values:
    """Every intermediate value of the agent's handshake, token by token."""
    values: Values = {}
    state = _SymmetricState(b"")
    values["h_name"] = PROTOCOL_NAME.ljust(64, b"\0")
    values["h_prologue"] = state.hash
    chain = values["h_name"]

    def mix_hash(name: str, data: bytes) -> None:
        state.mix_hash(data)
        values[name] = state.hash

    def mix_key(name: str, secret: bytes, *, shows_key: bool = True) -> None:
        nonlocal chain
        values[f"dh_{name}"] = secret
        chain, key = _hkdf(chain, secret)
        values[f"ck_{name}"] = chain
        if shows_key:
            values[f"k_{name}"] = key[: limits.KEY_SIZE]
        state.mix_key(secret)

    mix_hash("h_node_static", node)
    mix_hash("h_e", ephemeral.public)
    mix_key("es", ephemeral.exchange(node))
    values["encrypted_static"] = state.encrypt_and_hash(static.public)
    values["h_s"] = state.hash
    mix_key("ss", static.exchange(node))
    values["tag_1"] = state.encrypt_and_hash(b"")
    values["h_message_1"] = state.hash
    mix_hash("h_ephemeral_2", answer[: limits.KEY_SIZE])
    mix_key("ee", ephemeral.exchange(answer[: limits.KEY_SIZE]), shows_key=False)
    mix_key("se", static.exchange(answer[: limits.KEY_SIZE]))
    assert state.decrypt_and_hash(answer[limits.KEY_SIZE :]) == b""
    values["handshake_hash"] = state.hash
    return values


def handshake(static: PrivateKey, ephemeral: PrivateKey, frame: bytes, answer: bytes) -> AgentLink:
    """The project's own agent, open, after the handshake with these bytes."""
    link = AgentLink(static, ephemeral=ephemeral)
    link.receive_data(frame)
    link.begin_handshake()
    link.receive_data(answer)
    assert link.state is LinkState.OPEN
    return link


def message_1(static: PrivateKey, ephemeral: PrivateKey, node: PrivateKey) -> bytes:
    """Message 1 of the project's agent, as the project's node reads it."""
    message = Initiator(static, node.public, ephemeral=ephemeral).write_message_1()
    assert Responder(node).read_message_1(message) == static.public
    return message


def received(link: AgentLink, record: bytes) -> bytes:
    link.receive_data(record)
    (message,) = link.messages()
    return message


def session_values(given: Values) -> Values:
    """Appendix A.1 to A.3 from what the recording gave."""
    static = PrivateKey(given["agent_static_private"])
    ephemeral = PrivateKey(given["agent_ephemeral_private"])
    node = PrivateKey(given["node_static_private"])
    values = transcript(static, ephemeral, node.public, given["message_2"])
    values["agent_static_public"] = static.public
    values["agent_ephemeral_public"] = ephemeral.public
    values["node_static_public"] = node.public
    values["message_1"] = message_1(static, ephemeral, node)

    greeting = NodeLink(node)
    greeting.receive_data(limits.MAGIC)
    values["magic"] = AgentLink(static).data_to_send()
    values["pre_handshake_frame"] = greeting.data_to_send()

    link = handshake(static, ephemeral, values["pre_handshake_frame"], given["message_2"])
    assert link.keys is not None
    assert link.keys.handshake_hash == values["handshake_hash"]
    key = values["agent_to_node_key"] = link.keys.agent_to_node
    values["node_to_agent_key"] = link.keys.node_to_agent

    values["epoch_context"] = EPOCH_CONTEXT
    values["epoch_hmac"] = hmac.digest(key, EPOCH_CONTEXT, "blake2b")
    values["epoch_id"] = epoch_id(key)

    for action, suffix in enumerate(("", "_2")):
        payload = Throttle(16073, ThrottleAction(action)).pack()
        frame = link.signer.sign(PROC_THROTTLE.code, action, 0, payload)
        header, seq = frame[: apdu.STANDARD_HEADER], link.signer.seq.to_bytes(4, "big")
        tag_input = header + values["epoch_id"] + seq + payload
        tag = hmac.digest(key, tag_input, "blake2b")
        assert frame == header + seq + payload + b"\0" + tag[: limits.AUTH_TAG_SIZE]
        record = link.seal([frame])
        values[f"tag_input{suffix}"] = tag_input
        values[f"frame{suffix}"] = frame
        values[f"nonce{suffix}"] = bytes(4) + action.to_bytes(8, "little")
        values[f"record{suffix}"] = record
        values[f"response{suffix}"] = received(link, given[f"response_record{suffix}"])
        if not suffix:
            values.update(header=header, seq=seq, payload=payload, le=b"\0")
            values.update(tag_hmac=tag, auth_tag=frame[-limits.AUTH_TAG_SIZE :])
            values["ciphertext"] = record[limits.RECORD_PREFIX_SIZE :]
    return values


def core_values(given: Values, frame: bytes) -> Values:
    """Appendix A.4 from what the recording gave; `frame` is the node's pre-handshake frame."""
    static = PrivateKey(given["agent_static_private"])
    ephemeral = PrivateKey(given["core_ephemeral_private"])
    node = PrivateKey(given["node_static_private"])
    link = handshake(static, ephemeral, frame, given["core_message_2"])
    assert link.keys is not None
    values = {
        "core_message_1": message_1(static, ephemeral, node),
        "core_handshake_hash": link.keys.handshake_hash,
        "core_agent_to_node_key": link.keys.agent_to_node,
        "core_node_to_agent_key": link.keys.node_to_agent,
        "core_epoch_id": epoch_id(link.keys.agent_to_node),
    }
    for code, name in enumerate(CORE):
        prefix = name.lower()
        values[f"{prefix}_request"] = apdu.encode_plain(code)
        values[f"{prefix}_record"] = link.seal([values[f"{prefix}_request"]])
        values[f"{prefix}_response"] = received(link, given[f"{prefix}_response_record"])
    return values


def test_what_is_given_was_recorded() -> None:
    recorded = contents("deployed-sessions.json").decode()
    values = appendix_values()
    assert {name for name in GIVEN if f'"{values[name].hex()}"' not in recorded} == set()


def test_worked_session_follows_from_what_was_recorded() -> None:
    values = appendix_values()
    given = {name: values[name] for name in GIVEN}
    computed = session_values(given)
    computed.update(core_values(given, computed["pre_handshake_frame"]))
    assert not computed.keys() & GIVEN
    assert computed.keys() | GIVEN == values.keys()
    assert {name for name in computed if computed[name] != values[name]} == set()


def test_appendix_has_no_bytes_that_are_not_recomputed() -> None:
    assert re.findall(r"\b[0-9a-fA-F]{5,}\b", prose("Appendix A")) == ["16073", f"{16073:08X}"]


def shown(value: object) -> str:
    """A decoded value as the tables of the appendix write it."""
    if isinstance(value, IntEnum | IntFlag):
        return value.name or "none"
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("name", CORE)
def test_worked_responses_are_decoded_field_by_field(name: str) -> None:
    instruction = REGISTRY.named(name)
    assert instruction is not None
    response = appendix_values()[f"{name.lower()}_response"]
    payload, sw = apdu.split_response(response)
    reply = instruction.reply.unpack(payload)
    expected: Table = []
    offset = 0
    for field_name, field in reply.FIELDS.items():
        size = field.slot.SIZE if field.slot is not None else field.size
        values = getattr(reply, field_name)
        for index, value in enumerate(values if field.slot is not None else [values]):
            inner = [value] if field.slot is None else [getattr(value, n) for n in value.FIELDS]
            label = field_name if field.slot is None else f"{field_name}[{index}]"
            digits = response[offset : offset + size].hex()
            expected.append((label, digits, ", ".join(shown(one) for one in inner)))
            offset += size
        if field.reserved:
            expected.append(("reserved", response[offset : offset + field.reserved].hex(), ""))
            offset += field.reserved
    expected.append(("SW", response[offset:].hex(), SW(sw).name))
    assert table_below(section("Appendix A"), f"**{name}**") == expected
