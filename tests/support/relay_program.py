"""A relay between two TUN devices that loses, delays, reorders and doubles packets by a seed.

relay_program.py SEED NEAR FAR       PIDs of processes that hold the two network namespaces

Says "up" when both devices, `wire` in each namespace, are there. Each line of stdin is JSON, an
object that changes how it behaves, answered with one line of JSON: how many packets of each kind it
had till then. All decisions come from one random.Random(SEED), in the order in which packets come.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x0001 | 0x1000
_CLONE_NEWNET: Final = 0x40000000
_PACKET: Final = 1 << 16


def device(holder: int) -> int:
    """The descriptor of a new TUN device in the namespace of a process."""
    space = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(space, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(space)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"wire", _IFF_TUN_NO_PI))
    return tun


class Relay:
    """What is under way, and what becomes of packets.

    `loss`, `twice` and `late` are parts of all packets; `delay`, `jitter` and `lateness` seconds.
    `near` and `far` tell whether anything arrives at that end.
    """

    def __init__(self, seed: int, ends: tuple[int, int]) -> None:
        self._random = random.Random(seed)  # noqa: S311  repeatable, not secret
        self._ends = ends
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._number = 0
        self._last: dict[int, int] = {}
        self.how = {
            "loss": 0.0,
            "twice": 0.0,
            "late": 0.0,
            "delay": 0.0,
            "jitter": 0.0,
            "lateness": 0.0,
            "near": True,
            "far": True,
        }
        self.counts = dict.fromkeys(("arrived", "lost", "doubled", "overtaken", "cut off"), 0)

    def take(self, end: int) -> None:
        """Packets have come at one end."""
        while True:
            try:
                packet = os.read(self._ends[end], _PACKET)
            except BlockingIOError:
                return
            chances = [self._random.random() for _ in range(4)]
            if chances[0] < self.how["loss"]:
                self.counts["lost"] += 1
                continue
            self._send(1 - end, packet, chances[1], late=chances[2] < self.how["late"])
            if chances[3] < self.how["twice"]:
                self.counts["doubled"] += 1
                self._send(1 - end, packet, self._random.random(), late=False)

    def _send(self, end: int, packet: bytes, chance: float, *, late: bool) -> None:
        wait = self.how["delay"] + chance * self.how["jitter"]
        wait += self.how["lateness"] if late else 0.0
        self._number += 1
        heapq.heappush(self._under_way, (time.monotonic() + wait, self._number, end, packet))

    def deliver(self) -> float | None:
        """Hands over what is due; seconds until something else is."""
        while self._under_way:
            left = self._under_way[0][0] - time.monotonic()
            if left > 0:
                return left
            _, number, end, packet = heapq.heappop(self._under_way)
            if not self.how["far" if end else "near"]:
                self.counts["cut off"] += 1
                continue
            self.counts["overtaken"] += number < self._last.get(end, 0)
            self._last[end] = max(number, self._last.get(end, 0))
            try:
                os.write(self._ends[end], packet)
            except OSError:  # the device is not up yet, or has no room: a loss like any other
                self.counts["lost"] += 1
            else:
                self.counts["arrived"] += 1
        return None

    def run(self) -> None:
        """Until stdin ends."""
        said = b""
        while True:
            ready, _, _ = select.select([0, *self._ends], [], [], self.deliver())
            for end in (0, 1):
                if self._ends[end] in ready:
                    self.take(end)
            if 0 in ready:
                more = os.read(0, _PACKET)
                if not more:
                    return
                *lines, said = (said + more).split(b"\n")
                for line in lines:
                    changes = json.loads(line)
                    if changes.keys() - self.how.keys():
                        raise ValueError(f"there is no {changes}")
                    self.how |= changes
                    os.write(1, json.dumps(self.counts).encode() + b"\n")


if __name__ == "__main__":
    seed, near, far = map(int, sys.argv[1:])
    relay = Relay(seed, (device(near), device(far)))
    os.write(1, b"up\n")
    relay.run()
