"""What has ended stays so, whatever the clock says later (docs/decisions/0028-clocks.md).

Nothing here waits or touches a file; time is an argument, in whole Unix seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol, TypeAlias

Mark: TypeAlias = tuple[bytes, int]
"""A key and the Unix second at which what it held has ended."""


class Ending(Protocol):
    """A line or an added agent."""

    @property
    def key(self) -> bytes:
        """Its static public key."""

    @property
    def expires(self) -> int:
        """The Unix second from which on it no longer holds, 0 for never."""


class Ended:
    """What was seen to have ended. With another `expires` it is another one."""

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self._marks = set(marks)

    def look(self, one: Ending, now: int) -> bool:
        """Whether it has ended by now, or was seen to have ended before."""
        if not one.expires:
            return False
        mark = one.key, one.expires
        if one.expires <= now:
            self._marks.add(mark)
            return True
        return mark in self._marks

    def end(self, one: Ending) -> None:
        """Its time is over, whatever the clock says."""
        self._marks.add((one.key, one.expires))

    def forget(self, one: Ending) -> None:
        """It is gone; one that ends in the same second later is another one."""
        self._marks.discard((one.key, one.expires))

    def of(self, keys: Collection[bytes]) -> frozenset[Mark]:
        """What there is of these keys."""
        return frozenset(mark for mark in self._marks if mark[0] in keys)
