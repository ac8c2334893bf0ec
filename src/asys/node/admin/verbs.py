"""What an admin can ask of a running asyd: each request is one object, and so is its answer.

{"verb": "sessions"}              -> {"dark": false, "sessions": [{"key": ..., ...}, ...]}
{"verb": "close", "who": "KEY"}   -> {"key": "...", "closed": 2}         a key or a label
{"verb": "dark"}, also "light"    -> {"dark": true}
{"verb": "reload"}                -> {"agents": 3, "faults": [[7, "..."], ...], "fault_count": 1}
{"verb": "metrics"}               -> {"metrics": "# TYPE asyd_build info\\n..."}   OpenMetrics
{"verb": "throttled"}             -> {"throttled": [{"pid": ..., ...}, ...]}
{"verb": "isolations"}            -> {"isolations": [{"pid": ..., ...}, ...]}
{"verb": "keys"}                  -> {"key": ..., "next": {...} or null, "agents": [...]}
{"verb": "rotate", "overlap": 86400} -> {"old_key": ..., "new_key": ..., ...}   seconds
{"verb": "finish"}                -> the same
{"verb": "release", "what": "throttled", "pid": 7}   -> {"released": 1}         pid 0: all of them
anything that fails               -> {"error": "..."}
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from asys.node.admin.held import EVERYTHING, KINDS, Held
from asys.node.admin.keys import ORDERS, KeyControls, answer_keys
from asys.node.disk.files import ConfigError
from asys.node.logs import clean
from asys.node.platform.base import PlatformError

REPORTED_FAULTS: Final = 1000
"""Bad lines that an answer names; more are counted."""

SLICE: Final = 256
"""Sessions that are put in words before agents get their turn again."""

TAKES: Final[Mapping[str, frozenset[str]]] = {
    "sessions": frozenset(),
    "close": frozenset({"who"}),
    "dark": frozenset(),
    "light": frozenset(),
    "reload": frozenset(),
    "metrics": frozenset(),
    "throttled": frozenset(),
    "isolations": frozenset(),
    "release": frozenset({"what", "pid"}),
    "keys": frozenset(),
    "rotate": frozenset({"overlap"}),
    "finish": frozenset(),
}
"""Every verb, with what stands beside it."""

LOOKS: Final = frozenset({"sessions", "metrics", "keys", *KINDS})
"""Verbs that change nothing."""

_log = logging.getLogger("asyd.admin")


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session, as an admin sees it."""

    key: bytes
    label: str
    peer: str
    id: int
    """0 while it is unconfirmed."""
    opened: int
    """Unix time in seconds."""
    idle_seconds: float
    confirmed: bool


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a new reading of `authorized_agents` has brought: agents that hold, and bad lines."""

    agents: int
    faults: tuple[tuple[int, str], ...]


class Controls(KeyControls, Protocol):
    """What an admin can do to a node."""

    def sessions(self) -> list[SessionInfo]:
        """Every session, unconfirmed ones too."""

    def close_key(self, key: bytes) -> int:
        """Closes every session of a key; how many there were."""

    async def set_dark(self, dark: bool) -> None:
        """Every agent falls to `core`, or has what it had again.

        OSError or TimeoutError when that holds, but is not on the disk.
        """

    def is_dark(self) -> bool:
        """Whether every agent is down to `core`."""

    def reload(self) -> ReloadReport:
        """Reads `authorized_agents` again. ConfigError when that fails: nothing has changed."""

    def metrics(self) -> str:
        """How asyd itself is doing, as OpenMetrics."""

    async def held(self, what: str) -> Held | None:
        """What the node holds now of a kind of `asys.node.admin.held.KINDS`; None: it cannot."""


class NoSuchOrder(Exception):
    """What was asked for cannot be done; the text is the answer."""


class Verbs:
    """Does what requests say."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    async def answer(self, request: dict[str, Any], peer: str) -> bytes:
        """The answer to a request of `peer`. NoSuchOrder says why there is none."""
        verb = request.pop("verb", None)
        if not isinstance(verb, str) or verb not in TAKES:
            *names, last = TAKES
            raise NoSuchOrder(f"the verb is {', '.join(names)} or {last}")
        if set(request) != TAKES[verb]:
            raise NoSuchOrder(f"{verb} takes {' and '.join(sorted(TAKES[verb])) or 'nothing else'}")
        if verb not in LOOKS:
            _log.warning(
                "%s: %s", peer, " ".join([verb, *(clean(str(v)) for v in request.values())])
            )
        try:
            if verb == "sessions":
                return await self._sessions()
            if verb == "metrics":
                return line({"metrics": self._controls.metrics()})
            if verb == "close":
                return line(self._close_who(request["who"]))
            if verb == "reload":
                return line(self._reload())
            if verb in KINDS:
                return line({verb: [asdict(one) for one in (await self._held(verb)).listed()]})
            if verb in ORDERS:
                return line(await self._keys(verb, request))
            if verb == "release":
                return line(await self._release(request["what"], request["pid"]))
            return line(await self._set_dark(verb == "dark"))
        except NoSuchOrder:
            raise
        except ConfigError as error:
            raise NoSuchOrder(f"nothing has changed: {error}") from error
        except PlatformError as error:
            raise NoSuchOrder(str(error)) from error
        except Exception as error:
            _log.exception("%s failed", verb)
            raise NoSuchOrder(f"{verb} failed in asyd; its log says more") from error

    async def _sessions(self) -> bytes:
        sessions = sorted(self._controls.sessions(), key=_opened)
        words: list[str] = []
        for start in range(0, len(sessions), SLICE):
            words.extend(json.dumps(_described(one)) for one in sessions[start : start + SLICE])
            await asyncio.sleep(0)
        dark = json.dumps(self._controls.is_dark())
        return f'{{"dark": {dark}, "sessions": [{", ".join(words)}]}}\n'.encode()

    def _close_who(self, who: object) -> dict[str, Any]:
        if not isinstance(who, str) or not who:
            raise NoSuchOrder("who is a key, 64 hex digits, or a label")
        keys = {
            one.key
            for one in self._controls.sessions()
            if one.key.hex() == who.lower() or one.label == who
        }
        if not keys:
            raise NoSuchOrder(
                f"no open session has the key or label {who!r}; see: asyd sessions list"
            )
        if len(keys) > 1:
            raise NoSuchOrder(
                f"more than one agent has the label {who!r}; name one of the keys "
                f"{' '.join(sorted(key.hex() for key in keys))}"
            )
        key = keys.pop()
        return {"key": key.hex(), "closed": self._controls.close_key(key)}

    def _reload(self) -> dict[str, Any]:
        report = self._controls.reload()
        return {
            "agents": report.agents,
            "faults": report.faults[:REPORTED_FAULTS],
            "fault_count": len(report.faults),
        }

    async def _set_dark(self, dark: bool) -> dict[str, Any]:
        try:
            await self._controls.set_dark(dark)
        except OSError as error:  # TimeoutError is one
            verb = "dark" if dark else "light"
            raise NoSuchOrder(
                f"the node is {verb} now, but its disk does not have that: "
                f"{error.strerror or error}; it will not outlast a restart of asyd. Mend the disk, "
                f"then run asyd {verb} again"
            ) from error
        return {"dark": self._controls.is_dark()}

    async def _keys(self, verb: str, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return await answer_keys(self._controls, verb, request)
        except ConfigError as error:
            raise NoSuchOrder(str(error)) from error

    async def _held(self, what: str) -> Held:
        held = await self._controls.held(what)
        if held is None:
            raise NoSuchOrder(f"there are no {what} here: this node cannot hold any")
        return held

    async def _release(self, what: object, pid: object) -> dict[str, Any]:
        if not isinstance(what, str) or what not in KINDS:
            raise NoSuchOrder(f"what is {' or '.join(KINDS)}")
        if type(pid) is not int or pid < 0:
            raise NoSuchOrder("pid is a number; 0 stands for all of them")
        held = await self._held(what)
        released = await held.release(pid)
        if not released and pid != EVERYTHING:
            raise NoSuchOrder(not_held(what, pid))
        return {"released": released}


def not_held(what: str, pid: int) -> str:
    """What to say where a PID is not among what is held."""
    return f"process {pid} is not held by asyd; see: asyd {what} list"


def line(answer: dict[str, Any]) -> bytes:
    """An answer as it is sent."""
    return json.dumps(answer).encode() + b"\n"


def _opened(session: SessionInfo) -> int:
    return session.opened


def _described(session: SessionInfo) -> dict[str, Any]:
    return {
        "key": session.key.hex(),
        "label": session.label,
        "peer": session.peer,
        "id": session.id,
        "opened": session.opened,
        "idle_seconds": round(session.idle_seconds, 3),
        "confirmed": session.confirmed,
    }
