"""The kit can fail: every broken node is caught, by the cases meant for it and no others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asys.conformance.case import all_cases
from asys.conformance.verdicts import Verdict
from conformance import broken
from conformance.model import Node
from conformance.running import details, of_each, outcomes

BROKEN = broken.load()

CANNOT_FAIL: frozenset[str] = frozenset()
"""Cases that no node could fail, with the reason. There are none."""


class _Patient(Node):
    """Runs what waits for long deadlines too."""

    slow = True


def test_the_unbroken_node_passes_everything() -> None:
    found = outcomes(_Patient)
    assert {one.case.id: one.detail for one in found if one.verdict is not Verdict.PASSED} == {}
    assert [one.case for one in found] == list(all_cases())


@pytest.mark.parametrize("module", BROKEN)
def test_each_is_caught_by_what_is_meant_for_it(module: str) -> None:
    wrong = judged(BROKEN[module])
    # They run beside one another, and have deadlines as a node has: a busy machine may pass those.
    for kind in list(wrong):
        wrong.pop(kind)
        wrong |= judged([kind])
    assert wrong == {}


def judged(kinds: Sequence[type[Node]]) -> dict[type[Node], tuple[dict[str, str], tuple[str, ...]]]:
    """Those that are not caught by what is meant for them: what failed, and what should have."""
    wrong = {}
    for kind, found in of_each(kinds).items():
        failed = details(found, Verdict.FAILED)
        if set(failed) != set(kind.caught_by):
            wrong[kind] = (failed, tuple(kind.caught_by))
        elif kind.named and not any(kind.named in detail for detail in failed.values()):
            wrong[kind] = (failed, (kind.named,))
    return wrong


def test_every_case_has_a_broken_node() -> None:
    caught = {case for kinds in BROKEN.values() for kind in kinds for case in kind.caught_by}
    assert {one.id for one in all_cases()} - caught == CANNOT_FAIL


def test_each_broken_node_says_what_is_broken() -> None:
    for kinds in BROKEN.values():
        for kind in kinds:
            assert kind.__doc__, kind
            assert kind.__doc__ != Node.__doc__, kind
