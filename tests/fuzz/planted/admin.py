"""A PID that nobody has foreseen."""

from __future__ import annotations

import json
from typing import Any, Final

from asys.node.admin import verbs
from fuzz.planted import in_place_of

_ORDER: Final = {"verb": "release", "what": "throttled", "pid": 100}

BEGIN: Final = b"\0" + json.dumps(_ORDER).encode() + b"\n"
SEED: Final = 4


def plant() -> None:
    """Puts it in."""
    in_place_of(verbs, "not_held", _wrong)


def _wrong(right: Any, what: str, pid: int) -> Any:
    if str(pid).encode() == b"417":
        raise RuntimeError("a bug")
    return right(what, pid)
