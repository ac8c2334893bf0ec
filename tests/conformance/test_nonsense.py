"""A node that answers nonsense is failed, and never takes the kit down."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import ClassVar

import pytest

from asys.conformance import runner
from asys.conformance.case import Level, all_cases
from asys.conformance.verdicts import Verdict
from conformance.model import Node
from conformance.parts import OK, TIMING, Connection, Frame


class _Nonsense(Node):
    """Answers bytes that mean nothing, most of them with success; SYS_CAPS is left as it is."""

    seed: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(self.seed)  # noqa: S311 -- nothing secret

    def reply(self, one: Connection, frame: Frame, answer: bytes) -> None:
        if frame.ins != 0x00 and (frame.ins != 0x01 or self._random.random() < 0.3):
            answer = self._random.randbytes(self._random.choice((0, 1, 2, 3, 9, 40, 70, 300)))
            answer += self._random.choice((OK, OK, b"\x91\x01", b""))
        super().reply(one, frame, answer)


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_is_failed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Nonsense, "seed", seed)
    timing = replace(TIMING, timeout=1.0)
    with _Nonsense() as node:
        cases = [one for one in all_cases() if one.id != "agents.end"]
        found = runner.run(node.target(), runner.Run(cases, timing=timing))
    assert runner.reached(found) in (None, Level.LINK)
    assert sum(one.verdict is Verdict.FAILED for one in found) > 20
    assert all(one.detail for one in found if one.verdict is not Verdict.PASSED)
