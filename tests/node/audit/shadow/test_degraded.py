"""When AUDIT_DEGRADED is up where there is a collector, by a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asys.node.audit.log import DEGRADED, LATE_SECONDS, TICK_SECONDS, AuditLog
from asys.node.audit.ring import Position, Ring
from support.audit import KEY, small_rings
from support.clock import ManualClock


class Place:
    """A log with rings whose writer and shipper are the test."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.rings = small_rings()
        self.log = AuditLog(self.clock, *self.rings)
        self.log.shadowed = True

    def act(self) -> None:
        """A record."""
        session = self.log.open_session(KEY, "label", 1, "peer")
        assert self.log.intent(session, 4, 0x20, 1, b"")

    def written(self) -> None:
        """All is on the disk."""
        for ring in self.rings:
            ring.position = Position(ring.head, 0, 1, 1, 1, bytes(32))

    def acknowledged(self) -> None:
        """And with the collector."""
        for ring in self.rings:
            ring.acknowledged = ring.head


def follow(rings: tuple[Ring, Ring], followed: bool) -> None:
    for ring in rings:
        ring.followed = followed


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.log.close()
    for ring in place.rings:
        ring.close()


def test_at_once_while_nobody_follows(place: Place) -> None:
    assert place.log.flags == DEGRADED
    follow(place.rings, True)
    assert place.log.flags == 0
    follow(place.rings, False)
    assert place.log.flags == DEGRADED
    place.log.shadowed = False
    assert place.log.flags == 0


def test_when_something_is_not_acknowledged_for_long(place: Place) -> None:
    follow(place.rings, True)
    place.act()
    place.written()
    place.clock.advance(LATE_SECONDS - TICK_SECONDS)
    assert place.log.flags == 0
    place.clock.advance(3 * TICK_SECONDS)
    assert place.log.flags == DEGRADED
    place.act()
    place.clock.advance(10.0)
    assert place.log.flags == DEGRADED
    place.written()
    place.acknowledged()
    place.clock.advance(2 * TICK_SECONDS)
    assert place.log.flags == 0
    assert place.clock.pending == []  # nobody looks while there is nothing to look for


def test_not_while_it_is_acknowledged_in_time(place: Place) -> None:
    follow(place.rings, True)
    for _ in range(100):
        place.act()
        place.written()
        place.clock.advance(LATE_SECONDS / 10)
        place.acknowledged()
        assert place.log.flags == 0


def test_the_disk_alone_is_not_enough_nor_is_it_without_a_collector(place: Place) -> None:
    place.log.shadowed = False
    place.act()
    place.written()
    place.clock.advance(LATE_SECONDS * 2)
    assert place.log.flags == 0
