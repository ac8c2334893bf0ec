"""A real asyd: what is on record comes before what is done, and in its order, whatever is read."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asys.audit.parameters import JournalReader, Proof
from asys.audit.reading import Action, State
from asys.audit.segments import READS
from asys.node.audit.writer import QUIET_SECONDS
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, CORE_AGENT, PATIENCE
from support.frames import HELLO, OK, STATUS, scrambled
from support.loop_disk import LoopDisk, fill, loop_disk_missing
from support.own_daemon import config
from support.raw_agent import Ended, RawAgent
from support.recording import actions, assert_whole, mortal

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(loop_disk_missing()), reason=loop_disk_missing()),
]

AGENTS = {AGENT: "agent caps=all", CORE_AGENT: "other caps=all"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    with LoopDisk(place) as made:
        yield made


# -- before and after

DIES = """
import os, signal
real = signal.pidfd_send_signal
def deadly(fd, number, *rest):
    if number == signal.SIGSTOP and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(fd, number, *rest)
    if number == signal.SIGSTOP:
        os.kill(os.getpid(), signal.SIGKILL)
signal.pidfd_send_signal = deadly
"""
"""asyd dies in the moment before it does something, or in the moment behind it."""


@pytest.mark.parametrize("before", [True, False])
def test_an_intent_is_on_record_before_its_effect(tmp_path: Path, before: bool) -> None:
    config_dir, directory = config(tmp_path, AGENTS), tmp_path / "audit"
    prelude = DIES.format(before=before)
    options = ("--audit-parameters", "on")
    with waiting() as child:
        with mortal(config_dir, directory, *options, prelude=prelude) as asyd:
            with asyd.daemon.connect() as agent:
                assert agent.ask(agent.throttle(child.pid, 1)) == OK
                with pytest.raises(Ended):
                    agent.ask(agent.throttle(child.pid))
            asyd.written()
        if before:
            assert not os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOHANG)
        else:
            suspended(child.pid)
    assert_whole(directory)
    done, begun = actions(directory)
    assert (done.seq, done.state) == (1, State.ANSWERED)
    assert (begun.seq, begun.state) == (2, State.UNFINISHED)
    found = JournalReader(directory).find(begun)
    assert found.proof is Proof.PROVED


TELLS = """
import os, signal
real = signal.pidfd_send_signal
told = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
pids = {{}}
def telling(fd, number, *rest):
    real(fd, number, *rest)
    if number in (signal.SIGSTOP, signal.SIGCONT):
        with open(f"/proc/self/fdinfo/{{fd}}") as info:
            pid = next(line.split()[1] for line in info if line.startswith("Pid:"))
        os.write(told, f"{{pid}} {{int(number == signal.SIGCONT)}}\\n".encode())
signal.pidfd_send_signal = telling
"""
"""asyd says in a file what it has done to whom."""


def test_records_are_in_the_order_of_execution(tmp_path: Path) -> None:
    config_dir, directory = config(tmp_path, AGENTS), tmp_path / "audit"
    effects = tmp_path / "effects"
    prelude = TELLS.format(path=str(effects))
    options = ("--audit-parameters", "on")
    rounds, each = 40, 10
    together = threading.Barrier(2)
    with ExitStack() as stack:
        pids = [stack.enter_context(waiting()).pid for _ in range(3)]
        with mortal(config_dir, directory, *options, prelude=prelude) as asyd:

            def act(agent: RawAgent, seed: int) -> None:
                for step in range(rounds):
                    order = scrambled(2 * each, f"{seed} {step}")
                    wanted = [(pids[order[n] % 3], order[n + each] % 2) for n in range(each)]
                    together.wait(PATIENCE)
                    agent.send(*(agent.throttle(pid, action) for pid, action in wanted))
                    assert [agent.answer() for _ in wanted] == [OK] * each

            agents = [asyd.daemon.connect(key) for key in AGENTS]
            threads = [
                threading.Thread(target=act, args=(agent, seed))
                for seed, agent in enumerate(agents)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            done = [tuple(map(int, line.split())) for line in effects.read_text().splitlines()]
            for agent in agents:
                agent.close()
            asyd.daemon.stop()
            asyd.written()
    assert len(done) == 2 * rounds * each
    found = actions(directory)
    journal = JournalReader(directory)
    recorded = []
    for one in found:
        parameters = journal.find(one).parameters
        assert parameters is not None
        recorded.append((int.from_bytes(parameters.payload, "big"), parameters.p1))
    assert recorded == done
    switches = sum(one.session != other.session for one, other in itertools.pairwise(found))
    assert switches > 1, "both were at work at one time"


# -- reading

READINGS = 20_000


def test_a_flood_of_reads_never_costs_a_record_of_doing(disk: LoopDisk, tmp_path: Path) -> None:
    """While the disk hangs, so that nothing makes room."""
    config_dir, directory = config(tmp_path, AGENTS), disk.path / "audit"
    with waiting() as child, mortal(config_dir, directory) as asyd:
        reader, agent = asyd.daemon.connect(CORE_AGENT), asyd.daemon.connect()
        counts = dict.fromkeys((1, 2), 0)

        def flood() -> None:
            while sum(counts.values()) < READINGS or not done.is_set():
                reader.send(*[HELLO] * 50, *[STATUS] * 50)
                for _ in range(100):
                    assert reader.answer()[-2] in (0x90, 0x91)
                counts[1] += 50
                counts[2] += 50

        done = threading.Event()
        flooding = threading.Thread(target=flood)
        with reader, agent:
            assert agent.ask(agent.throttle(child.pid, 1)) == OK
            with disk.hung():
                flooding.start()
                for _ in range(100):
                    agent.send(*[agent.throttle(child.pid, 1) for _ in range(10)])
                    assert [agent.answer() for _ in range(10)] == [OK] * 10
                done.set()
                flooding.join()
        asyd.daemon.stop()
        asyd.written()
    assert_whole(directory)
    found = actions(directory)
    assert [one.seq for one in found] == list(range(1, 1002))
    assert {(one.sw, one.intent_ns is not None) for one in found} == {(0x9000, True)}
    seen = dict.fromkeys(counts, 0)
    for one in actions(directory, READS):
        if one.agent == "other":
            seen[one.ins] += one.times
    assert seen == counts


# -- how soon it shows


class Lag:
    """How late this process wakes up from equal sleeps, at worst: what the machine adds."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while True:
            begun = time.monotonic()
            if self._over.wait(0.02):
                return
            self.worst = max(self.worst, time.monotonic() - begun - 0.02)

    def __enter__(self) -> Lag:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


TRIES = 8
"""A machine that is busy may be late more often than not; asyd itself never is."""


def until_degraded(agent: RawAgent, wanted: int = 1) -> None:
    end = time.monotonic() + PATIENCE
    while agent.ask(STATUS)[17] != wanted:
        assert time.monotonic() < end
        time.sleep(0.002)


def seconds_until_degraded(agent: RawAgent, bound: float, cause: Callable[[], object]) -> bool:
    """Whether it was up within the bound, and how late the machine was; says both."""
    with Lag() as lag:
        begun = time.monotonic()
        cause()
        until_degraded(agent)
        took = time.monotonic() - begun
    print(f"AUDIT_DEGRADED after {took:.3f} s; the machine was late by {lag.worst:.3f} s")
    return took <= bound + lag.worst


def on_record(directory: Path) -> list[Action]:
    return actions(directory) if directory.exists() else []


def until_written(directory: Path, agent: RawAgent) -> None:
    end = time.monotonic() + PATIENCE
    while not any(one.seq == agent.seq for one in on_record(directory)):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("fault", ["full", "gone"])
def test_an_error_shows_within_200_ms_until_all_is_on_the_disk(
    disk: LoopDisk, tmp_path: Path, fault: str
) -> None:
    config_dir, directory = config(tmp_path, AGENTS), disk.small / "audit"
    with (
        waiting() as child,
        mortal(config_dir, directory) as asyd,
        asyd.daemon.connect() as agent,
    ):

        def acts() -> None:
            agent.send(*[agent.throttle(child.pid, 1) for _ in range(400)])
            assert [agent.answer() for _ in range(400)] == [OK] * 400

        acts()
        moved = 0
        for number in range(TRIES):
            until_written(directory, agent)
            time.sleep(1.1 * QUIET_SECONDS)  # from then on the writer looks less often
            if fault == "full":
                fill(disk.small)
                in_time = seconds_until_degraded(agent, 0.2, acts)
                (disk.small / "filler").unlink()
            else:
                gone = disk.small / f"gone{number}"
                in_time = seconds_until_degraded(
                    agent,
                    0.2,
                    lambda: directory.rename(gone),  # noqa: B023  it runs at once
                )
                moved = agent.seq
                acts()
            until_degraded(agent, 0)
            seqs = [one.seq for one in on_record(directory)]
            assert seqs[-1] == agent.seq, "it was down, and not all was on the disk"
            assert seqs == list(range(moved + 1, agent.seq + 1))
            if in_time:
                break
        else:
            pytest.fail("it was never up in time")


def test_a_hang_shows_within_2_2_s_until_all_is_on_the_disk(disk: LoopDisk, tmp_path: Path) -> None:
    config_dir, directory = config(tmp_path, AGENTS), disk.path / "audit"
    with (
        waiting() as child,
        mortal(config_dir, directory) as asyd,
        asyd.daemon.connect() as agent,
    ):
        for _ in range(TRIES):
            begun = time.monotonic()  # no record that is not on the disk is older
            assert agent.ask(agent.throttle(child.pid)) == OK
            suspended(child.pid)
            until_degraded(agent, 0)
            with disk.hung():
                in_time = seconds_until_degraded(
                    agent, 2.2, lambda: agent.ask(agent.throttle(child.pid, 1))
                )
                assert time.monotonic() - begun >= 1.9
            resumed(child.pid)
            until_degraded(agent, 0)
            assert [one.seq for one in on_record(directory)] == list(range(1, agent.seq + 1))
            if in_time:
                break
        else:
            pytest.fail("it was never up in time")
