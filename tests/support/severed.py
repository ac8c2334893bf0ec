"""A real asyd at the far end of a wire that loses packets when a test says so.

    with Severed(tmp_path) as line:
        line.run(agent)    # in a thread that lives at the near end
        line.cut()

Two network namespaces with one pair of interfaces. A cut is silent, as that of a firewall or of a
machine that has lost its power: frames go to a hardware address that nobody has.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import asys
from support.daemon import AGENT, Daemon, running
from support.namespaces import inside, ip, namespace, run_inside

NEAR, FAR = "192.0.2.1", "192.0.2.2"

_NOBODY: Final = "02:00:00:00:00:99"

T = TypeVar("T")


class Severed:
    """The wire, and the asyd behind it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._exit = ExitStack()

    @property
    def daemon(self) -> Daemon:
        """The asyd at the far end."""
        return self._daemon

    def options(self, **changes: Any) -> dict[str, Any]:
        """Arguments for `connect`."""
        return {
            "host": FAR,
            "port": self._daemon.endpoint[1],
            "identity": asys.Identity(AGENT),
            "node_key": self._daemon.key,
            **changes,
        }

    def run(self, work: Callable[[], T]) -> T:
        """Does something at the near end, in a thread of its own, and gives what that gives."""
        return run_inside(self._near, work)

    def cut(self, *, answers_only: bool = False) -> None:
        """From now on nothing arrives; or nothing at the near end."""
        self._misdirect(self._far, "far", NEAR)
        if not answers_only:
            self._misdirect(self._near, "near", FAR)

    def mend(self) -> None:
        """From now on everything arrives."""
        for holder, device, peer in ((self._far, "far", NEAR), (self._near, "near", FAR)):
            ip(holder, "neigh", "replace", peer, "lladdr", self._address[device], "dev", device)

    def _misdirect(self, holder: int, device: str, peer: str) -> None:
        command = ("neigh", "replace", peer, "lladdr", _NOBODY, "dev", device, "nud", "permanent")
        ip(holder, *command)

    def __enter__(self) -> Severed:
        with self._exit:
            self._near, self._far = namespace(self._exit), namespace(self._exit)
            ip(self._near, "link", "add", "near", "type", "veth", "peer", "far")
            ip(self._near, "link", "set", "far", "netns", str(self._far))
            self._address = {}
            ends = ((self._near, "near", NEAR), (self._far, "far", FAR))
            for holder, device, address in ends:
                ip(holder, "addr", "add", f"{address}/24", "dev", device)
                ip(holder, "link", "set", device, "up")
            # Each end's table has the other one's hardware address.
            self._address["near"] = _hardware(self._far, "far")
            self._address["far"] = _hardware(self._near, "near")
            self._daemon = self._exit.enter_context(
                running(
                    self._directory,
                    agents={AGENT: "agent caps=all"},
                    listen=(FAR,),
                    launcher=inside(self._far),
                )
            )
            self._exit = self._exit.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.__exit__(kind, error, traceback)


def _hardware(holder: int, device: str) -> str:
    """The address of an interface."""
    words = ip(holder, "link", "show", device).split()
    return words[words.index("link/ether") + 1]
