"""All vendors of a node, and what an agent sees of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from asys.node.agents.scope import Scope
from asys.node.vendor.enabled import Enabled
from asys.node.vendor.pool import Pool
from asys.node.vendor.vendors import Vendors, lit_by
from asys.vendor.definition import id_of_domain
from support.clock import ManualClock
from support.vendor_workers import (
    DOMAIN,
    OTHER_DOMAIN,
    PlayedLauncher,
    described,
    description,
)

ID = id_of_domain(DOMAIN)
OTHER_ID = id_of_domain(OTHER_DOMAIN)
BOTH = Scope(vendors=frozenset({ID, OTHER_ID, 0x17}))


async def until(condition: Callable[[], Any]) -> None:
    """Lets the loop run until something is so."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


@pytest.fixture
async def launcher() -> PlayedLauncher:
    return PlayedLauncher()


@pytest.fixture
async def vendors(launcher: PlayedLauncher) -> AsyncIterator[Vendors]:
    made = Vendors([Enabled(DOMAIN), Enabled(OTHER_DOMAIN)], launcher, ManualClock())
    yield made
    await made.close()
    assert launcher.closed


async def test_the_start_waits_until_each_has_said_who_it_is(
    vendors: Vendors, launcher: PlayedLauncher
) -> None:
    changes: list[dict[int, Pool]] = []
    vendors.changed = lambda: changes.append(dict(vendors.usable(BOTH)))
    start = asyncio.ensure_future(vendors.start())
    first = await launcher.worker(domain=DOMAIN)
    second = await launcher.worker(domain=OTHER_DOMAIN)
    first.hello(description(described(0xC1)))
    await until(lambda: changes)
    assert not start.done()
    assert [list(one) for one in changes] == [[ID]]
    second.hello(description(described(0xC2), domain=OTHER_DOMAIN))
    await start
    usable = vendors.usable(BOTH)
    assert list(usable) == [ID, OTHER_ID]
    assert lit_by(usable) == 1 << 0xC1 | 1 << 0xC2
    assert vendors.pids == (*first.pids, *second.pids)
    only = vendors.usable(Scope(vendors=frozenset({OTHER_ID})))
    assert (list(only), lit_by(only)) == ([OTHER_ID], 1 << 0xC2)
    assert not vendors.usable(Scope())


async def test_of_two_with_one_id_the_second_is_not_there(
    vendors: Vendors, launcher: PlayedLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    start = asyncio.ensure_future(vendors.start())
    first = await launcher.worker(domain=DOMAIN)
    first.hello(description(vendor_id=0x17))
    await until(lambda: vendors.usable(BOTH))
    second = await launcher.worker(domain=OTHER_DOMAIN)
    second.hello(description(vendor_id=0x17, domain=OTHER_DOMAIN))
    await start
    usable = vendors.usable(BOTH)
    assert [pool.enabled.domain for pool in usable.values()] == [DOMAIN]
    assert f"{DOMAIN} and {OTHER_DOMAIN} have the same id 00000017" in caplog.text
    assert second.ended


async def test_one_that_cannot_serve_does_not_hold_up_the_start(
    vendors: Vendors, launcher: PlayedLauncher
) -> None:
    start = asyncio.ensure_future(vendors.start())
    (await launcher.worker(domain=DOMAIN)).hang_up()
    (await launcher.worker(domain=OTHER_DOMAIN)).hello(description(domain=OTHER_DOMAIN))
    await start
    assert list(vendors.usable(BOTH)) == [OTHER_ID]


async def test_a_vendor_that_cannot_be_as_it_is_wanted(
    launcher: PlayedLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    launcher.unfit = "cpu= is kept by systemd alone"
    vendors = Vendors([Enabled(DOMAIN, cpu=50)], launcher, ManualClock())
    await vendors.start()
    assert f"{DOMAIN} is not enabled: cpu= is kept by systemd alone" in caplog.text
    assert launcher.launched == []
    await vendors.close()
