"""The last actions in an audit directory of this machine, followed in a thread."""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from asys.audit.follow import POLL_SECONDS, Watch
from asys.audit.reading import Action, Damage, Notice, State, read
from asys.isa import UntrustedText
from asys.protocol.status import explain
from asys.tui.readings import DEEDS, Deed


class Records:
    """The last DEEDS actions of an audit, the newest first, from `start` to `close`.

    `changed` is called in the thread after new ones have come.
    """

    def __init__(self, directory: Path, changed: Callable[[], None]) -> None:
        """OSError when the directory cannot be watched."""
        self._directory: Final = directory
        self._changed: Final = changed
        self._deeds: deque[Deed] = deque(maxlen=DEEDS)
        self._trouble = ""
        self._lock: Final = threading.Lock()
        self._watch: Final = Watch(directory)  # before the first look, so that nothing is missed
        self._stop, self._stopped = socket.socketpair()
        self._thread: Final = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, and waits for it."""
        self._stop.close()
        if self._thread.is_alive():
            self._thread.join()
        self._stopped.close()
        self._watch.__exit__(None, None, None)

    @property
    def deeds(self) -> tuple[Deed, ...]:
        """What was done, the newest first."""
        with self._lock:
            return tuple(self._deeds)

    @property
    def trouble(self) -> str:
        """Why there are no more of them, or what could not be read; empty when nothing is wrong."""
        with self._lock:
            return self._trouble

    def _run(self) -> None:
        try:
            for item in read(self._directory, wait=self._wait, newest=True):
                if isinstance(item, Damage):
                    self._say(f"the audit: {item.words}")
                elif not isinstance(item, Notice):
                    with self._lock:
                        self._deeds.appendleft(deed(item))
        except OSError as error:
            self._say(f"the audit cannot be read any more: {error}")
        self._changed()

    def _wait(self) -> bool:
        """Waits for more. False: it is to end, or the directory has gone."""
        self._changed()
        watch = self._watch.fileno()
        watched: list[socket.socket | int] = [self._stopped]
        if watch >= 0:
            watched.append(watch)
        ready, _, _ = select.select(watched, (), (), POLL_SECONDS if watch < 0 else None)
        if self._stopped in ready:
            return False
        if watch < 0 or self._watch():
            return True
        self._say(f"the audit directory {self._directory} has gone")
        return False

    def _say(self, trouble: str) -> None:
        with self._lock:
            self._trouble = trouble


def deed(action: Action) -> Deed:
    """An action of the audit for the view. Labels and payloads are text that others wrote."""
    from asys.cli.audit_views import target

    about = target(action)
    what = f"{action.instruction} {about}" if about else action.instruction
    if action.state is State.UNFINISHED:
        outcome = "begun, no outcome recorded"
    elif action.sw is None:
        outcome = "its task has ended"
    else:
        outcome = f"{action.sw:04X} {explain(action.sw).meaning}"
    if action.state is State.QUEUED:
        outcome += ", queued"
    return Deed(
        action.time_ns,
        UntrustedText(action.agent).shown,
        UntrustedText(what).shown,
        outcome,
        action.succeeded,
    )
