"""Connecting over real sockets: what may go wrong at each step, and who is trusted."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from pathlib import Path
from typing import Any

import pytest

import asys
from asys import isa
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import MAGIC, MESSAGE_1_SIZE
from client.steps import STEPS, Step, then_silence
from support.wire_node import HELLO, OK, PAGES, Peer, WireNode, answer_caps, serve


async def test_a_connection_knows_both_its_ends() -> None:
    async with WireNode() as node, node.connect() as session:
        assert (session.host, session.port) == ("127.0.0.1", node.port)
        assert session.node_key == node.key.public
        assert session.agent_key == node.identity.public
        assert session.caps is not None
        assert session.caps.cpu_count == 2
        assert not session.speaks_part_b
        assert not session.closed
        shown = repr(session)
    assert f"127.0.0.1:{node.port}" in shown
    assert "open" in shown
    assert "closed" in repr(session)
    assert node.peer.link.agent_key == node.identity.public


async def test_a_connection_may_be_awaited() -> None:
    async with WireNode() as node:
        session = await node.connect()
        try:
            assert await session.sys_hello() == HELLO
        finally:
            await session.close()
            await session.close()
        assert session.closed
        async with await node.connect() as again:
            assert await again.sys_hello() == HELLO


async def test_after_close_a_call_says_so() -> None:
    async with WireNode() as node:
        session = await node.connect()
        await session.close()

        with pytest.raises(asys.ConnectionLost, match="this agent closed it"):
            await session.sys_hello()


async def test_closing_fails_calls_under_way() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        await peer.request()
        arrived.set()
        await peer.silence()

    async with WireNode(script) as node:
        session = await node.connect()
        plain = asyncio.ensure_future(session.sys_hello())
        signed = asyncio.ensure_future(session.proc_throttle(1, "stop"))
        await arrived.wait()

        await session.close()

        with pytest.raises(asys.ConnectionLost, match="this agent closed it"):
            await plain
        with pytest.raises(asys.OutcomeUnknown, match="this agent closed it"):
            await signed


async def test_nagle_is_off() -> None:
    async with WireNode() as node, node.connect() as session:
        sock = session._wire._transport.get_extra_info("socket")  # type: ignore[union-attr] # open

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_node_that_speaks_part_b_is_known_by_its_echo() -> None:
    async with WireNode(serve(part_b=True)) as node, node.connect() as session:
        assert session.speaks_part_b
        assert session.caps is not None
        assert session.caps.instructions == (0, 1, 2, 3, 17, 32, 34)


async def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "asyd.sock"
    hosts = asys.KnownHosts(tmp_path / "known_hosts")
    async with WireNode(path=str(path)) as node:
        hosts.add(f"unix:{path}", 0, node.key.public)

        async with node.connect(node_key=None, known_hosts=hosts) as session:
            assert await session.sys_hello() == HELLO
            assert (session.host, session.port) == (f"unix:{path}", 0)


async def test_a_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(asys.ConnectFailed, match="No such file"):
        await asys.connect(
            f"unix:{tmp_path}/none", identity=asys.Identity.generate(), node_key=bytes(32)
        )


# Who is trusted


async def test_an_unknown_host_is_not_trusted_and_nothing_is_written(tmp_path: Path) -> None:
    hosts = asys.KnownHosts(tmp_path / "known_hosts")
    async with WireNode() as node:
        with pytest.raises(asys.UnknownHost) as caught:
            await node.connect(node_key=None, known_hosts=hosts)

        assert caught.value.key == node.key.public
        assert caught.value.host == f"127.0.0.1:{node.port}"
        assert os.listdir(tmp_path) == []
        assert node.peer.received == len(MAGIC)
        hosts.add("127.0.0.1", node.port, caught.value.key)
        async with node.connect(node_key=None, known_hosts=hosts) as session:
            assert await session.sys_hello() == HELLO


async def test_a_changed_host_key_is_refused_loudly(tmp_path: Path) -> None:
    hosts = asys.KnownHosts(tmp_path / "known_hosts")
    other = PrivateKey.generate().public
    async with WireNode() as node:
        hosts.add("127.0.0.1", node.port, other)
        before = hosts.path.read_bytes()

        with pytest.raises(asys.HostKeyChanged, match="HAS CHANGED") as caught:
            await node.connect(node_key=None, known_hosts=hosts)

        assert (caught.value.key, caught.value.known) == (node.key.public, other)
        assert hosts.path.read_bytes() == before
        # For the key on record alone; who does not hold it can make nothing of it.
        assert node.peer.received == len(MAGIC) + MESSAGE_1_SIZE


async def test_a_node_key_that_is_given_counts_alone(tmp_path: Path) -> None:
    hosts = asys.KnownHosts(tmp_path / "known_hosts")
    async with WireNode() as node:
        hosts.add("127.0.0.1", node.port, node.key.public)

        with pytest.raises(asys.HostKeyChanged):
            await node.connect(node_key=PrivateKey.generate().public, known_hosts=hosts)


async def test_files_in_the_home_directory_are_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    identity = asys.Identity.create()
    async with WireNode() as node:
        asys.KnownHosts().add("127.0.0.1", node.port, node.key.public)

        async with asys.connect("127.0.0.1", node.port, timeout=30) as session:
            assert session.agent_key == identity.public


async def test_without_a_key_nobody_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    async with WireNode() as node:
        with pytest.raises(asys.IdentityError, match="asys keygen"):
            await asys.connect("127.0.0.1", node.port, node_key=node.key.public)
        assert node.peers == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"timeout": True},
        {"timeout": "10"},
        {"timeout": None},
        {"node_key": b"short"},
        {"node_key": "00" * 32},
    ],
)
async def test_arguments_are_checked_before_anybody_is_called(wrong: dict[str, Any]) -> None:
    async with WireNode() as node:
        with pytest.raises(asys.ArgumentError):
            await node.connect(**wrong)
        assert node.peers == []


async def test_hosts_and_ports_are_checked() -> None:
    options: dict[str, Any] = {"identity": asys.Identity.generate(), "node_key": bytes(32)}
    for host, port in (("node:7816", 7816), ("", 7816), ("node", 0)):
        with pytest.raises(asys.ArgumentError):
            await asys.connect(host, port, **options)


# Refusals


async def test_an_unknown_agent_is_told_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        peer.reply(b"\x69\x82")

    async with WireNode(script) as node:
        for _ in range(20):  # the answer and the reset race with the agent's first request
            with pytest.raises(asys.AgentRejected, match=node.identity.public.hex()):
                await node.connect()


async def test_an_unknown_agent_is_told_so_also_when_it_has_asked() -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        await peer.read()
        peer.reply(b"\x69\x82")

    async with WireNode(script) as node:
        with pytest.raises(asys.AgentRejected):
            await node.connect()


async def test_a_full_node_that_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        peer.reply(b"\x64\x00")

    async with WireNode(script) as node:
        with pytest.raises(asys.SessionLimit, match="back off"):
            await node.connect()


async def test_a_full_deployed_node_closes_right_after_accept() -> None:
    async def script(peer: Peer) -> None:
        pass

    async with WireNode(script) as node:
        with pytest.raises(asys.ConnectionLost, match="no room for another session"):
            await node.connect()


@pytest.mark.parametrize("sw", [b"\x6f\x00", b"\x6f\x05", b"\x67\x00"])
async def test_a_node_in_trouble_is_no_connection(sw: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        for _ in range(PAGES):
            await peer.request()
            peer.reply(sw)
        await peer.silence()

    async with WireNode(script) as node:
        with pytest.raises(asys.StatusError) as caught:
            await node.connect()
        assert caught.value.sw == int.from_bytes(sw, "big")


@pytest.mark.parametrize("sw", [b"\x6a\x81", b"\x6d\x00"])
async def test_an_agent_without_sys_caps_connects_all_the_same(sw: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        for _ in range(PAGES):
            await peer.request()
            peer.reply(sw)
        if sw == b"\x6a\x81":  # so it is not known whether there is a next key
            assert (await peer.request()).ins == isa.KEY_STATEMENT.code
            peer.reply(sw)
        await peer.request()
        peer.reply(HELLO.pack() + OK)
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        assert session.caps is None
        assert not session.speaks_part_b
        assert await session.sys_hello() == HELLO


# Nobody there, silence, disconnects


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        with pytest.raises(asys.ConnectFailed, match=f"cannot reach 127.0.0.1:{port}"):
            await asys.connect(
                "127.0.0.1", port, identity=asys.Identity.generate(), node_key=bytes(32)
            )


@pytest.mark.parametrize("host", ["a" * 64, "a..b"])
async def test_a_name_that_leads_nowhere(host: str) -> None:
    with pytest.raises(asys.ConnectFailed, match="cannot reach"):
        await asys.connect(host, identity=asys.Identity.generate(), node_key=bytes(32))


async def test_nobody_accepts() -> None:
    """A listener whose backlog is full leaves connection attempts without an answer."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        where = deaf.getsockname()
        with socket.socket() as first, socket.socket() as second:
            for one in (first, second):
                one.setblocking(False)
                one.connect_ex(where)

            with pytest.raises(asys.DeadlineExceeded, match="accept a connection"):
                await asys.connect(
                    *where,
                    identity=asys.Identity.generate(),
                    node_key=bytes(32),
                    timeout=0.1,
                )


@pytest.mark.parametrize("step", STEPS)
async def test_silence_at_any_step_ends_at_the_deadline(step: Step) -> None:
    async with WireNode(then_silence(step)) as node:
        with pytest.raises(asys.DeadlineExceeded, match=r"did not .* within 0\.2 s"):
            await node.connect(timeout=0.2)


@pytest.mark.parametrize("step", STEPS)
async def test_a_disconnect_at_any_step_is_a_lost_connection(step: Step) -> None:
    async with WireNode(step) as node:
        with pytest.raises(asys.ConnectionLost, match="closed the connection"):
            await node.connect()


async def test_cancelling_a_connect_leaves_nothing_open() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.handshake()
        arrived.set()
        await peer.silence()

    async with WireNode(script) as node:
        task = asyncio.ensure_future(_open(node))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gc.collect()  # an open transport would warn


async def _open(node: WireNode) -> asys.Node:
    return await node.connect()


# A node that is none


async def raw(data: bytes) -> Exception:
    """What connecting to a node raises that answers the magic with `data`."""

    async def script(peer: Peer) -> None:
        await peer.read()
        peer.write(data)
        await peer.silence()

    async with WireNode(script) as node:
        with pytest.raises(asys.HandshakeError) as caught:
            await node.connect(node_key=bytes(range(32)))
        return caught.value


async def test_wrong_magic() -> None:
    assert "not an ASys node" in str(await raw(b"SSH-2.0-OpenSSH_9.2\r\n"))


async def test_wrong_magic_is_seen_at_its_first_byte() -> None:
    assert "not an ASys node" in str(await raw(b"H"))


async def test_another_major_version() -> None:
    assert "protocol version 2.1" in str(await raw(b"ASYS\x02\x01" + bytes(32)))


async def test_bytes_out_of_turn() -> None:
    assert "out of turn" in str(await raw(b"ASYS\x01\x00" + bytes(range(32)) + b"x"))


async def test_a_low_order_key() -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        peer.write(b"ASYS\x01\x00" + bytes(32))
        await peer.silence()

    async with WireNode(script) as node:
        with pytest.raises(asys.HandshakeError, match="not a usable X25519 key"):
            await node.connect(node_key=bytes(32))


async def test_another_minor_version_is_fine() -> None:
    async def script(peer: Peer) -> None:
        peer.link.receive_data(await peer.read())
        shown = bytearray(peer.link.data_to_send())
        shown[5] = 9
        peer.write(bytes(shown))
        await peer.accept()
        await peer.silence()

    async with WireNode(script) as node, node.connect() as session:
        assert session.caps is not None


@pytest.mark.parametrize("position", [0, 31, 32, 47])
async def test_a_message_2_that_does_not_authenticate(position: int) -> None:
    async def script(peer: Peer) -> None:
        peer.link.receive_data(await peer.read())
        peer.write(peer.link.data_to_send())
        while len(data := peer.link.data_to_send()) != 48:
            peer.link.receive_data(await peer.read())
        garbled = bytearray(data)
        garbled[position] ^= 1
        peer.write(bytes(garbled))
        await peer.silence()

    async with WireNode(script) as node:
        with pytest.raises(asys.HandshakeError, match="does not authenticate"):
            await node.connect()


@pytest.mark.parametrize("position", [2, 10, 35])
async def test_a_flipped_bit_in_a_record(position: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        record = bytearray(peer.link.seal([answer_caps(await peer.request())]))
        record[position] ^= 1
        peer.write(bytes(record))
        await peer.silence()

    async with WireNode(script) as node:
        with pytest.raises(asys.ChannelError, match="does not authenticate"):
            await node.connect()


async def test_an_impossible_record_length() -> None:
    async def script(peer: Peer) -> None:
        await peer.handshake()
        await peer.request()
        peer.write(b"\x00\x0f" + bytes(15))
        await peer.silence()

    async with WireNode(script) as node:
        with pytest.raises(asys.ChannelError, match="shorter than its own tag"):
            await node.connect()
