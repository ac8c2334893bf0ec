"""The example vendor against a real PostgreSQL: SDK -> asyd -> worker in its cage -> server."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from asys_postgres.client import Postgres, SyncPostgres
from asys_postgres.definition import State

import asys
from asys.client.identity import Identity
from asys.errors import Blocked, Denied, InvalidPayload, NoSuchInstruction
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.postgres import USER, Server, programs, server
from support.vendors import Packages

pytestmark = pytest.mark.root

DOMAIN = "postgres.example.org"
SOURCE = Path(__file__).parents[2] / "examples/vendor_postgres/src/asys_postgres"
AGENTS = {
    AGENT: f"dba caps=core,C0,C1,C2 vendors={DOMAIN}",
    CORE_AGENT: "reader caps=core,C0,C1",
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    if programs() is None:
        pytest.skip("needs PostgreSQL; on Debian: apt-get install postgresql")
    with server() as made:
        config = made.directory / "asys.conf"
        config.write_text(made.conninfo + "\n")
        config.chmod(0o644)
        with made.connect(autocommit=True) as setup:
            setup.execute("CREATE TABLE orders (i int)")
        yield made


@pytest.fixture
def node(postgres: Server, tmp_path: Path) -> Iterator[Daemon]:
    packages = Packages(tmp_path / "site")
    (tmp_path / "node").mkdir(mode=0o700)
    shutil.copytree(SOURCE, packages.directory / "asys_postgres", ignore=lambda *_: ["__pycache__"])
    packages.declare(DOMAIN, "asys_postgres.definition:VENDOR", "asys_postgres")
    enabled = f"{DOMAIN},user={USER},config={postgres.directory}/asys.conf"
    with running(
        tmp_path / "node", "--vendor", enabled, agents=AGENTS, prelude=packages.prelude
    ) as daemon:
        yield daemon


def dial(node: Daemon, key: PrivateKey) -> asys.Connecting:
    return asys.connect(*node.endpoint, identity=Identity(key), node_key=node.key)


class Queue:
    """One session that holds a lock, and one whose statement waits for it."""

    def __init__(self, postgres: Server) -> None:
        self.holder = postgres.connect()
        self.holder.execute("LOCK TABLE orders")
        self.waiter = postgres.connect(autocommit=True)
        self.fate: str | None = None
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()
        with postgres.connect(autocommit=True) as looking:
            while not looking.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
                looking.execute("SELECT pg_sleep(0.01)")

    def _wait(self) -> None:
        try:
            self.waiter.execute("SELECT * FROM orders")
            self.fate = "done"
        except psycopg.errors.QueryCanceled:
            self.fate = "cancelled"

    def join(self) -> str | None:
        """How the waiting statement ended."""
        self._thread.join(30)
        return self.fate

    def close(self) -> None:
        self.holder.close()
        self.join()
        self.waiter.close()


@pytest.fixture
def queue(postgres: Server) -> Iterator[Queue]:
    made = Queue(postgres)
    try:
        yield made
    finally:
        made.close()


async def test_a_dba_finds_who_blocks_and_ends_it(node: Daemon, queue: Queue) -> None:
    waiting, holding = queue.waiter.info.backend_pid, queue.holder.info.backend_pid
    async with dial(node, AGENT) as agent:
        assert agent.can("C0")
        database = Postgres(agent)
        (wait,) = (await database.pg_blockers()).waits
        assert wait.pid == waiting
        assert (wait.blocked_by, wait.root) == (holding, holding)
        assert wait.relation == "orders"

        activity = await database.pg_activity(least_ms=0)
        shown = {one.pid: one for one in activity.backends}
        assert shown[waiting].state is State.ACTIVE
        assert shown[waiting].blocked_by == holding
        assert shown[waiting].query.raw == "SELECT * FROM orders"
        assert shown[holding].state is State.IDLE_IN_TRANSACTION
        assert (await database.pg_activity(least_ms=10**9)).count == 0

        await database.pg_cancel(pid=waiting)
        assert queue.join() == "cancelled"
        assert queue.waiter.execute("SELECT 7").fetchone() == (7,)  # its session stays
        with pytest.raises(InvalidPayload):
            await database.pg_cancel(pid=1)


def test_without_asyncio_and_without_types(node: Daemon, queue: Queue) -> None:
    with asys.sync.connect(*node.endpoint, identity=Identity(AGENT), node_key=node.key) as agent:
        typed = SyncPostgres(agent).pg_activity()
        assert typed.count >= 2
        from asys_postgres.definition import VENDOR

        plain = agent.vendor(VENDOR)
        assert plain.pg_activity().total == typed.total
        assert plain.pg_cancel(pid=queue.waiter.info.backend_pid) is None
    assert queue.join() == "cancelled"


async def test_who_was_not_granted_it(node: Daemon) -> None:
    async with asys.connect(
        *node.endpoint, identity=Identity(CORE_AGENT), node_key=node.key
    ) as agent:
        with pytest.raises(Denied):  # codes, but not this vendor
            await Postgres(agent).pg_activity()
        with pytest.raises(NoSuchInstruction):  # not even the code
            await Postgres(agent).pg_cancel(pid=5)


async def test_a_server_that_is_down_and_comes_back(node: Daemon, postgres: Server) -> None:
    async with dial(node, AGENT) as agent:
        database = Postgres(agent)
        assert (await database.pg_activity()).count >= 0
        postgres.control("-m", "immediate", "stop")
        try:
            with pytest.raises(Blocked):
                await database.pg_activity()
            assert (await agent.sys_hello()).time_ns  # the node does not mind
        finally:
            postgres.control("-l", str(postgres.directory / "log"), "start")
        assert (await database.pg_activity()).count >= 0
