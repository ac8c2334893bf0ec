"""Names of nodes: those that the resolver does not know, and those on which it hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import asys
from asys.client.address import Address
from asys.fleet import Fleet
from asys.fleet.lookups import Lookups
from support.fleet_nodes import FleetNodes


class Resolver:
    """The system's, but for names that end in `.hangs`: these take until the test has seen it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []
        self.real = socket.getaddrinfo

    def __call__(self, host: str, *args: Any, **options: Any) -> Any:
        self.asked.append(host)
        if host.endswith(".hangs"):
            self.go.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")
        return self.real(host, *args, **options)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("lookup-"):
            thread.join()


async def test_names_on_which_the_resolver_hangs_hold_up_nobody(resolver: Resolver) -> None:
    async with FleetNodes("a", "b") as nodes:
        hanging = [nodes.entry("a", name=f"h{one}", host=f"h{one}.hangs") for one in range(40)]
        named = [nodes.entry(name, host="localhost") for name in "ab"]
        async with Fleet([*hanging, *named], identity=nodes.identity, deadline=60) as fleet:
            rows = aiter(fleet.status())
            try:
                first = [await anext(rows) for _ in named]
            finally:
                resolver.go.set()
            assert {row.node for row in first} == {"a", "b"}
            assert all(row.ok for row in first)
            async for row in rows:
                assert row.failure is not None
                assert row.failure.kind == "ConnectFailed"
                assert "temporary failure" in row.failure.message


async def test_a_name_is_looked_up_once_for_all_who_wait(resolver: Resolver) -> None:
    lookups = Lookups()
    address = Address.of("one.hangs")
    waiting = [asyncio.create_task(lookups.found(address, 60)) for _ in range(3)]
    with pytest.raises(asys.DeadlineExceeded, match="its name was not found in time"):
        await lookups.found(address, 0.01)
    resolver.go.set()
    for one in waiting:
        with pytest.raises(asys.ConnectFailed, match="temporary failure"):
            await one
    assert resolver.asked == ["one.hangs"]
    with pytest.raises(asys.ConnectFailed):
        await lookups.found(address, 60)
    assert len(resolver.asked) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix:/run/asyd.sock"])
async def test_what_is_no_name_is_not_looked_up(resolver: Resolver, host: str) -> None:
    await Lookups().found(Address.of(host), 1)

    assert not resolver.asked


async def test_what_cannot_be_a_name_is_told(resolver: Resolver) -> None:
    with pytest.raises(asys.ConnectFailed, match=r"cannot reach x{64}"):
        await Lookups().found(Address.of("x" * 64 + ".example"), 60)


def test_a_loop_that_has_ended_is_left_alone(resolver: Resolver) -> None:
    async def main() -> None:
        with pytest.raises(asys.DeadlineExceeded):
            await Lookups().found(Address.of("late.hangs"), 0.01)

    asyncio.run(main())
