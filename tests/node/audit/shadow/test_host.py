"""The shipper as a process of its own: it follows, is killed, catches up, and ends behind asyd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from asys.audit.chain import format_anchor, parse_anchor
from asys.audit.push import Ack, FromCollector, Reason
from asys.audit.segments import AUDIT, READS, find_segments
from asys.audit.verify import WHOLE, verify
from asys.node.audit.log import DEGRADED
from asys.node.audit.shadow import strict
from asys.node.audit.shadow.host import Shadow, ShadowHost
from asys.node.audit.stream import Keeping
from asys.node.audit.supervisor import Supervisor
from asys.node.audit.writer import WriterOptions
from asys.node.clock import LoopClock
from asys.protocol.keys import PrivateKey
from support.audit import KEY, PATIENCE, sequence, until
from support.shadow_collector import Collector

NODE = PrivateKey.generate()


@contextlib.asynccontextmanager
async def shadowed(
    directory: Path, collector: Collector, *, keeping: Keeping | None = None
) -> AsyncIterator[Supervisor]:
    """An audit with its writer and its shipper; behind the block both have ended."""
    audit = Supervisor(
        WriterOptions(directory, append_only=False, keeping=keeping or Keeping()),
        LoopClock(asyncio.get_running_loop()),
        shadow=Shadow(collector.destination, NODE),
    )
    audit.start()
    assert audit.shadow is not None
    audit.shadow.start()
    try:
        yield audit
    finally:
        await audit.close(PATIENCE)


def act(audit: Supervisor, session: int, seqs: range) -> None:
    """Intents with these Seqs."""
    for seq in seqs:
        assert audit.log.intent(session, 0x84, 0x20, seq, b"")


def another(shadow: ShadowHost, pid: int) -> bool:
    """Whether there is another shipper than that."""
    return shadow.pids not in ((pid,), ())


def on_disk(audit: Supervisor) -> bool:
    """Whether all that was done is on the node's disk."""
    return audit.log.doing.tail == audit.log.doing.head


def followed(audit: Supervisor) -> bool:
    """Whether the collector has all that was put."""
    rings = audit.log.doing, audit.log.reading
    return all(ring.followed and ring.acknowledged == ring.head for ring in rings)


async def test_what_is_recorded_is_with_the_collector(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    with Collector() as collector:
        async with shadowed(directory, collector) as audit:
            assert audit.log.flags == DEGRADED
            session = audit.log.open_session(KEY, "label", 1, "peer")
            act(audit, session, range(1, 5001))
            audit.log.read(session, 1, 0x9000)
            await until(lambda: followed(audit) and not audit.log.flags)
            assert audit.shadow is not None
            assert audit.shadow.pids[0] in audit.pids
        assert collector.nodes == {NODE.public}
        copy = collector.files(tmp_path / "copy")
    assert sequence(copy) == list(range(1, 5001))
    for kind in (AUDIT, READS):
        assert verify(copy, kind=kind).code == WHOLE
        for segment in find_segments(directory, kind):
            assert (copy / segment.path.name).read_bytes() == segment.path.read_bytes()
    kept = collector.now()
    anchor = parse_anchor(format_anchor(kept.count, kept.h))
    assert verify(directory, anchor=anchor).code == WHOLE


async def test_a_shipper_that_is_killed_again_and_again_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "audit"
    with Collector() as collector:
        async with shadowed(directory, collector, keeping=Keeping(segment_bytes=20_000)) as audit:
            shadow = audit.shadow
            assert shadow is not None
            session = audit.log.open_session(KEY, "label", 1, "peer")
            seq = 0
            for _ in range(4):
                for _ in range(20):
                    act(audit, session, range(seq + 1, seq + 51))
                    seq += 50
                    await asyncio.sleep(0.01)
                [pid] = shadow.pids
                os.kill(pid, signal.SIGKILL)
                await until(lambda: audit.log.flags == DEGRADED)
                await until(partial(another, shadow, pid))
                await until(lambda: bool(audit.log.doing.followed))
            await until(lambda: followed(audit) and not audit.log.flags)
        copy = collector.files(tmp_path / "copy")
    assert sequence(copy) == list(range(1, seq + 1))
    assert verify(copy).code == verify(copy, kind=READS).code == WHOLE
    assert collector.anew == 0
    assert len(find_segments(copy, AUDIT)) > 3
    assert "has died" in caplog.text


async def test_a_collector_that_goes_and_comes(tmp_path: Path) -> None:
    with Collector() as collector:
        async with shadowed(tmp_path / "audit", collector) as audit:
            session = audit.log.open_session(KEY, "label", 1, "peer")
            act(audit, session, range(1, 11))
            await until(lambda: followed(audit) and not audit.log.flags)
            collector.listen(False)
            await until(lambda: audit.log.flags == DEGRADED)
            act(audit, session, range(11, 1001))
            await until(partial(on_disk, audit))
            assert audit.log.doing.acknowledged < audit.log.doing.tail
            collector.listen(True)
            await until(lambda: followed(audit) and not audit.log.flags)
        copy = collector.files(tmp_path / "copy")
    assert sequence(copy) == list(range(1, 1001))
    assert verify(copy).code == WHOLE


async def test_a_lie_is_no_acknowledgement(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector() as collector:

        def lie(answer: FromCollector) -> FromCollector:
            return replace(answer, h=bytes(32)) if isinstance(answer, Ack) else answer

        collector.alter = lie
        async with shadowed(tmp_path / "audit", collector) as audit:
            session = audit.log.open_session(KEY, "label", 1, "peer")
            act(audit, session, range(1, 11))
            await until(lambda: "and the chain there is" in caplog.text)
            assert audit.log.flags == DEGRADED
            collector.alter = lambda answer: answer
            await until(lambda: followed(audit) and not audit.log.flags)
    assert collector.connections > 1


async def test_a_silent_collector_degrades_after_a_while(tmp_path: Path) -> None:
    with Collector() as collector:
        async with shadowed(tmp_path / "audit", collector) as audit:
            await until(lambda: followed(audit) and not audit.log.flags)
            collector.alter = lambda answer: None if isinstance(answer, Ack) else answer
            session = audit.log.open_session(KEY, "label", 1, "peer")
            act(audit, session, range(1, 11))
            assert audit.log.flags == 0
            await until(lambda: audit.log.flags == DEGRADED)
            collector.alter = lambda answer: answer
            collector.hang_up()
            await until(lambda: followed(audit) and not audit.log.flags)


async def test_a_collector_that_does_not_know_the_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector(knows=False) as collector:
        async with shadowed(tmp_path / "audit", collector) as audit:
            await until(lambda: f"asys audit admit DIR {NODE.public.hex()}" in caplog.text)
            assert audit.log.flags == DEGRADED
            collector.knows = True
            await until(lambda: followed(audit) and not audit.log.flags)


async def test_a_collector_with_another_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector() as collector, Collector() as other:
        other_destination = replace(collector.destination, key=other.key.public)
        audit = Supervisor(
            WriterOptions(tmp_path / "audit", append_only=False),
            LoopClock(asyncio.get_running_loop()),
            shadow=Shadow(other_destination, NODE),
        )
        audit.start()
        assert audit.shadow is not None
        audit.shadow.start()
        await until(lambda: "known_collectors" in caplog.text)
        assert audit.log.flags == DEGRADED
        await audit.close(PATIENCE)
        assert collector.nodes == set()


async def test_a_disk_of_the_collector_that_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector() as collector:
        collector.refusal = Reason.DISK
        async with shadowed(tmp_path / "audit", collector) as audit:
            session = audit.log.open_session(KEY, "label", 1, "peer")
            act(audit, session, range(1, 11))
            await until(lambda: "its disk does not take it" in caplog.text)
            assert audit.log.flags == DEGRADED
            collector.refusal = None
            await until(lambda: followed(audit) and not audit.log.flags)
        assert collector.anew == 0


async def test_what_a_collector_has_lost_begins_anew(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    async with contextlib.AsyncExitStack() as stack:
        collector = stack.enter_context(Collector())
        async with shadowed(directory, collector) as audit:
            session = audit.log.open_session(KEY, "label", 1, "peer")
            act(audit, session, range(1, 11))
            await until(lambda: followed(audit))
        kept = collector.now()
        kept.h = bytes(32)  # it has the chain of another node by now
        async with shadowed(directory, collector) as audit:
            await until(lambda: followed(audit) and not audit.log.flags)
        assert collector.anew == 1
        copy = collector.files(tmp_path / "copy")
    assert sequence(copy) == list(range(1, 11))
    assert verify(copy).code == WHOLE


async def test_what_no_collector_takes_ends_the_shipper_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for it; it tries for a while, and does not stay."""
    with Collector() as collector:
        collector.listen(False)
        async with shadowed(tmp_path / "audit", collector) as audit:
            shadow = audit.shadow
            assert shadow is not None
            [pid] = shadow.pids
            await until(lambda: "does not follow" in caplog.text)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)
            pidfd = os.pidfd_open(pid)
        await asyncio.to_thread(os.waitid, os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


async def test_it_catches_up_over_many_segments(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    keeping = Keeping(segment_bytes=5_000)
    with Collector() as collector:
        collector.listen(False)
        async with shadowed(directory, collector, keeping=keeping) as audit:
            session = audit.log.open_session(KEY, "label", 1, "peer")
            seq = 0
            while not seq or len(find_segments(directory, AUDIT)) < 20:
                act(audit, session, range(seq + 1, seq + 101))
                seq += 100
                await until(partial(on_disk, audit))
            collector.listen(True)
            await until(lambda: followed(audit) and not audit.log.flags)
        copy = collector.files(tmp_path / "copy")
    assert sequence(copy) == list(range(1, seq + 1))
    assert verify(copy).code == WHOLE


async def test_segments_that_have_expired_make_it_begin_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "audit"
    keeping = Keeping(segment_bytes=5_000)
    with Collector() as collector:
        async with shadowed(directory, collector, keeping=keeping) as audit:
            session = audit.log.open_session(KEY, "label", 1, "peer")
            act(audit, session, range(1, 11))
            await until(lambda: followed(audit) and not audit.log.flags)
            collector.listen(False)
            await until(lambda: audit.log.flags == DEGRADED)
            seq = 10
            while len(find_segments(directory, AUDIT)) < 5:
                act(audit, session, range(seq + 1, seq + 101))
                seq += 100
                await until(partial(on_disk, audit))
            for segment in find_segments(directory, AUDIT)[:2]:
                segment.path.unlink()
            collector.listen(True)
            await until(lambda: followed(audit) and not audit.log.flags)
        assert "begins anew" in caplog.text
        assert collector.anew == 1
        old, new = collector.kept[AUDIT]
        assert old.segment == 1
        assert min(new.segments) == 3
        copy = collector.files(tmp_path / "copy")
    assert sequence(copy)[-1] == seq
    assert verify(copy, anchor=(new.count, new.h)).code == WHOLE


async def test_a_shipper_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Collector() as collector:
        async with shadowed(tmp_path / "audit", collector) as audit:
            shadow = audit.shadow
            assert shadow is not None
            await until(lambda: followed(audit))
            with monkeypatch.context() as patched:
                patched.setattr(sys, "executable", str(tmp_path / "none"))
                os.kill(shadow.pids[0], signal.SIGKILL)
                await until(lambda: "cannot be started" in caplog.text)
                assert audit.log.flags == DEGRADED
                assert shadow.pids == ()
            await until(lambda: followed(audit) and not audit.log.flags)


async def test_somebody_waits_while_there_is_no_shipper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strict, "PATIENCE", 0.05)
    with Collector() as collector:
        audit = Supervisor(
            WriterOptions(tmp_path / "audit", append_only=False),
            LoopClock(asyncio.get_running_loop()),
            shadow=Shadow(collector.destination, NODE),
        )
        assert audit.shadow is not None
        session = audit.log.open_session(KEY, "label", 1, "peer")
        act(audit, session, range(1, 2))
        assert not await audit.shadow.strict.acknowledged(audit.log.doing.head)
        await audit.close()


async def test_what_waits_goes_on_when_the_collector_has_it(tmp_path: Path) -> None:
    with Collector() as collector:
        async with shadowed(tmp_path / "audit", collector) as audit:
            shadow = audit.shadow
            assert shadow is not None
            await until(lambda: followed(audit))
            session = audit.log.open_session(KEY, "label", 1, "peer")
            for seq in range(1, 20):
                act(audit, session, range(seq, seq + 1))
                # On a busy machine one may be late; it is tried again, and there by then.
                while not await shadow.strict.acknowledged(audit.log.doing.head):
                    pass
                kept = collector.now()
                assert kept.count
                assert audit.log.doing.acknowledged == audit.log.doing.head
