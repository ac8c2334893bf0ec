"""systemd's watchdog, fed by the loop that serves agents.

Not by a thread: that would go on feeding while the loop hangs and nobody is served.
"""

from __future__ import annotations

from typing import Final

from asys.node.clock import Clock, Handle
from asys.node.health.counts import Lag
from asys.node.health.notify import Notifier

SHARE: Final = 0.5
"""Of the period, after which it is fed again."""


class Watchdog:
    """Says that asyd is alive from `start` to `close`, as long as the loop gets round."""

    def __init__(self, notifier: Notifier, clock: Clock, period: float, lag: Lag) -> None:
        """`period` is in seconds: hears systemd nothing for so long, it ends asyd. `lag` is told
        how late the timer runs.
        """
        self.period: Final = period
        self.feeds = 0
        """Times that systemd was told."""
        self._notifier = notifier
        self._clock = clock
        self._lag = lag
        self._due = 0.0
        self._next: Handle | None = None

    def start(self) -> None:
        """systemd counts from READY on."""
        self._feed()

    def close(self) -> None:
        """Nothing more is said."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _wake(self) -> None:
        """Not yet: whoever is ready, or has sent something by now, is served before."""
        self._lag.observe(self._clock.now() - self._due)
        self._next = self._clock.call_soon(self._feed)

    def _feed(self) -> None:
        if self._notifier.alive():
            self.feeds += 1
        pause = self.period * SHARE
        self._due = self._clock.now() + pause
        self._next = self._clock.call_later(pause, self._wake)
