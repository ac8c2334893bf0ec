"""How much is measured: numbers only, so that a run can be made shorter as a whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

LEAST_POLLS: Final = 2000
"""Samples below which a 99th percentile is not judged."""


MOST_TAILED: Final = 4000
"""Instructions in one side of a pair, so that what a disk that hangs does not take has room."""


class BenchmarkError(Exception):
    """The measurement cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of all rows. A pair is one batch of each side, back to back."""

    pairs: int = 60
    """Interleaved pairs that a ratio is the median of."""

    batch: int = 50
    """Round trips in one side of a pair."""

    stream: int = 16384
    """Pipelined requests in one side of a pair."""

    stream_pairs: int = 30
    handshakes: int = 20
    """Handshakes in one side of a pair."""

    calls: int = 192
    """Calls of the SDK in one side of a pair."""

    polls: int = LEAST_POLLS
    """Samples of each side in one round of polling."""

    poll_rounds: int = 7
    seconds: float = 4.0
    """For how long CPU time is counted."""

    sessions: int = 500
    dark_rounds: int = 400
    """Rounds in which every kind of code that does not exist is asked for."""

    checked_pairs: int = 48
    """Interleaved pairs of a node with its checks on and of one with them off: each order twice."""

    checked: int = 4096
    """Pipelined requests in one side of such a pair."""

    audited_pairs: int = 36
    """Interleaved pairs of a node with the audit on and of one with it off."""

    audited: int = 4096
    """Pipelined requests in one side of such a pair."""

    tailed_pairs: int = 36
    """Pairs of a node whose disk hangs and of one whose disk does not."""

    tailed: int = 800
    """Round trips in one side of such a pair, of which the 99th percentile is taken."""

    log_entries: int = 200_000
    """Entries of a journal that all match."""

    logged_pairs: int = 36
    """Pairs of polling a node that reads logs meanwhile and of polling it while it does not."""

    logged: int = 2000
    """Round trips in one side of such a pair, of which the 99.9th percentile is taken."""

    fleet_nodes: int = 20
    """Real nodes of a fleet."""

    fleet_sessions: int = 50
    """Sessions on each of them, each of which asks at 1 Hz."""

    fleet_rounds: int = 40
    """Pairs of asking a whole fleet in one way and in another."""

    light_nodes: tuple[int, int] = (100, 1000)
    """Nodes of a fleet that one light process plays."""

    crowds: tuple[int, ...] = (100, 2000)
    """Numbers of processes on the machine."""

    def scaled(self, factor: float) -> Plan:
        """The same in `factor` times the time, as far as a row still makes sense."""

        def some(count: int, least: int) -> int:
            return max(round(count * factor), least)

        return replace(
            self,
            pairs=some(self.pairs, 2),
            batch=some(self.batch, 10),
            stream=some(self.stream, 512),
            stream_pairs=some(self.stream_pairs, 2),
            handshakes=some(self.handshakes, 2),
            calls=some(self.calls, 64),
            polls=some(self.polls, 40),
            poll_rounds=some(self.poll_rounds, 1),
            seconds=max(self.seconds * factor, 0.2),
            sessions=some(self.sessions, 10),
            dark_rounds=some(self.dark_rounds, 20),
            checked_pairs=some(self.checked_pairs, 3),
            checked=some(self.checked, 512),
            audited_pairs=some(self.audited_pairs, 3),
            audited=some(self.audited, 512),
            tailed_pairs=some(self.tailed_pairs, 3),
            tailed=min(some(self.tailed, 100), MOST_TAILED),
            log_entries=min(some(self.log_entries, 2000), self.log_entries),
            logged_pairs=some(self.logged_pairs, 3),
            logged=some(self.logged, 100),
            fleet_nodes=min(some(self.fleet_nodes, 4), self.fleet_nodes),
            fleet_sessions=min(some(self.fleet_sessions, 2), self.fleet_sessions),
            fleet_rounds=some(self.fleet_rounds, 3),
            light_nodes=(
                min(some(self.light_nodes[0], 10), self.light_nodes[0]),
                min(some(self.light_nodes[1], 20), self.light_nodes[1]),
            ),
        )


QUICK: Final = 0.2
"""What --quick scales by."""
