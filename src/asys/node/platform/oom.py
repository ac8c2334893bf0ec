"""Whom the kernel ends when memory has run out (Linux): not asyd, as far as it lets asyd say so."""

from __future__ import annotations

from typing import Final

ADJUSTMENT: Final = "/proc/self/oom_score_adj"

SPARED: Final = -900
"""What asyd asks for. -1000 would leave the kernel nobody where asyd itself is what has grown."""


def in_force() -> int:
    """This process's oom_score_adj; 0 where there is none."""
    try:
        with open(ADJUSTMENT, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def spare_me() -> str:
    """Has the kernel end others first; why not, or ''. What an admin has set stays as it is.

    Processes that asyd starts inherit it; `be_expendable` is for those that should not.
    """
    if in_force() != 0:
        return ""
    try:
        _write(SPARED)
    except OSError as error:
        return (
            "asyd is no less likely than others to be ended when memory runs out: oom_score_adj is "
            f"0 and cannot be lowered ({error.strerror}); in a systemd unit, set "
            f"OOMScoreAdjust={SPARED}"
        )
    return ""


def be_expendable() -> None:
    """Gives up what was inherited: for processes that agents can make grow."""
    if in_force() < 0:
        _write(0)


def _write(value: int) -> None:
    with open(ADJUSTMENT, "wb", buffering=0) as file:
        file.write(b"%d" % value)
