"""A node that is as deployed ones are: what is known of them is told, and is no failure."""

from __future__ import annotations

from asys.conformance.runner import reached
from asys.conformance.verdicts import Verdict
from conformance.deployed import Deployed
from conformance.running import details, outcomes

KNOWN = {
    "frame.several",
    "frame.reserved-sec",
    "sign.replay",
    "throttle.too-long",
    "caps.page-echo",
}


def test_known_deviations_are_told_and_nothing_fails() -> None:
    found = outcomes(Deployed)
    assert details(found, Verdict.FAILED) == {}
    assert set(details(found, Verdict.KNOWN)) == KNOWN
    assert {
        detail
        for case, detail in details(found, Verdict.NOT_RUN).items()
        if case not in ("frame.deadline", "frame.idle-deadline", "dark.not-granted")
    } == {"the node does not speak part B (SYS_CAPS page 1)"}


def test_by_the_specification_they_are_failures() -> None:
    found = outcomes(Deployed, specified=True)
    assert set(details(found, Verdict.FAILED)) == KNOWN
    assert reached(found) == 1
