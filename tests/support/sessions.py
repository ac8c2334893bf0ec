"""The recorded sessions of deployed-sessions.json, typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from asys.conformance.vectors import load as load_vectors
from asys.protocol.keys import PrivateKey


@dataclass(frozen=True)
class Exchange:
    """A request frame and its answer, in clear and as they stood on the wire.

    `response` is None where the node did not answer, as to half a frame.
    """

    what: str
    request: bytes
    request_on_wire: bytes
    response: bytes | None
    response_on_wire: bytes


@dataclass(frozen=True)
class Session:
    """One connection, from the magic to its end. `first_message` came before any request."""

    name: str
    node: PrivateKey
    agent: PrivateKey
    agent_ephemeral: PrivateKey
    magic: bytes
    pre_handshake_frame: bytes
    message_1: bytes
    message_2: bytes
    handshake_hash: bytes
    agent_to_node_key: bytes
    node_to_agent_key: bytes
    epoch_id: bytes
    first_message: bytes
    first_message_on_wire: bytes
    exchanges: tuple[Exchange, ...]

    @property
    def from_node(self) -> list[tuple[bytes, bytes]]:
        """Every message of the node after the handshake: in clear and on the wire."""
        first = [(self.first_message, self.first_message_on_wire)] if self.first_message else []
        return first + [
            (one.response, one.response_on_wire)
            for one in self.exchanges
            if one.response is not None
        ]


def _exchange(raw: dict[str, Any]) -> Exchange:
    response = raw["response"]
    return Exchange(
        raw["what"],
        bytes.fromhex(raw["request"]),
        bytes.fromhex(raw["request_on_wire"]),
        None if response is None else bytes.fromhex(response),
        bytes.fromhex(raw.get("response_on_wire", "")),
    )


def _session(raw: dict[str, Any], node: PrivateKey) -> Session:
    def octets(key: str) -> bytes:
        return bytes.fromhex(raw.get(key, ""))

    return Session(
        name=raw["name"],
        node=node,
        agent=PrivateKey(octets("agent_static_private")),
        agent_ephemeral=PrivateKey(octets("agent_ephemeral_private")),
        magic=octets("magic"),
        pre_handshake_frame=octets("pre_handshake_frame"),
        message_1=octets("message_1"),
        message_2=octets("message_2"),
        handshake_hash=octets("handshake_hash"),
        agent_to_node_key=octets("agent_to_node_key"),
        node_to_agent_key=octets("node_to_agent_key"),
        epoch_id=octets("epoch_id"),
        first_message=octets("first_message"),
        first_message_on_wire=octets("first_message_on_wire"),
        exchanges=tuple(_exchange(one) for one in raw.get("exchanges", ())),
    )


def _load() -> dict[str, Session]:
    raw = load_vectors("deployed-sessions.json")
    node = PrivateKey(bytes.fromhex(raw["node_static_private"]))
    return {one["name"]: _session(one, node) for one in raw["sessions"]}


SESSIONS: Final = _load()
"""By name. All have one node key; the node's ephemeral keys are not known."""
