"""What servers of an afternoon's work tell: readings by psutil, taken when somebody asks.

Rates are those since the request before, as psutil has them without waiting.
"""

from __future__ import annotations

import heapq
import time
from typing import Any

import psutil

from benchmarks.peers.jobs import COUNT, Job


class Readings:
    """Keeps what rates are made of."""

    def __init__(self) -> None:
        psutil.cpu_times_percent(None)
        self._network = self._counted()

    def of(self, job: Job) -> dict[str, Any]:
        """What a job asks for."""
        return self.vitals() if job is Job.VITALS else {"processes": self.top()}

    def vitals(self) -> dict[str, Any]:
        """Load, CPU, memory, disk, I/O wait and network."""
        load = psutil.getloadavg()
        cpu = psutil.cpu_times_percent(None)
        before, self._network = self._network, self._counted()
        seconds = max(self._network[0] - before[0], 1e-6)
        received, sent = (
            round((now - then) * 8 / 1e6 / seconds, 2)
            for now, then in zip(self._network[1:], before[1:], strict=True)
        )
        return {
            "load1": round(load[0], 2),
            "load5": round(load[1], 2),
            "cpu_percent": round(100 - cpu.idle - cpu.iowait, 1),
            "io_wait_percent": cpu.iowait,
            "available_mb": psutil.virtual_memory().available >> 20,
            "root_used_percent": psutil.disk_usage("/").percent,
            "inbound_mbps": received,
            "outbound_mbps": sent,
        }

    def top(self) -> list[dict[str, Any]]:
        """The processes that have used most CPU since the request before."""
        found = [
            process.info
            for process in psutil.process_iter(["pid", "name", "cpu_percent", "memory_percent"])
        ]
        busiest = heapq.nlargest(COUNT, found, key=lambda one: one["cpu_percent"] or 0.0)
        return [
            {
                "pid": one["pid"],
                "name": one["name"],
                "cpu_percent": one["cpu_percent"] or 0.0,
                "memory_percent": round(one["memory_percent"] or 0.0, 2),
            }
            for one in busiest
        ]

    @staticmethod
    def _counted() -> tuple[float, int, int]:
        """When, and the bytes in and out of all interfaces but loopback."""
        counters = psutil.net_io_counters(pernic=True)
        outside = [one for name, one in counters.items() if name != "lo"]
        return (
            time.monotonic(),
            sum(one.bytes_recv for one in outside),
            sum(one.bytes_sent for one in outside),
        )
