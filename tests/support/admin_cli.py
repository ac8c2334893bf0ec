"""`asyd agents` in this process, for a node of which there is nothing but files."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from asys.cli.daemon import main
from asys.isa.capmap import parse_caps
from asys.node.agents.delegated_store import DelegatedStore
from asys.node.agents.directory import Delegate
from asys.protocol.keys import PrivateKey
from support.users import NOBODY

BOSS, WEB, DEPUTY, HAND, NEW = (PrivateKey(bytes([n]) * 32).public.hex() for n in range(1, 6))
"""Public keys: of two lines, of two agents that agents have added, and of nobody yet."""

TEXT: Final = f"""\
# people write here
{BOSS} boss caps=all,security rate=SVC_RESTART:3/h role=admin

{WEB} web caps=core,process services=nginx*,web users=0,{NOBODY} from=10.0.0.0/8,unix
"""
WEB_LINE: Final = 4

_DAY: Final = 24 * 60 * 60


def write(directory: Path, text: str) -> None:
    """`authorized_agents` in a config directory."""
    path = directory / "authorized_agents"
    path.write_text(text)
    path.chmod(0o600)


def delegate(key: str, parent: str, caps: str, label: str, expires: int = 0) -> Delegate:
    """An agent that another has added."""
    return Delegate(bytes.fromhex(key), bytes.fromhex(parent), parse_caps(caps), label, expires)


def save(state: Path, *delegates: Delegate) -> None:
    """Writes these into a state directory, and behind them hand, which deputy has added."""
    hand = delegate(HAND, DEPUTY, "core,20,33", "hand", int(time.time()) + _DAY)
    asyncio.run(DelegatedStore(state).save([*delegates, hand]))


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> dict[str, list[str]]:
        """The output by what stands in its first column, 10 characters wide."""
        found: dict[str, list[str]] = {}
        name = ""
        for line in self.out.splitlines():
            name = line[:10].strip() or name
            found.setdefault(name, []).append(line[11:])
        return found


class Agents:
    """Runs `asyd agents` for the node in `directory`."""

    def __init__(self, capture: pytest.CaptureFixture[str], directory: Path) -> None:
        self.capture = capture
        self.directory = directory

    def __call__(self, *words: str) -> Ran:
        """With these words behind `agents`."""
        self.capture.readouterr()
        status = main(["agents", *words, "--config-dir", str(self.directory)])
        return Ran(status, *self.capture.readouterr())

    def files(self) -> dict[str, bytes]:
        """All that is in the directory."""
        return {
            str(path): path.read_bytes() if path.is_file() else b""
            for path in self.directory.rglob("*")
        }

    def line(self, number: int) -> str:
        """One of authorized_agents."""
        return (self.directory / "authorized_agents").read_text().split("\n")[number - 1]
