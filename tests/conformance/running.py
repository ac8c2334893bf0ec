"""Runs the kit against model nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from asys.conformance import runner
from asys.conformance.case import all_cases
from asys.conformance.verdicts import Outcome, Verdict
from conformance.model import Node

AT_A_TIME = 8
"""Nodes that are tested at once: half of the time each waits for silence or a deadline."""

LONG = ("agents.end",)
"""Cases that wait for seconds: run on the unbroken node, and on those that are meant for them."""


def outcomes(kind: Callable[[], Node], **options: bool | int) -> list[Outcome]:
    """What becomes of each case on a node of this kind."""
    with kind() as node:
        cases = runner.choose(all_cases(), node.up_to, ())
        left_out = set(LONG if node.caught_by else ()).difference(node.caught_by)
        return runner.run(
            node.target(),
            runner.Run(
                [one for one in cases if one.id not in left_out],
                timing=node.timing,
                **options,  # type: ignore[arg-type]
            ),
        )


def of_each(kinds: Iterable[type[Node]]) -> dict[type[Node], list[Outcome]]:
    """The same for many kinds, several at a time."""
    listed = list(kinds)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip(listed, pool.map(outcomes, listed), strict=True))


def details(found: Iterable[Outcome], verdict: Verdict) -> dict[str, str]:
    """The cases with a verdict, and what is said of each."""
    return {one.case.id: one.detail for one in found if one.verdict is verdict}
