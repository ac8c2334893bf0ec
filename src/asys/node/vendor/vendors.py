"""All vendors of a node: by id, for an agent, from the start of asyd to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from asys.isa.capmap import bits
from asys.node.vendor.pool import Pool
from asys.vendor.definition import same_id

if TYPE_CHECKING:
    from asys.node.agents.scope import Scope
    from asys.node.clock import Clock
    from asys.node.vendor.enabled import Enabled
    from asys.node.vendor.launch import Launcher
    from asys.vendor.wire import Description

_log = logging.getLogger("asyd.vendor")


def lit_by(vendors: Mapping[int, Pool]) -> int:
    """The map of all codes that some of these vendors have."""
    return bits(code for pool in vendors.values() for code in pool.codes)


def chainable_by(vendors: Mapping[int, Pool]) -> int:
    """The map of the codes that some of these vendors take in fragments."""
    return bits(
        code
        for pool in vendors.values()
        for code in pool.codes
        if (one := pool.get(code)) is not None and one.chainable
    )


class Vendors:
    """The vendors that are enabled. One that has not said who it is yet is not there."""

    def __init__(self, enabled: Iterable[Enabled], launcher: Launcher, clock: Clock) -> None:
        """A vendor that cannot be as the admin wants it here is left out, and the log says so."""
        self._launcher = launcher
        self._pools: list[Pool] = []
        for one in enabled:
            refusal = launcher.refusal(one)
            if refusal:
                _log.error("%s is not enabled: %s", one.domain, refusal)
            else:
                self._pools.append(Pool(one, launcher, clock, self._described))
        self._by_id: dict[int, Pool] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when what there is has changed."""

    async def start(self) -> None:
        """Starts every worker; returns when each has said who it is, has failed to, or takes longer
        than a worker may.
        """
        for pool in self._pools:
            pool.start()
        await asyncio.gather(*(pool.settled.wait() for pool in self._pools))
        _log.info(
            "%d of %d vendors work, %s", len(self._by_id), len(self._pools), self._launcher.name
        )

    async def close(self) -> None:
        """Ends every worker."""
        await asyncio.gather(*(pool.close() for pool in self._pools))
        await self._launcher.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """Processes that no agent may touch."""
        return tuple(pid for pool in self._pools for pid in pool.pids)

    @property
    def pools(self) -> Sequence[Pool]:
        """Every vendor that is enabled, whether or not its worker works."""
        return self._pools

    def usable(self, scope: Scope) -> Mapping[int, Pool]:
        """The vendors that an agent with this scope may use, by id."""
        return {one: pool for one, pool in self._by_id.items() if scope.allows_vendor(one)}

    def _described(self, pool: Pool, description: Description) -> str:
        first = self._by_id.get(description.id)
        if first is not None:
            return same_id(first.enabled.domain, description.domain, description.id)
        self._by_id[description.id] = pool
        # Not now: the pool is about to learn what it has.
        asyncio.get_running_loop().call_soon(self.changed)
        return ""
