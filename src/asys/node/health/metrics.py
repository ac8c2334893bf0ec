"""Every metric of asyd: its name, what it means, and where its value is (docs/resilience.md).

No metric names an agent, a key, a peer or a target: whoever scrapes learns how asyd is, not for
whom it works. Labels have as many values as the code or the admin's command line gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from asys import __version__
from asys.node.audit.journaled_log import JournaledLog
from asys.node.health.counts import LAG_BOUNDS
from asys.node.health.openmetrics import Family, Histogram, Kind, Number, Reading, exposition

if TYPE_CHECKING:
    from asys.node.audit.ring import Ring
    from asys.node.audit.supervisor import Supervisor
    from asys.node.health.counts import Costs
    from asys.node.health.watchdog import Watchdog
    from asys.node.platform.own_usage import OwnUsage, Usage
    from asys.node.server import Node
    from asys.node.vendor.pool import Pool

_NS: Final = 1_000_000_000

COUNTER, GAUGE, HISTOGRAM, INFO = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM, Kind.INFO


@dataclass(frozen=True, slots=True)
class Health:
    """What is looked at, from the start of asyd to its end."""

    node: Node
    usage: OwnUsage
    mode: str = "full"
    audit: Supervisor | None = None
    watchdog: Watchdog | None = None

    def text(self) -> str:
        """All metrics as OpenMetrics. Takes less than a millisecond; waits for nothing."""
        seen = _Seen(self, self.node, self.audit, self.usage.read())
        return exposition((family, read(seen)) for family, read in METRICS)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at everything."""

    health: Health
    node: Node
    audit: Supervisor | None
    usage: Usage


_Read: TypeAlias = Callable[[_Seen], Reading]


def _answers(seen: _Seen) -> Reading:
    return {word.hex().upper(): count for word, count in seen.node.counts.answers.items()}


def _closed(seen: _Seen) -> Reading:
    return {why.name.lower(): count for why, count in seen.node.counts.closed.items()}


def _build(seen: _Seen) -> Reading:
    return {
        "version": __version__,
        "platform": seen.node.platform.name,
        "mode": seen.health.mode,
    }


def _lag(seen: _Seen) -> Reading:
    lag = seen.node.counts.lag
    return Histogram(LAG_BOUNDS, lag.counts, lag.total)


def _sampler(read: Callable[[Costs], Number]) -> _Read:
    """What there is for both kinds of readings."""

    def both(seen: _Seen) -> Reading:
        sampler = seen.node.sampler
        return {"vitals": read(sampler.vitals_costs), "processes": read(sampler.table_costs)}

    return both


def _rings(seen: _Seen) -> Mapping[str, Ring]:
    """What asyd puts records into, where it does."""
    if seen.audit is None:
        return {}
    log = seen.audit.log
    rings = {"doing": log.doing, "reading": log.reading}
    return rings | {"parameters": log.journal} if isinstance(log, JournaledLog) else rings


def _each_ring(read: Callable[[Ring], Number]) -> _Read:
    return lambda seen: {name: read(ring) for name, ring in _rings(seen).items()} or None


def _lost(seen: _Seen) -> Reading:
    if seen.audit is None:
        return None
    log = seen.audit.log
    lost = {"doing": log.lost, "reading": log.lost_reads}
    return lost | {"parameters": log.left_out} if isinstance(log, JournaledLog) else lost


def _unacknowledged(seen: _Seen) -> Reading:
    if seen.audit is None or seen.audit.shadow is None:
        return None
    log = seen.audit.log
    return {
        name: ring.head - ring.acknowledged
        for name, ring in (("doing", log.doing), ("reading", log.reading))
    }


def _collector(read: Callable[[Supervisor], Number]) -> _Read:
    def where_there_is_one(seen: _Seen) -> Reading:
        return read(seen.audit) if seen.audit is not None and seen.audit.shadow else None

    return where_there_is_one


def _vendors(read: Callable[[Pool], Number]) -> _Read:
    def each(seen: _Seen) -> Reading:
        vendors = seen.node.vendors
        pools = vendors.pools if vendors is not None else ()
        return {pool.enabled.domain: read(pool) for pool in pools} or None

    return each


def _throttled(seen: _Seen) -> Reading:
    return len(seen.node.throttled.entries) if seen.node.throttled is not None else None


def _isolated(seen: _Seen) -> Reading:
    return len(seen.node.isolations.entries) if seen.node.isolations is not None else None


def _period(seen: _Seen) -> Reading:
    return seen.health.watchdog.period if seen.health.watchdog is not None else 0.0


def _feeds(seen: _Seen) -> Reading:
    return seen.health.watchdog.feeds if seen.health.watchdog is not None else 0


METRICS: Final[tuple[tuple[Family, _Read], ...]] = (
    # What asyd is
    (Family("asyd_build", INFO, "Version, platform and mode of this asyd."), _build),
    (
        Family("asyd_dark", GAUGE, "1 while every agent is down to core: asyd dark."),
        lambda seen: int(seen.node.authority.dark),
    ),
    (
        Family("asyd_agents", GAUGE, "Lines of authorized_agents that let an agent in."),
        lambda seen: len(seen.node.book.agents),
    ),
    (
        Family("asyd_agents_faulty", GAUGE, "Lines of authorized_agents that grant nothing."),
        lambda seen: len(seen.node.book.faults),
    ),
    # Who comes
    (
        Family("asyd_sessions", GAUGE, "Sessions that are open."),
        lambda seen: seen.node.session_count,
    ),
    (
        Family("asyd_sessions_limit", GAUGE, "The most that there may be: --max-sessions."),
        lambda seen: seen.node.limits.sessions,
    ),
    (
        Family("asyd_connections", GAUGE, "Connections, with those that are not sessions yet."),
        lambda seen: seen.node.connection_count,
    ),
    (
        Family("asyd_sessions_opened", COUNTER, "Sessions that were opened."),
        lambda seen: seen.node.counts.opened,
    ),
    (
        Family("asyd_sessions_closed", COUNTER, "Sessions that have ended.", label="reason"),
        _closed,
    ),
    (
        Family(
            "asyd_handshakes_refused",
            COUNTER,
            "Connections that asyd has ended before they were sessions.",
            label="reason",
        ),
        lambda seen: seen.node.counts.refused,
    ),
    # What they get
    (
        Family("asyd_answers", COUNTER, "Answers that were sent.", label="status"),
        _answers,
    ),
    (
        Family("asyd_tasks", GAUGE, "Task handles that agents hold."),
        lambda seen: len(seen.node.tasks),
    ),
    (
        Family("asyd_chains", GAUGE, "Instructions of which fragments have come, and not all."),
        lambda seen: len(seen.node.chains),
    ),
    (Family("asyd_throttled", GAUGE, "Processes that are stopped for agents."), _throttled),
    (Family("asyd_isolated", GAUGE, "Processes that are cut off for agents."), _isolated),
    # The event loop
    (
        Family(
            "asyd_loop_lag_seconds",
            HISTOGRAM,
            "How much later than due timers ran; there are none while nobody asks.",
            unit="seconds",
        ),
        _lag,
    ),
    (
        Family("asyd_loop_lag_max_seconds", GAUGE, "The most, since the start.", unit="seconds"),
        lambda seen: seen.node.counts.lag.most,
    ),
    (
        Family(
            "asyd_watchdog_period_seconds",
            GAUGE,
            "Within which systemd wants to hear of asyd; 0: it does not.",
            unit="seconds",
        ),
        _period,
    ),
    (Family("asyd_watchdog_feeds", COUNTER, "Times that it has heard of it."), _feeds),
    # The sampler
    (
        Family("asyd_sampler_awake", GAUGE, "1 while the machine is sampled, as somebody asks."),
        lambda seen: int(seen.node.sampler.awake),
    ),
    (
        Family("asyd_sampler_processes", GAUGE, "Processes at the last scan."),
        lambda seen: seen.node.sampler.processes.count,
    ),
    (
        Family("asyd_sampler_readings", COUNTER, "Readings of the machine.", label="what"),
        _sampler(lambda costs: costs.readings),
    ),
    (
        Family("asyd_sampler_failures", COUNTER, "Those that failed.", label="what"),
        _sampler(lambda costs: costs.failures),
    ),
    (
        Family(
            "asyd_sampler_slices",
            COUNTER,
            "Pieces that readings were cut into, between which others have their turn.",
            label="what",
        ),
        _sampler(lambda costs: costs.slices),
    ),
    (
        Family(
            "asyd_sampler_busy_seconds",
            COUNTER,
            "Time of the event loop that readings took.",
            unit="seconds",
            label="what",
        ),
        _sampler(lambda costs: costs.seconds),
    ),
    # The audit
    (
        Family("asyd_audit_degraded", GAUGE, "1 while the audit does not get where it belongs."),
        lambda seen: int(bool(seen.audit.log.flags)) if seen.audit is not None else None,
    ),
    (
        Family("asyd_audit_ring_slots", GAUGE, "Size of a ring of 32-byte slots.", "slots", "ring"),
        _each_ring(lambda ring: ring.slots),
    ),
    (
        Family(
            "asyd_audit_ring_used_slots",
            GAUGE,
            "Slots of it that are not on the disk yet.",
            unit="slots",
            label="ring",
        ),
        _each_ring(lambda ring: ring.head - ring.tail),
    ),
    (
        Family(
            "asyd_audit_synced_timestamp_seconds",
            GAUGE,
            "Unix time at which something of it reached the disk last; 0: never.",
            unit="seconds",
            label="ring",
        ),
        _each_ring(lambda ring: ring.synced_ns / _NS),
    ),
    (
        Family(
            "asyd_audit_lost",
            COUNTER,
            "Records that found no room in it, of which only the number is on record.",
            label="ring",
        ),
        _lost,
    ),
    (
        Family("asyd_audit_writers", COUNTER, "Processes that have written the audit so far."),
        lambda seen: seen.audit.log.doing.writers if seen.audit is not None else None,
    ),
    (
        Family("asyd_audit_collector_connected", GAUGE, "1 while a collector has everything."),
        _collector(lambda audit: int(audit.log.doing.followed)),
    ),
    (
        Family(
            "asyd_audit_unacknowledged_slots",
            GAUGE,
            "Slots of a ring that the collector has not acknowledged.",
            unit="slots",
            label="ring",
        ),
        _unacknowledged,
    ),
    (
        Family("asyd_audit_shippers", COUNTER, "Processes that have pushed the audit so far."),
        _collector(lambda audit: audit.shadow.starts if audit.shadow is not None else 0),
    ),
    # Vendors
    (
        Family("asyd_vendor_up", GAUGE, "1 while its worker works.", label="vendor"),
        _vendors(lambda pool: int(pool.ready)),
    ),
    (
        Family("asyd_vendor_workers", COUNTER, "Workers started so far.", label="vendor"),
        _vendors(lambda pool: pool.starts),
    ),
    (
        Family("asyd_vendor_requests", GAUGE, "Requests that are in work.", label="vendor"),
        _vendors(lambda pool: pool.in_work),
    ),
    # The process; with the names that Prometheus has for every program
    (
        Family(
            "process_start_time_seconds",
            GAUGE,
            "Unix time at which asyd was started.",
            unit="seconds",
        ),
        lambda seen: seen.health.usage.started,
    ),
    (
        Family("process_cpu_seconds", COUNTER, "CPU time that asyd has used.", unit="seconds"),
        lambda seen: seen.usage.cpu_seconds,
    ),
    (
        Family("process_resident_memory_bytes", GAUGE, "Memory of asyd.", unit="bytes"),
        lambda seen: seen.usage.resident_bytes,
    ),
    (
        Family("process_virtual_memory_bytes", GAUGE, "Address space of asyd.", unit="bytes"),
        lambda seen: seen.usage.virtual_bytes,
    ),
    (
        Family("process_open_fds", GAUGE, "File descriptors that asyd has open."),
        lambda seen: seen.usage.open_files,
    ),
    (
        Family("process_max_fds", GAUGE, "The most that it may have."),
        lambda seen: seen.usage.max_files,
    ),
    (
        Family(
            "asyd_major_faults", COUNTER, "Times that asyd waited for a page of its own memory."
        ),
        lambda seen: seen.usage.major_faults,
    ),
)
"""In the order in which they are written."""
