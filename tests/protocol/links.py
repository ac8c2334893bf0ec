"""Both ends of a connection, joined in memory, and what a failed end looks like."""

from __future__ import annotations

import pytest

from asys.errors import ProtocolError
from asys.protocol.keys import PrivateKey
from asys.protocol.link import AgentLink, LinkState, NodeLink

AGENT, NODE = PrivateKey(bytes([1]) * 32), PrivateKey(bytes([2]) * 32)
SHOWN = b"ASYS\x01\x00" + NODE.public


def opened() -> tuple[AgentLink, NodeLink]:
    """Both ends of an open connection."""
    agent, node = AgentLink(AGENT), NodeLink(NODE)
    node.receive_data(agent.data_to_send())
    agent.receive_data(node.data_to_send())
    agent.begin_handshake()
    node.receive_data(agent.data_to_send())
    agent.receive_data(node.data_to_send())
    return agent, node


def assert_failed(link: AgentLink | NodeLink) -> None:
    """Nothing goes in or out, for ever."""
    for _ in range(2):
        assert link.state is LinkState.FAILED
        assert link.keys is None
        assert link.data_to_send() == b""
        for data in (b"", b"ASYS", SHOWN, bytes(96)):
            with pytest.raises(ProtocolError, match="the link has failed"):
                link.receive_data(data)
        with pytest.raises(ProtocolError, match="not open"):
            link.messages()
        with pytest.raises(ProtocolError, match="not open"):
            link.seal([b"x"])
        if isinstance(link, AgentLink):
            with pytest.raises(ProtocolError, match="has not shown its key"):
                link.begin_handshake()
