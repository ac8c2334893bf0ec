"""`from=`: whoever comes from elsewhere is answered as if nobody knew its key."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, CORE_AGENT, LOOPS, Daemon, running
from support.delegates import add
from support.frames import DENIED, HELLO, OK
from support.lit import lit
from support.raw_agent import Address, RawAgent

CLOSED = [DENIED]
"""All that an unknown key is told."""


@pytest.fixture(scope="module", params=LOOPS)
def node(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """A node on all of loopback, IPv4 and IPv6, and on a Unix socket."""
    short = Path(tempfile.mkdtemp(prefix="asys-"))  # leaves room for a socket's name
    listen = ("127.0.0.1", "[::1]:0", f"unix:{short}/socket")
    try:
        with running(
            tmp_path_factory.mktemp("asyd"),
            *("--handshake-rate", "0"),
            agents={},
            listen=listen,
            prelude=LOOPS[request.param],
        ) as daemon:
            yield daemon
    finally:
        shutil.rmtree(short)


def comes(node: Daemon, where: str, key: PrivateKey = AGENT) -> RawAgent:
    """A session, as far as it goes, from IPv4, another IPv4 address, IPv6 or a Unix socket."""
    four, six, unix = node.addresses
    address: Address = {"four": four, "other": four, "six": six, "unix": unix}[where]
    agent = RawAgent(address, "127.0.0.2" if where == "other" else "")
    agent.handshake(key)
    return agent


def let_in(node: Daemon, key: PrivateKey = AGENT) -> set[str]:
    """From where an agent may come; from elsewhere it is told what an unknown key is told."""
    found = set()
    for where in ("four", "other", "six", "unix"):
        with comes(node, where, key) as agent:
            if agent.alive():
                found.add(where)
                continue
        with comes(node, where, key) as agent:
            assert agent.final() == CLOSED
    return found


@pytest.mark.parametrize(
    ("sources", "wanted"),
    [
        ("", {"four", "other", "six", "unix"}),
        ("from=127.0.0.1", {"four"}),
        ("from=127.0.0.0/8", {"four", "other"}),
        ("from=127.0.0.2,::1", {"other", "six"}),
        ("from=0.0.0.0/0", {"four", "other"}),
        ("from=::/0", {"six"}),
        ("from=::1", {"six"}),
        ("from=unix", {"unix"}),
        ("from=unix,127.0.0.1", {"four", "unix"}),
        ("from=10.0.0.0/8", set()),
        ("from=2001:db8::/32,192.0.2.7", set()),
    ],
)
def test_where_an_agent_may_come_from(node: Daemon, sources: str, wanted: set[str]) -> None:
    node.reload({AGENT: f"agent {sources}"})
    assert let_in(node) == wanted


def test_the_answer_is_that_to_an_unknown_key(node: Daemon) -> None:
    """Unasked, alone, and the connection ends; a request that was sent already changes nothing."""
    node.reload({AGENT: "agent from=unix"})
    for key in (AGENT, CORE_AGENT):
        with comes(node, "four", key) as agent:
            agent.send(HELLO, HELLO)
            assert agent.final() == CLOSED
        with comes(node, "four", key) as agent:
            assert agent.final() == CLOSED


def test_a_live_session_that_may_not_be_there_any_more_is_closed(node: Daemon) -> None:
    node.reload({AGENT: "agent", CORE_AGENT: "other from=127.0.0.1"})
    with (
        comes(node, "four") as four,
        comes(node, "six") as six,
        comes(node, "unix") as unix,
        comes(node, "other") as unconfirmed,
        comes(node, "four", CORE_AGENT) as stays,
    ):
        for one in (four, six, unix, stays):
            assert one.alive()
        node.reload({AGENT: "agent from=::1", CORE_AGENT: "other from=127.0.0.1"})
        for one in (four, unix, unconfirmed):
            assert one.final() == []
        assert six.alive()
        assert stays.alive()
        node.reload({AGENT: "agent", CORE_AGENT: "other from=127.0.0.0/8"})
        assert six.alive()
        assert stays.alive()
    assert let_in(node) == {"four", "other", "six", "unix"}


def test_it_binds_the_whole_subtree(node: Daemon) -> None:
    node.reload({AGENT: "agent caps=all,security"})
    key = PrivateKey.generate()
    with comes(node, "four") as root:
        assert add(root, key.public, {0x00, 0x01})[4:] == OK
        assert let_in(node, key) == {"four", "other", "six", "unix"}
        with comes(node, "six", key) as six, comes(node, "four", key) as four:
            assert lit(six) == lit(four) == {0x00, 0x01}
            node.reload({AGENT: "agent caps=all,security from=127.0.0.0/8"})
            assert six.final() == []
            assert four.alive()
        assert let_in(node, key) == {"four", "other"}
        assert root.alive()


def test_a_session_may_be_opened_before_and_not_after(node: Daemon) -> None:
    """Between handshake and first request, the file changes: the session has no effect."""
    node.reload({AGENT: "agent"})
    with comes(node, "four") as agent:
        node.reload({AGENT: "agent from=unix"})
        assert agent.final() == []
