"""A real asyd and a real collector: each dies, stalls, lies or comes back, and nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from asys.audit.chain import parse_anchor
from asys.audit.push import Ack, FromCollector
from asys.audit.reading import Action
from asys.audit.segments import AUDIT, READS, find_segments
from asys.audit.trace import resume
from asys.audit.verify import TAMPERED, WHOLE, verify
from asys.protocol.keys import PrivateKey
from support.asyd_cli import asyd_command
from support.audit import make_removable
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, PATIENCE, Daemon
from support.delegates import addition, sealed
from support.frames import BLOCKED, HELLO, OK, frame
from support.loop_disk import LoopDisk, loop_disk_missing
from support.own_daemon import argv, config
from support.raw_agent import RawAgent
from support.recording import Recording, actions, mortal
from support.shadow_collector import Collector
from support.shadow_daemon import (
    RealCollector,
    followed_config,
    real_collector,
    until_flags,
)

pytestmark = pytest.mark.root

AGENTS = {AGENT: "agent caps=all,security"}


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[RealCollector]:
    with real_collector(tmp_path) as made:
        yield made


@pytest.fixture
def config_dir(tmp_path: Path, collector: RealCollector) -> Path:
    return followed_config(tmp_path, collector.address, collector.key, AGENTS, collector.admit)


def shadow_of(collector: RealCollector | Collector, *more: str) -> tuple[str, ...]:
    port = collector.port
    return ("--audit-shadow", f"127.0.0.1:{port}", *more)


def throttles(agent: RawAgent, child: int) -> None:
    """It is done."""
    assert agent.ask(agent.throttle(child)) == OK
    suspended(child)
    assert agent.ask(agent.throttle(child, 1)) == OK
    resumed(child)


def throttles_in_time(agent: RawAgent, child: int) -> None:
    """As `throttles`, where it waits for a collector that may be late on a busy machine."""
    for action, done in ((0, suspended), (1, resumed)):
        in_time(partial(throttled, agent, child, action))
        done(child)


def throttled(agent: RawAgent, child: int, action: int) -> bytes:
    """The status word."""
    return agent.ask(agent.throttle(child, action))


def in_time(ask: Callable[[], bytes]) -> None:
    """Asks until the collector was not too late."""
    end = time.monotonic() + PATIENCE
    while (answer := ask()) != OK:
        assert answer == BLOCKED
        assert time.monotonic() < end


def let_in(agent: RawAgent) -> bytes:
    """AGENT_ADD of somebody new; the status word."""
    return agent.ask(sealed(agent, 0x60, addition(PrivateKey.generate().public)))[-2:]


def whole(directory: Path) -> None:
    for kind in (AUDIT, READS):
        verdict = verify(directory, kind=kind)
        assert verdict.code == WHOLE, verdict


def same(node: Path, copy: Path) -> None:
    """The collector has the very bytes."""
    for kind in (AUDIT, READS):
        segments = find_segments(node, kind)
        assert segments
        for segment in segments:
            assert (copy / segment.path.name).read_bytes() == segment.path.read_bytes()


def newest_anchor(copy: Path) -> tuple[int, bytes]:
    """What the collector holds of what agents did."""
    chain = resume(copy, AUDIT).chain
    return parse_anchor(chain.anchor)


def seqs(directory: Path) -> list[int]:
    """Of all actions, in order."""
    return [one.seq for one in actions(directory) if isinstance(one, Action) and one.seq]


def test_a_collector_that_dies_and_comes_back(
    config_dir: Path, collector: RealCollector, tmp_path: Path
) -> None:
    directory = tmp_path / "audit"
    with ExitStack() as last, waiting() as process:
        asyd = last.enter_context(mortal(config_dir, directory, *shadow_of(collector)))
        with asyd.daemon.connect() as agent:
            until_flags(agent, 0)
            throttles(agent, process.pid)
            in_time(partial(let_in, agent))
            collector.kill()
            until_flags(agent, 1)
            throttles(agent, process.pid)  # whoever cuts the line does not disarm the node
            assert let_in(agent) == BLOCKED
            assert agent.ask(frame(0x14)) == b"\0\0\x91\x01"
            collector.start()
            until_flags(agent, 0)
            in_time(partial(let_in, agent))
            assert agent.ask(frame(0x14)) == b"\0\0" + OK
            before = agent.seq
        asyd.daemon.stop()
        asyd.written()
    [copy] = collector.generations()
    whole(copy)
    same(directory, copy)
    assert seqs(copy) == list(range(1, before + 1))
    refused = [one for one in actions(copy) if one.ins == 0x60 and one.sw == 0x6400]
    assert refused
    assert all(one.intent_ns for one in refused)


def test_a_collector_that_stalls(
    config_dir: Path, collector: RealCollector, tmp_path: Path
) -> None:
    directory = tmp_path / "audit"
    with ExitStack() as last, waiting() as process:
        asyd = last.enter_context(
            mortal(config_dir, directory, *shadow_of(collector, "--audit-strict"))
        )
        with asyd.daemon.connect() as agent:
            until_flags(agent, 0)
            throttles_in_time(agent, process.pid)
            with collector.stopped():
                assert agent.ask(agent.throttle(process.pid)) == BLOCKED
                assert let_in(agent) == BLOCKED
                assert agent.ask(HELLO)[-2:] == OK
                until_flags(agent, 1)
                assert agent.ask(agent.throttle(process.pid)) == BLOCKED
            until_flags(agent, 0)
            throttles_in_time(agent, process.pid)
            in_time(partial(let_in, agent))
        asyd.daemon.stop()
        asyd.written()
    [copy] = collector.generations()
    whole(copy)
    same(directory, copy)


def test_strict_without_a_collector(
    config_dir: Path, collector: RealCollector, tmp_path: Path
) -> None:
    collector.kill()
    with ExitStack() as last, waiting() as process:
        options = shadow_of(collector, "--audit-strict")
        asyd = last.enter_context(mortal(config_dir, tmp_path / "audit", *options))
        with asyd.daemon.connect() as agent:
            assert agent.ask(agent.throttle(process.pid)) == BLOCKED
            assert let_in(agent) == BLOCKED
            assert agent.ask(HELLO)[-2:] == OK
            until_flags(agent, 1)


def test_a_collector_that_lies(tmp_path: Path) -> None:
    def lie(answer: FromCollector) -> FromCollector:
        return replace(answer, h=bytes(32)) if isinstance(answer, Ack) else answer

    directory = tmp_path / "audit"
    with ExitStack() as last, waiting() as process:
        collector = last.enter_context(Collector())
        config_dir = followed_config(
            tmp_path, f"127.0.0.1:{collector.port}", collector.key.public.hex(), AGENTS
        )
        collector.alter = lie
        asyd = last.enter_context(mortal(config_dir, directory, *shadow_of(collector)))
        with asyd.daemon.connect() as agent:
            throttles(agent, process.pid)
            asyd.daemon.wait_for("and the chain there is")
            throttles(agent, process.pid)
            collector.alter = lambda answer: answer
            until_flags(agent, 0)
            in_time(partial(let_in, agent))
        asyd.daemon.stop()
        asyd.written()
    copy = collector.files(tmp_path / "copy")
    whole(copy)
    same(directory, copy)


def shipper_of(asyd: Recording) -> int:
    """The PID of the shipper."""
    [pid] = asyd.children("shipper.py")
    return pid


def test_asyd_killed_again_and_again_and_the_shipper_too(
    config_dir: Path, collector: RealCollector, tmp_path: Path
) -> None:
    directory = tmp_path / "audit"
    done = 0
    with ExitStack() as last, waiting() as process:
        asyds = []
        for turn in range(4):
            asyd = last.enter_context(mortal(config_dir, directory, *shadow_of(collector)))
            asyds.append(asyd)
            with asyd.daemon.connect() as agent:
                until_flags(agent, 0)
                assert agent.ask(agent.throttle(shipper_of(asyd))) == b"\x69\x82"
                for _ in range(turn + 1):
                    throttles(agent, process.pid)
                if turn % 2:
                    os.kill(shipper_of(asyd), signal.SIGKILL)
                    until_flags(agent, 1)
                    throttles(agent, process.pid)
                    until_flags(agent, 0)
                throttles(agent, process.pid)
                done += agent.seq
            if turn < 3:
                asyd.kill()
        asyds[-1].daemon.process.send_signal(signal.SIGTERM)
        assert asyds[-1].daemon.process.wait(PATIENCE) == 0
        for asyd in asyds:
            asyd.written()
    [copy] = collector.generations()
    whole(copy)
    same(directory, copy)
    assert len(seqs(copy)) == done
    count, h = newest_anchor(copy)
    assert verify(directory, anchor=(count, h)).code == WHOLE


def test_what_is_changed_on_the_node_shows_against_the_collector(
    config_dir: Path, collector: RealCollector, tmp_path: Path
) -> None:
    directory = tmp_path / "audit"
    with ExitStack() as last, waiting() as process:
        asyd = last.enter_context(mortal(config_dir, directory, *shadow_of(collector)))
        with asyd.daemon.connect() as agent:
            until_flags(agent, 0)
            throttles(agent, process.pid)
            in_time(partial(let_in, agent))
        asyd.daemon.stop()
        asyd.written()
        [copy] = collector.generations()
        anchor = newest_anchor(copy)
        assert verify(directory, anchor=anchor).code == WHOLE
        # root signs a new chain from its first byte: alone it looks whole
        forged = tmp_path / "forged"
        _forge(config_dir, forged, process.pid, last)
        assert verify(forged).code == WHOLE
        assert verify(forged, anchor=anchor).code == TAMPERED
        for segment in find_segments(directory, AUDIT) + find_segments(directory, READS):
            _replace(segment.path, forged / segment.path.name)
        again = last.enter_context(mortal(config_dir, directory, *shadow_of(collector)))
        again.daemon.wait_for("begins anew")
        with again.daemon.connect() as agent:
            until_flags(agent, 0)
        again.daemon.process.send_signal(signal.SIGTERM)
        assert again.daemon.process.wait(PATIENCE) == 0
        again.written()
    kept, new = collector.generations()
    whole(kept)
    assert newest_anchor(kept) == anchor
    assert find_segments(new, AUDIT)
    assert verify(directory, anchor=anchor).code == TAMPERED


def _forge(config_dir: Path, directory: Path, child: int, last: ExitStack) -> None:
    asyd = last.enter_context(mortal(config_dir, directory))
    with asyd.daemon.connect() as agent:
        throttles(agent, child)
    asyd.daemon.stop()
    asyd.written()


def _replace(path: Path, forged: Path) -> None:
    make_removable(path.parent)
    path.write_bytes(forged.read_bytes())


@pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing())
def test_a_disk_of_the_node_that_hangs(
    config_dir: Path, collector: RealCollector, tmp_path: Path
) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    with ExitStack() as last, waiting() as process:
        disk = last.enter_context(LoopDisk(place))
        directory = disk.path / "audit"
        asyd = last.enter_context(mortal(config_dir, directory, *shadow_of(collector)))
        with asyd.daemon.connect() as agent:
            until_flags(agent, 0)
            throttles(agent, process.pid)
            with disk.hung():
                throttles(agent, process.pid)
                assert let_in(agent) == BLOCKED  # what is not on the disk is not with the collector
                until_flags(agent, 1)
                throttles(agent, process.pid)
            until_flags(agent, 0)
            in_time(partial(let_in, agent))
        asyd.daemon.stop()
        asyd.written()
        [copy] = collector.generations()
        whole(copy)
        same(directory, copy)


# -- who is trusted


def test_without_a_pinned_key_asyd_does_not_start(tmp_path: Path) -> None:
    config_dir = config(tmp_path, AGENTS)
    words = argv(config_dir, "--audit-shadow", "192.0.2.9:7817", "--audit-dir", str(tmp_path / "a"))
    daemon = Daemon(config_dir, words, read_log=True)
    try:
        assert daemon.process.wait(PATIENCE) == 1
        daemon.wait_for("asyd collector trust 192.0.2.9:7817 KEY")
    finally:
        daemon.kill()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--audit-strict",), "name one with --audit-shadow"),
        (("--audit-shadow", "192.0.2.9:7817", "--audit", "off"), "leave one of both"),
        (("--audit-shadow", "192.0.2.9"), "is not HOST:PORT"),
        (("--audit-shadow", "192.0.2.9:0"), "port must be"),
    ],
)
def test_options_that_cannot_mean_anything(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = asyd_command(config(tmp_path, AGENTS), *options)
    assert done.returncode == 2
    assert words in done.stderr
