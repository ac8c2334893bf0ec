"""A sampler whose machine is made, and whose clock a test turns."""

from __future__ import annotations

from asys.node.health.counts import Lag
from asys.node.sampler import SETTLE, Sampler
from support.clock import ManualClock
from support.machine import MadePlatform


class Made:
    """A sampler of a made machine, with a clock that a test turns."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.platform = MadePlatform()
        self.vitals = self.platform.made_vitals
        self.table = self.platform.made_table
        self.lag = Lag()
        self.sampler = Sampler(self.platform, self.clock, timer=self.platform.timer, lag=self.lag)
        self.began = self.clock.now()

    def fresh(self) -> bool:
        """Whether the sampler would be asked no further."""
        return self.sampler.fresh(self.clock.now())

    def awake(self) -> Sampler:
        """The sampler, with its first real readings."""
        self.sampler.wake()
        self.clock.advance(SETTLE)
        assert self.fresh()
        return self.sampler

    def keep_awake(self, seconds: float) -> None:
        """Lets time go on with a request every 50 ms."""
        for _ in range(round(seconds / 0.05)):
            self.sampler.touch()
            self.clock.advance(0.05)
