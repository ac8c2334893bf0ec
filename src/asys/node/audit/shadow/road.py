"""The shipper's work: one connection after the other to the collector, until asyd has ended.

It blocks wherever it likes: it is a process of its own, and nobody waits for it but instructions
that must not run without the collector.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from time import perf_counter
from typing import Final

from asys.audit.push import (
    MAX_PIPELINED,
    PROLOGUE,
    Ack,
    BadPush,
    Refused,
    Stands,
    parse_from_collector,
)
from asys.audit.segments import AUDIT, READS
from asys.client.dial import dial
from asys.errors import AsysError
from asys.node.audit.ring import Ring
from asys.node.audit.shadow.lane import Declined, Lane, Lied
from asys.node.audit.shadow.source import Astray, Source
from asys.node.audit.shadow.words import MOVED, NOTED, Destination
from asys.node.audit.writer import IGNORED, MAX_WORDS
from asys.protocol.keys import PrivateKey
from asys.protocol.limits import KEY_SIZE
from asys.protocol.link import AgentLink, LinkState

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
"""Before the next connection, while none leads to anything; chance cuts each to half at most."""

PAUSE_AFTER_LIE: Final = 1.0

CONNECT_SECONDS: Final = 5.0
"""How long a connection and its handshake may take."""

ANSWER_SECONDS: Final = 10.0
"""A collector that is silent for so long while it should answer counts as lost."""

LAST_SECONDS: Final = 10.0
"""How long it goes on when asyd has ended."""

HURRY_SECONDS: Final = 0.002
PACE_SECONDS: Final = 0.01
IDLE_SECONDS: Final = 0.05
"""How often it looks where the writer is: when somebody waits, when things happen, else."""

HURRY_LASTS: Final = 1.0

_SHARES: Final = {AUDIT: 5, READS: MAX_PIPELINED - 5}
"""PUTs of each chain that may be unanswered: reading does not hold up the record of doing."""

_RECEIVE: Final = 1 << 16


class Lost(Exception):
    """The connection is of no use any more."""


class Road:
    """Both chains on their way to a collector."""

    def __init__(
        self,
        directory: Path,
        destination: Destination,
        key: PrivateKey,
        rings: tuple[Ring, Ring],
        control: socket.socket,
    ) -> None:
        """`control` comes to its end when asyd does; lines for asyd go the other way."""
        self._destination = destination
        self._key = key
        self._lanes = tuple(
            Lane(Source(directory, kind), ring, self.say)
            for kind, ring in zip((AUDIT, READS), rings, strict=True)
        )
        self._rings = rings
        self._control = control
        self._pause = FIRST_PAUSE
        self._words = ""
        self._ends_at: float | None = None
        self._hurry_until = 0.0
        self._busy_until = 0.0
        self._chance = random.SystemRandom()

    def say(self, words: str) -> None:
        """A line for asyd's log, as trouble."""
        self._tell(" ".join(words.split()).encode("utf-8", "replace")[:MAX_WORDS])

    def _tell(self, line: bytes) -> None:
        """Dropped where asyd does not read it. It never waits."""
        try:
            self._control.send(line + b"\n", socket.MSG_DONTWAIT)
        except OSError:
            return

    def run(self) -> None:
        """Returns when asyd has ended, and everything is with the collector or the time is over."""
        while not self._over():
            met = False
            try:
                with dial(self._destination.address, perf_counter() + CONNECT_SECONDS) as sock:
                    link = self._shake_hands(sock)
                    met = True
                    self._follow(sock, link)
                    return
            except TimeoutError:
                self._failed(Lost("it does not answer"))
            except (AsysError, Lost, Lied, Declined, Astray, BadPush, OSError) as error:
                self._failed(error)
            if met and self._ends_at is not None:
                return  # asyd's successor may be connected by now
            self._rest(self._chance.uniform(0.5, 1.0) * self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _failed(self, error: Exception) -> None:
        self._set_followed(False)
        if isinstance(error, (Lied, Declined)):
            self._pause = max(self._pause, PAUSE_AFTER_LIE)
        words = str(error)
        if words != self._words:
            self._words = words
            if isinstance(error, Astray):
                self.say(f"the collector gets the audit anew, as somebody has changed it: {words}")
            else:
                self.say(f"the collector at {self._destination.address} does not follow: {words}")

    def _over(self) -> bool:
        return self._ends_at is not None and time.monotonic() >= self._ends_at

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._over():
            if self._ends_at is not None:
                time.sleep(min(left, IDLE_SECONDS))
            elif select.select([self._control], [], [], left)[0]:
                self._hear()

    def _hear(self) -> None:
        """asyd says that somebody waits, or it has ended."""
        try:
            data = self._control.recv(MAX_WORDS, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._hurry_until = time.monotonic() + HURRY_LASTS
        else:
            self._ends_at = time.monotonic() + LAST_SECONDS

    # -- one connection

    def _shake_hands(self, sock: socket.socket) -> AgentLink:
        """An open link to the collector that is meant. Lost; AsysError; OSError."""
        link = AgentLink(self._key, prologue=PROLOGUE)
        end = time.monotonic() + CONNECT_SECONDS
        while True:
            if link.state is LinkState.KEY_SHOWN:
                if link.node_key != self._destination.key:
                    raise Lost(
                        f"its key is {link.node_key.hex()}, not the one in known_collectors; when "
                        "it really has a new key, replace that line"
                    )
                link.begin_handshake()
            sock.settimeout(max(end - time.monotonic(), 0.001))
            sock.sendall(link.data_to_send())
            if link.state is LinkState.OPEN:
                return link
            link.receive_data(_received(sock))

    def _follow(self, sock: socket.socket, link: AgentLink) -> None:
        """Pushes until asyd has ended and everything is there. All that it raises ends it."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        for lane in self._lanes:
            lane.connect()
        out = b""
        answered_at = time.monotonic()
        reached: list[int] = []
        while True:
            for message in link.messages():  # some may have come with the handshake
                answered_at = time.monotonic()
                self._take(message)
            waited = any(lane.waits for lane in self._lanes)
            messages = [one for lane in self._lanes for one in lane.send(_SHARES[lane.kind])]
            now = time.monotonic()
            if messages:
                out += link.seal([one.pack() for one in messages])
                self._busy_until = now + IDLE_SECONDS
            if messages and not waited:
                answered_at = now
            if out:
                out = out[_sent(sock, out) :]
            self._told(reached)
            if self._over() or (self._ends_at is not None and self._done()):
                return
            waits = any(lane.waits for lane in self._lanes)
            if waits and now - answered_at >= ANSWER_SECONDS:
                raise Lost(f"it has not answered for {ANSWER_SECONDS:g} s")
            control = [self._control] if self._ends_at is None else []
            ready, _, _ = select.select(
                [sock, *control], [sock] if out else [], [], self._step(now)
            )
            if self._control in ready:
                self._hear()
            if sock in ready:
                link.receive_data(_received(sock))

    def _take(self, message: bytes) -> None:
        answer = parse_from_collector(message)
        if isinstance(answer, (Stands, Ack, Refused)):
            for lane in self._lanes:
                if lane.kind == answer.kind:
                    if isinstance(answer, Stands):
                        lane.stands(answer)
                    elif isinstance(answer, Ack):
                        lane.acknowledged(answer)
                    else:
                        lane.refused(answer)
        else:
            raise Declined(
                "it does not know this node; on its machine run: asys audit admit DIR "
                f"{self._key.public.hex()} LABEL"
            )

    def _told(self, before: list[int]) -> None:
        """Tells asyd when the collector has more than `before`, or everything."""
        if not self._rings[0].followed and all(lane.followed for lane in self._lanes):
            self._set_followed(True)
            self._pause = FIRST_PAUSE
            self._words = ""
            where = self._destination.address
            self._tell(NOTED + f"the collector at {where} has the audit, and follows it".encode())
        if before != [ring.acknowledged for ring in self._rings]:
            before[:] = [ring.acknowledged for ring in self._rings]
            self._tell(MOVED)

    def _set_followed(self, followed: bool) -> None:
        for ring in self._rings:
            ring.followed = followed

    def _done(self) -> bool:
        return all(lane.done for lane in self._lanes)

    def _step(self, now: float) -> float:
        if now < self._hurry_until:
            return HURRY_SECONDS
        return PACE_SECONDS if now < self._busy_until else IDLE_SECONDS


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(_RECEIVE)
    if not data:
        raise Lost("it has closed the connection")
    return data


def _sent(sock: socket.socket, data: bytes) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def work(
    directory: Path, destination: Destination, doing: int, reading: int, control: int, leash: int
) -> None:
    """The life of a shipper, in a process of its own; the numbers are descriptors.

    From `leash` it reads the node's key; that comes to its end when asyd does.
    """
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    key = PrivateKey(_exactly(leash, KEY_SIZE))
    threading.Thread(target=_end_late, args=(leash,), daemon=True).start()
    rings = Ring(doing), Ring(reading)
    with socket.socket(fileno=control) as line:
        road = Road(directory, destination, key, rings, line)
        try:
            road.run()
        except Exception as error:
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            line_number = where.tb_lineno if where is not None else 0
            road.say(f"the shipper of the audit failed in line {line_number}: {error!r}")
            sys.exit(1)


def _exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def _end_late(leash: int) -> None:
    """Ends the process when it hangs in something after asyd has ended: a name, a disk."""
    os.read(leash, 1)
    time.sleep(LAST_SECONDS + CONNECT_SECONDS)
    os._exit(1)
