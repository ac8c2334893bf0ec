"""A reading over time in one line of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"


def sparks(values: Sequence[float | None], full: float, width: int) -> str:
    """The last `width` values as bars against `full`, the newest on the right; None is a blank.

    Against a fixed scale, so that a machine at rest does not look like one at work.
    """
    last = values[-width:] if width > 0 else ()
    return "".join(map(lambda value: _bar(value, full), last)).rjust(max(width, 0))


def _bar(value: float | None, full: float) -> str:
    if value is None:
        return " "
    step = int(value / full * len(_BARS)) if full > 0 else 0
    return _BARS[max(0, min(step, len(_BARS) - 1))]
