"""A real asyd at the far end of a wire that loses, delays, reorders and doubles packets by a seed.

    with BadNetwork(tmp_path, seed=7) as wire:
        wire.change(loss=0.1, jitter=0.01)
        wire.run(agent)    # in a thread that lives at the near end

Two network namespaces with a TUN device in each, and a relay of IP packets between them: TCP itself
has to cope. What is under way when somebody cuts the wire does not arrive either.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import asys
from support.daemon import AGENT, Daemon, running
from support.namespaces import inside, ip, namespace, run_inside
from support.raw_agent import RawAgent

NEAR, FAR = "192.0.2.1", "192.0.2.2"

PROGRAM: Final = Path(__file__).with_name("relay_program.py")

T = TypeVar("T")


def tun_missing() -> str:
    """What this machine lacks for such a wire, or ''."""
    return "" if Path("/dev/net/tun").exists() else "needs /dev/net/tun"


class BadNetwork:
    """The wire, and the asyd behind it; `options` and `prelude` are for asyd, see `running`."""

    def __init__(self, directory: Path, *options: str, seed: int, prelude: str = "") -> None:
        self._directory = directory
        self._options = options
        self._prelude = prelude
        self._seed = seed
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

    def connect(self) -> RawAgent:
        """An agent with an open session; for work that `run` does."""
        return self._daemon.connect()

    def run(self, work: Callable[[], T]) -> T:
        """Does something at the near end, in a thread of its own, and gives what that gives."""
        return run_inside(self._near, work)

    def change(self, **how: float | bool) -> dict[str, int]:
        """Has the relay behave so from now on, see there; what became of packets so far."""
        assert self._relay.stdin is not None
        assert self._relay.stdout is not None
        self._relay.stdin.write(json.dumps(how) + "\n")
        self._relay.stdin.flush()
        counts: dict[str, int] = json.loads(self._relay.stdout.readline())
        return counts

    def cut(self) -> None:
        """From now on nothing arrives."""
        self.change(near=False, far=False)

    def mend(self) -> None:
        """From now on what arrives does."""
        self.change(near=True, far=True)

    def __enter__(self) -> BadNetwork:
        with self._exit:
            self._near, far = namespace(self._exit), namespace(self._exit)
            self._relay = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(self._seed), str(self._near), str(far)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._exit.callback(self._relay.communicate)
            assert self._relay.stdout is not None
            assert self._relay.stdout.readline() == "up\n"
            for holder, here, there in ((self._near, NEAR, FAR), (far, FAR, NEAR)):
                ip(holder, "addr", "add", here, "peer", there, "dev", "wire")
                ip(holder, "link", "set", "wire", "up")
                # What is lost is sent again soon: on a wire as short as this one.
                ip(holder, "route", "replace", there, "dev", "wire", "rto_min", "20ms")
            self._daemon = self._exit.enter_context(
                running(
                    self._directory,
                    *self._options,
                    agents={AGENT: "agent caps=all,security"},
                    listen=(FAR,),
                    launcher=inside(far),
                    prelude=self._prelude,
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
