"""What an admin's command can know of a node's agents from its files. Nothing is written here."""

from __future__ import annotations

import logging
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from asys.node.admin.blackout import Blackout
from asys.node.agents.book import Agent, last_day, line_key, parse_agents
from asys.node.agents.delegated_store import DelegatedStore
from asys.node.agents.directory import Delegate, Directory
from asys.node.agents.ended import Mark
from asys.node.agents.ended_store import EndedStore
from asys.node.agents.trial import Asyd
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError, is_there, quoted
from asys.node.disk.node_key import known_public
from asys.node.disk.places import Places, socket_address
from asys.node.platform.services.own_unit import own_units

_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")
_PARENT: Final = re.compile(r"^PPid:\s*([0-9]+)$", re.MULTILINE)


@contextmanager
def told(level: int) -> Iterator[None]:
    """Lets what is logged meanwhile appear as other messages of the command do."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("asyd: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class Known:
    """The lines, who was added, and the dark flag, as they are on the disk now.

    `troubles` says what could not be read; without it, the rest holds. ConfigError when that is
    `authorized_agents` itself.
    """

    def __init__(self, config: ConfigDir, where: Places) -> None:
        self.config = config
        self.now = int(time.time())
        self.troubles: list[str] = []
        self._text = config.read_agents().decode("utf-8", "replace")
        self.book = parse_agents(self._text)
        self.node_key = known_public(config, where.state_dir)
        stored: tuple[Delegate, ...] = ()
        try:
            if is_there(where.state_dir):
                stored = DelegatedStore(where.state_dir).load()
            self.has_state = is_there(where.state_dir)
        except ConfigError as error:
            self.has_state = True
            self.troubles.append(f"no agent that an agent has added is known: {error}")
        ended: frozenset[Mark] = frozenset()
        try:
            if is_there(where.state_dir):
                ended = EndedStore(where.state_dir).load()
        except ConfigError as error:
            self.troubles.append(f"which lines have ended is told by the clock alone: {error}")
        with told(logging.ERROR):
            self.dark = Blackout(where.state_dir).load()
        self._stored = {one.key: one for one in stored}
        self.directory = Directory(self.book, stored, node_key=self.node_key, ended=ended)

    def is_over(self, one: Agent | Delegate) -> bool:
        """Whether a line or an added agent has ended, also where the clock was set back since."""
        mark = one.key, one.expires
        return 0 < one.expires <= self.now or mark in self.directory.ended

    def key_of(self, who: str) -> bytes:
        """The key with these 64 hex digits, be it known or not, or with this label. ConfigError."""
        if _KEY.fullmatch(who):
            return bytes.fromhex(who)
        found = {key for key, label in self._labels() if who and label == who}
        if len(found) == 1:
            return found.pop()
        listing = f"see: asyd agents list --config-dir {quoted(self.config.path)}"
        if not found:
            raise ConfigError(f"no agent has the key or label {who!r}; {listing}")
        raise ConfigError(f"more than one agent has the label {who!r}; name its key, {listing}")

    def added(self, who: str) -> Delegate | None:
        """The agent that is meant, if it has no line and an agent has added it."""
        with suppress(ConfigError):
            key = self.key_of(who)
            return next((one for one in self.directory.delegates if one.key == key), None)
        return None

    def name(self, key: bytes) -> str:
        """A label, or the first 8 digits of a key."""
        agent = self.book.agents.get(key)
        label = agent.label if agent is not None else ""
        if key in self._stored:
            label = label or self._stored[key].label
        return label or key.hex()[:8]

    def why_nothing(self, key: bytes) -> str:
        """Why a key holds nothing."""
        agent = self.book.agents.get(key)
        if agent is not None:
            return _ended(agent)
        if key in self.book.named:
            return self._bad_line(key)
        if key not in self._stored:
            known = "no agent that is known has" if self.troubles else "no agent has"
            return f"no line of authorized_agents is about this key, and {known} added it"
        seen: set[bytes] = set()
        while key in self._stored and key not in seen:
            seen.add(key)
            one = self._stored[key]
            parent = self.name(one.parent)
            if 0 < one.expires <= self.now:
                return f"{self.name(key)}, added by {parent}, expired at {moment(one.expires)}"
            above = self.book.agents.get(one.parent)
            if above is not None:
                return f"{self.name(key)} was added by {parent}, and {self._why_not_below(above)}"
            if one.parent in self.book.named:
                return f"{self.name(key)} was added by {parent}, and {self._bad_line(one.parent)}"
            key = one.parent
        return f"it was added below {key.hex()}, which is no agent any more"

    def _why_not_below(self, agent: Agent) -> str:
        """Why somebody holds nothing whom the agent of a line has added."""
        if self.is_over(agent):
            return _ended(agent)
        if agent.key in self._stored:
            return f"went when that got line {agent.line} of its own"
        return "is left out: a node takes only so many below a line, and never its own key"

    def _labels(self) -> Iterator[tuple[bytes, str]]:
        """Keys and labels, also of lines that grant nothing."""
        for line in self._text.split("\n"):
            key, words = line_key(line), line.split()
            if key is not None and len(words) > 1 and "=" not in words[1]:
                yield key, words[1]
        for one in self.directory.delegates:
            yield one.key, one.label

    def _bad_line(self, key: bytes) -> str:
        faults = dict(self.book.faults)
        lines = enumerate(self._text.split("\n"), 1)
        bad = [number for number, line in lines if line_key(line) == key and number in faults]
        return "; ".join(f"line {number} grants nothing: {faults[number]}" for number in bad)


def moment(seconds: int) -> str:
    """A moment of Unix time as a person reads it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def running_asyd(where: Places) -> Asyd:
    """The asyd that listens on the admin socket, from what the kernel says of it; or nothing."""
    if sys.platform != "linux":
        return Asyd()
    with (
        suppress(OSError),
        socket_address(where.admin_socket) as address,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.setblocking(False)
        sock.connect(address)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", credentials)[0]
        if pid:  # 0: in a PID namespace that this process does not see
            return Asyd(pid, _family(pid), own_units(Path(f"/proc/{pid}/cgroup")))
    return Asyd()


def _family(pid: int) -> frozenset[int]:
    family: set[int] = set()
    while pid and pid not in family:
        family.add(pid)
        found = None
        with suppress(OSError):
            found = _PARENT.search(Path(f"/proc/{pid}/status").read_text(errors="replace"))
        pid = int(found[1]) if found else 0
    return frozenset(family)


def _ended(agent: Agent) -> str:
    return (
        f"line {agent.line} has expired with {last_day(agent.expires)}; to let it in again, give "
        "it a later expires="
    )
