"""Runs cases against a node, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from asys.conformance.case import Case, Level
from asys.conformance.frames import HELLO, SYS_CAPS, frame, number
from asys.conformance.probe import Facts, Probe, Target, Timing
from asys.conformance.verdicts import Failed, KnownDeviation, NotRun, Outcome, Verdict
from asys.conformance.wire import Session, WireError


@dataclass(frozen=True, slots=True)
class Run:
    """What to run and how to judge. `require`: what is not run up to that level is a failure."""

    cases: Sequence[Case]
    timing: Timing = field(default_factory=Timing)
    seed: int = 0
    specified: bool = False
    require: int = 0


def choose(cases: Iterable[Case], level: int | None, only: Sequence[str]) -> tuple[Case, ...]:
    """The cases up to a level whose id is in `only` or matches a pattern there; empty: all."""
    return tuple(
        one
        for one in cases
        if (level is None or one.level <= level)
        and (not only or any(fnmatchcase(one.id, pattern) for pattern in only))
    )


def run(
    target: Target, plan: Run, told: Callable[[Outcome], None] = lambda outcome: None
) -> list[Outcome]:
    """Runs the cases; `told` hears of each when it is done."""
    probe = Probe(target, plan.timing, seed=plan.seed, specified=plan.specified)
    learn(probe)
    outcomes = []
    for one in plan.cases:
        outcome = _judged(_attempt(one, probe), plan.require)
        outcomes.append(outcome)
        told(outcome)
    return outcomes


def learn(probe: Probe) -> None:
    """Opens a first session and keeps what the node says; without one, why there is none."""
    probe.begin("learn")
    try:
        agent = probe.session()
        first = agent.ask(frame(SYS_CAPS, p1=1))
        part_b = first.ljust(36, b"\0")[33] & 3 == 1  # its length is a case's subject
        agent.ask(HELLO)
        probe.facts = Facts(
            version=number(agent.shown, 4, 2),
            part_b=part_b,
            lit=_map(agent, part_b=part_b),
            lit_other=_other_map(probe, part_b=part_b),
            signs=_answers(probe, lambda one: one.signed(1)),
            seals=part_b and _answers(probe, lambda one: one.sealed(1)),
        )
    except WireError as error:
        probe.no_session = f"no session: {error}"
    finally:
        probe.release()


def _map(agent: Session, *, part_b: bool) -> int:
    lit = 0
    for page in range(4 if part_b else 1):
        answer = agent.ask(frame(SYS_CAPS, p1=page))
        if len(answer) >= 36:
            lit |= (number(answer, 4, 4) << 32 | number(answer, 0, 4)) << 64 * page
    return lit


def _other_map(probe: Probe, *, part_b: bool) -> int:
    if probe.target.other is None:
        return 0
    try:
        return _map(probe.session(probe.target.other), part_b=part_b)
    except WireError:
        return 0  # the cases that need it say what is wrong


def _answers(probe: Probe, request: Callable[[Session], bytes]) -> bool:
    try:
        agent = probe.session()
        return agent.ask(request(agent))[-2:] == b"\x90\x00"
    except WireError:
        return False


def _attempt(one: Case, probe: Probe) -> Outcome:
    started = time.monotonic()

    def done(verdict: Verdict, detail: object = "") -> Outcome:
        return Outcome(one, verdict, str(detail), time.monotonic() - started)

    for need in one.needs:
        lacking = need.lacks(probe)
        if lacking:
            return done(Verdict.NOT_RUN, lacking)
    probe.begin(one.id)
    try:
        one.run(probe)
    except (Failed, WireError) as failure:
        return done(Verdict.FAILED, failure)
    except KnownDeviation as deviation:
        return done(Verdict.KNOWN, deviation)
    except NotRun as reason:
        return done(Verdict.NOT_RUN, reason)
    finally:
        probe.release()
    return done(Verdict.PASSED)


def _judged(outcome: Outcome, require: int) -> Outcome:
    """What is required and was not run is a failure."""
    if outcome.verdict is not Verdict.NOT_RUN or outcome.case.level > require:
        return outcome
    detail = f"not run, and required: {outcome.detail}"
    return Outcome(outcome.case, Verdict.FAILED, detail, outcome.seconds)


def reached(outcomes: Sequence[Outcome]) -> Level | None:
    """The highest level up to which nothing has failed; None: something of the first has.

    Levels of which nothing was run do not count.
    """
    found = None
    for level in Level:
        of_level = [one.verdict for one in outcomes if one.case.level is level]
        if Verdict.FAILED in of_level:
            break
        if any(verdict is not Verdict.NOT_RUN for verdict in of_level):
            found = level
    return found
