"""What asyd has left on its disk when it ended, read again at its start.

What cannot be read is logged with what it means, and does not keep asyd from starting.
"""

from __future__ import annotations

import contextlib
import logging

from asys.node.agents.authority import Past, Store
from asys.node.agents.delegated_store import DamagedStore, DelegatedStore
from asys.node.agents.directory import Delegate
from asys.node.agents.ended_store import EndedStore
from asys.node.agents.newly import growing, listed
from asys.node.agents.ran import InstructionSet, RanStore, this_set
from asys.node.clock import LoopClock
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError, quoted
from asys.node.disk.places import Places
from asys.node.held.isolations import Isolations, open_isolations
from asys.node.held.throttled import Throttling
from asys.node.held.throttled_store import Entry, ThrottledStore
from asys.node.options import Options
from asys.node.platform.base import Platform
from asys.node.platform.machine import boot_id

_log = logging.getLogger("asyd")


def load_delegates(where: Places) -> tuple[tuple[Delegate, ...], Store]:
    """The agents that agents have added.

    A damaged file keeps out those whom it names, and nobody else; it stays as it is.
    """
    store = DelegatedStore(where.state_dir)
    try:
        return store.load(), store
    except ConfigError as error:
        _log.error("no agent that an agent has added can connect: %s", error)
        return (), DamagedStore(store.path)


async def note_instructions(where: Places) -> InstructionSet | None:
    """Puts down which instructions this asyd has; what ran before it, at its first start only.

    It is for `asyd agents check`, and nothing depends on it here.
    """
    store, now = RanStore(where.state_dir), this_set()
    ran: tuple[InstructionSet, ...] = ()
    try:
        ran = store.load()
        if not ran or ran[-1] != now:
            await store.save((*ran, now))
    except (ConfigError, OSError, TimeoutError) as error:
        _log.warning("what an upgrade lights will not be known: %s", error)
        return None
    return ran[-1] if ran and ran[-1] != now else None


def report_new(config: ConfigDir, then: InstructionSet, now: int) -> None:
    """Says that lines have more than with the asyd that ran before. `now`: Unix seconds."""
    written = config.read_agents().decode("utf-8", "replace")
    gained = [one for one in growing(written, then, now) if one.instructions]
    names = sorted({one.name for line in gained for one in line.instructions})
    if gained:
        _log.warning(
            "asyd %s ran here before; new since: %s; lines that get some of it by words such as "
            "all: %d; see: asyd agents check --new --config-dir %s",
            then.asyd,
            listed(names),
            len(gained),
            quoted(config.path),
        )


def load_past(where: Places) -> Past:
    """The lines that have ended before this start."""
    store = EndedStore(where.state_dir)
    try:
        return Past(store.load(), store)
    except ConfigError as error:
        _log.error("it is not known which lines have ended; the clock alone tells: %s", error)
        with contextlib.suppress(OSError):
            store.path.replace(store.path.with_suffix(".damaged"))
        return Past(keeper=store)


def load_throttled(options: Options, where: Places) -> Throttling:
    """How processes are stopped, and those that were before this start."""
    store = ThrottledStore(where.state_dir, boot_id())
    entries: tuple[Entry, ...] = ()
    try:
        entries = store.load()
    except ConfigError as error:
        _log.error("what was stopped before is not known, and may be so still: %s", error)
        with contextlib.suppress(OSError):
            store.path.replace(store.path.with_suffix(".damaged"))
    if entries:
        _log.warning("%d processes were stopped before; see: asyd throttled list", len(entries))
    return Throttling(options.throttle, options.throttle_lease, store, entries)


def load_isolations(platform: Platform, where: Places, clock: LoopClock) -> Isolations | None:
    """What is cut off the network; whose it is may have been lost with the file."""
    try:
        return open_isolations(platform, clock, where.state_dir)
    except ConfigError as error:
        _log.error("it is not known who has isolated what: %s", error)
        path = where.state_dir / "isolations.json"
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return open_isolations(platform, clock, where.state_dir, ())
