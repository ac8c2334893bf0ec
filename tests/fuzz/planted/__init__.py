"""One bug a target, put into asys on purpose: each shows for a few inputs among very many.

The way to most is a comparison with a few bytes that nobody guesses: only a fuzzer gets there that
sees what is compared. Where a target is slow it is an edge value of one or two bytes. Each begins
with BEGIN, a right input, as few executions have to do; SEED is one that gets there soon, as asys
is now, and others take their time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def in_place_of(owner: Any, name: str, wrong: Callable[..., Any]) -> None:
    """Has `wrong` stand in the place of a function of asys, which it gets as its first argument."""
    right = getattr(owner, name)

    def stand_in(*arguments: Any, **options: Any) -> Any:
        return wrong(right, *arguments, **options)

    setattr(owner, name, stand_in)
