"""How cases are chosen, run and judged, and what a report says of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from asys.client.address import Address
from asys.conformance import report, runner
from asys.conformance.case import Case, Level, all_cases, case
from asys.conformance.probe import SESSION, Probe, Target, Timing
from asys.conformance.runner import Run, choose, reached
from asys.conformance.verdicts import Failed, KnownDeviation, NotRun, Outcome, Verdict
from asys.conformance.wire import Unreachable
from conformance.model import Node
from conformance.parts import TIMING, Connection, Gone

CASES = all_cases()


def passes(probe: Probe) -> None:
    return


def fails(probe: Probe) -> None:
    raise Failed("the node says no")


def differs(probe: Probe) -> None:
    probe.deviates("as deployed nodes do")


def lacks(probe: Probe) -> None:
    raise NotRun("nothing to try it on")


def made(run: object, level: Level = Level.CORE, *needs: object) -> Case:
    """A case that is in no table."""
    name = getattr(run, "__name__", "case")
    return Case(f"made.{name}", level, "1.1", f"it {name}", needs, run)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as one:
        yield one


def verdicts(node: Node, *cases: Case, **options: int) -> list[Verdict]:
    plan = Run(cases, timing=TIMING, **options)  # type: ignore[arg-type]
    return [one.verdict for one in runner.run(node.target(), plan)]


# -- the table of cases


def test_every_case_says_what_it_needs_and_where_it_stands() -> None:
    assert len(CASES) > 150
    assert [one.level for one in CASES] == sorted(one.level for one in CASES)
    assert {one.level for one in CASES} == set(Level)
    for one in CASES:
        assert one.title
        assert one.title[0] != " "
        assert len(one.id) <= 30


@pytest.mark.parametrize(
    ("id", "section"), [("link.version", "1.1"), ("version", "1.1"), ("link.new", "one")]
)
def test_a_case_has_an_id_of_its_own_and_a_section(id: str, section: str) -> None:
    with pytest.raises(ValueError, match="is no case"):
        case(id, Level.LINK, section, "something")(passes)


def test_levels_and_patterns_choose() -> None:
    assert choose(CASES, None, ()) == CASES
    assert {one.level for one in choose(CASES, 2, ())} == {Level.LINK, Level.FRAMES}
    assert [one.id for one in choose(CASES, None, ["hello.*", "caps.length"])] == [
        "caps.length",
        "hello.length",
        "hello.magic",
        "hello.uid",
        "hello.time",
    ]
    assert choose(CASES, 1, ["hello.*"]) == ()


# -- verdicts


def test_verdicts_are_what_cases_say(node: Node) -> None:
    found = verdicts(node, made(passes), made(fails), made(lacks))
    assert found == [Verdict.PASSED, Verdict.FAILED, Verdict.NOT_RUN]


def test_a_deviation_is_a_failure_of_a_node_that_speaks_part_b(node: Node) -> None:
    assert verdicts(node, made(differs)) == [Verdict.FAILED]


def test_a_deviation_is_known_of_others_unless_the_specification_judges() -> None:
    target = Target(Address.of("127.0.0.1", 1), bytes(32))
    with pytest.raises(KnownDeviation):
        Probe(target, TIMING).deviates("so")
    with pytest.raises(Failed):
        Probe(target, TIMING, specified=True).deviates("so")


def test_what_is_required_and_not_run_is_a_failure(node: Node) -> None:
    low, high = made(lacks, Level.LINK), made(lacks, Level.PART_B)
    assert verdicts(node, low, high, require=1) == [Verdict.FAILED, Verdict.NOT_RUN]
    assert verdicts(node, low, high, require=6) == [Verdict.FAILED, Verdict.FAILED]


def test_what_is_drawn_at_random_depends_on_seed_and_case_alone(node: Node) -> None:
    drawn: list[bytes] = []

    def draws(probe: Probe) -> None:
        drawn.append(probe.random.randbytes(8))

    one, other = made(draws), replace(made(draws), id="made.other")
    verdicts(node, one, other)
    verdicts(node, other, one)
    verdicts(node, one, seed=1)
    assert drawn[0] == drawn[3]
    assert drawn[1] == drawn[2]
    assert len(set(drawn)) == 3


def test_without_means_everything_that_changes_something_is_not_run(node: Node) -> None:
    bare = Target(node.target().address, node.main.private_bytes_raw())
    found = runner.run(bare, Run(CASES, timing=TIMING))
    left_out = {one.case.id for one in found if one.verdict is Verdict.NOT_RUN}
    assert {one.case.id for one in found if one.verdict is Verdict.FAILED} == set()
    means = ("--other", "--pid", "--service", "--outside", "--chainable", "--slow")
    assert left_out == {
        one.id for one in CASES if any(need.title.startswith(means) for need in one.needs)
    }


# -- nodes that cannot be reached


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    target = Target(Address.of("127.0.0.1", port), bytes(range(32)))
    found = runner.run(target, Run(choose(CASES, 3, ()), timing=TIMING))
    assert {one.verdict for one in found} == {Verdict.FAILED, Verdict.NOT_RUN}
    assert all(one.verdict is Verdict.NOT_RUN for one in found if SESSION in one.case.needs)
    assert "no connection" in found[0].detail


def test_a_node_that_was_full_for_a_moment_is_asked_again() -> None:
    class FullOnce(Node):
        met = 0

        def read_magic(self, one: Connection) -> None:
            super().read_magic(one)
            self.met += 1
            if self.met == 4:  # the first three are those of what the kit learns before
                raise Gone

    def connects(probe: Probe) -> None:
        probe.session()

    node = FullOnce()
    with node:
        plan = Run([made(connects), made(connects)], timing=TIMING)
        found = runner.run(replace(node.target(), other=None), plan)
    assert [one.verdict for one in found] == [Verdict.PASSED] * 2
    assert node.met == 6


def test_connections_are_opened_no_faster_than_the_pace(node: Node) -> None:
    probe = Probe(node.target(), replace(TIMING, pace=20.0, burst=1))
    started = time.monotonic()
    for _ in range(5):
        probe.dial()
    probe.release()
    assert time.monotonic() - started >= 4 / 20.0 - 0.01


def test_every_wait_ends() -> None:
    """Against a listener that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            target = Target(Address.of(*listener.getsockname()), bytes(range(32)))
            timing = Timing(timeout=0.2, quiet=0.01, magic=0.1, handshake=0.1, slack=0.1, pace=0)
            found = runner.run(target, Run(choose(CASES, 1, ()), timing=timing))
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()
    passed = [one.case.id for one in found if one.verdict is Verdict.PASSED]
    assert passed == ["link.silent-first"]


def test_a_path_is_a_unix_socket(tmp_path: object) -> None:
    with pytest.raises(Unreachable, match="no connection"):
        Probe(Target(Address.of(f"unix:{tmp_path}/none"), bytes(32)), TIMING).dial()


# -- reports


def outcome(verdict: Verdict, level: Level, detail: str = "") -> Outcome:
    return Outcome(made(passes, level), verdict, detail, 0.25)


MIXED = [
    outcome(Verdict.PASSED, Level.LINK),
    outcome(Verdict.KNOWN, Level.FRAMES, "closes"),
    outcome(Verdict.NOT_RUN, Level.CORE, "needs <more>"),
    outcome(Verdict.FAILED, Level.SECURITY, 'it says "no"'),
    outcome(Verdict.PASSED, Level.STANDARD),
]


def test_the_level_that_is_reached() -> None:
    assert reached(MIXED) is Level.FRAMES
    assert reached(MIXED[:1]) is Level.LINK
    assert reached(MIXED[3:]) is None
    assert reached(MIXED[2:3]) is None
    assert reached([*MIXED[:3], MIXED[4]]) is Level.STANDARD


def test_the_conclusion_says_all_of_it() -> None:
    said = "2 passed, 1 failed, 1 known deviation, 1 not run; level 2 is reached and none above it"
    assert report.conclusion(MIXED) == said
    assert report.conclusion(MIXED[3:4]) == "1 failed; no level is reached"


def test_data_has_every_case() -> None:
    data = report.as_data("box:7816", MIXED)
    assert data["node"] == "box:7816"
    assert data["level"] == 2
    assert data["counts"] == {"passed": 2, "failed": 1, "known": 1, "not_run": 1}
    assert [one["verdict"] for one in data["cases"]] == [
        "passed",
        "known",
        "not_run",
        "failed",
        "passed",
    ]
    assert data["cases"][3]["detail"] == 'it says "no"'


def test_junit_has_a_suite_for_each_level() -> None:
    root = ElementTree.fromstring(report.as_junit("box:7816", MIXED))  # noqa: S314 -- our own
    suites = root.findall("testsuite")
    assert [one.get("name", "")[:7] for one in suites] == [f"level {n}" for n in range(1, 6)]
    assert [one.get("failures") for one in suites] == ["0", "0", "0", "1", "0"]
    assert [one.get("skipped") for one in suites] == ["0", "0", "1", "0", "0"]
    failure = suites[3].find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == 'it says "no"'
    skipped = suites[2].find("testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "needs <more>"
    assert suites[1].findtext("testcase/system-out") == "known deviation: closes"


def test_keys_stay_out_of_what_is_printed(node: Node) -> None:
    target = node.target()
    assert target.identity.hex() not in repr(target)
    assert repr(target.identity) not in repr(target)
    assert "identity" not in repr(target)
