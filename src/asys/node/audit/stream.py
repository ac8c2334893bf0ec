"""One chain on its way to the disk: from its ring, in batches, into segment files.

What is under way stands in shared memory before the first byte of it is appended. So a writer that
takes over from one that died finds by the size of the file how much is there, appends the rest, and
no record is lost or written twice.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from asys.audit.chain import HEAD_SIZE, Chain, CheckpointKeys
from asys.audit.entries import SessionClosed
from asys.audit.records import EntryType
from asys.audit.segments import Segment, find_segments, segment_name
from asys.audit.trace import Resumed, Tampered, resume
from asys.node.audit.encode import encode, split
from asys.node.audit.found import adopted, last_signer, settled, walk, whole_end
from asys.node.audit.key_files import KeyFiles
from asys.node.audit.place import Place, sync
from asys.node.audit.ring import ENDS, ROLLS, Position, Ring

BATCH: Final = 4096
"""Slots that are written and synced at once; more than the longest message has."""

CHECKPOINT_ENTRIES: Final = 10_000
CHECKPOINT_SECONDS: Final = 10.0
"""So much without a checkpoint at most."""

CLOSED_AT_END: Final = 8192
"""Sessions that get an end when asyd has ended without one."""

_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much is kept. `segment_bytes`: above it a new segment begins; `days`: 0 for ever."""

    segment_bytes: int = 8 << 20
    days: int = 90


class Stream:
    """One chain. A method that raises OSError can be called again; `attach` comes first."""

    def __init__(
        self, place: Place, kind: str, ring: Ring, keeping: Keeping, say: Callable[[str], None]
    ) -> None:
        self.kind: Final = kind
        self.ring: Final = ring
        self._place = place
        self._keeping = keeping
        self._say = say
        self._files = KeyFiles(place, kind)
        self._keys: CheckpointKeys | None = None
        self._before: CheckpointKeys | None = None
        self._signer: bytes | None = None
        self._position = Position(0, 0, 0, 0, 0, b"")
        self._fd = -1
        self.astray = False
        """The file is not as it should be: `attach` has to come before the next step."""
        self._sync_failed = False
        self._rolled = False
        self._since = 0
        self._checkpoint_at = 0.0
        self._live: dict[int, bytes] = {}
        """The bodies of sessions that are open, by their number in the ring."""

    # -- taking over

    def attach(self) -> None:
        """Finds where the chain stands, and finishes what another writer has begun. OSError."""
        self.let_go()
        position = self.ring.position
        if position is None:
            self._begin_chain()
        else:
            self._go_on(position)
        self.astray = self._sync_failed = False
        self._checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS

    def _begin_chain(self) -> None:
        """A new asyd, with a new ring: the chain goes on behind what is on the disk."""
        self._live = {}
        resumed, whole = self._on_disk()
        chain = resumed.chain
        offset = 0
        if whole and chain.segment:
            offset = whole_end(find_segments(self._place.path, self.kind)[-1])
        self._load_keys(resumed.signer)
        self._since = resumed.tail_entries
        position = Position(0, chain.entries, chain.segment, offset, chain.entries, chain.h)
        if offset:
            self._fd = self._place.open_segment(segment_name(self.kind, chain.segment))
        self._hold(position)

    def _go_on(self, position: Position) -> None:
        """The same ring: its position is the truth as far as the disk does not contradict."""
        segments = find_segments(self._place.path, self.kind)
        newest = segments[-1].number if segments else 0
        if not segments:
            self._restart(position)
            return
        if not position.length and newest == position.segment + 1:
            position = adopted(position, segments[-1])
        if newest == position.segment and position.offset:
            name = segment_name(self.kind, newest)
            fd = self._place.open_segment(name)
            more = os.fstat(fd).st_size - position.offset
            if 0 <= more <= position.length and not self._sync_failed:
                self._fd = fd
                self._recall(segments[-1], position)
                self._hold(position)
                if position.length:
                    self._finish()
                self._load_keys(last_signer(segments))
                self._since = max(self._since, 1)  # a checkpoint soon, if it is not clean
                return
            os.close(fd)
        self._join(position, segments)

    def _restart(self, position: Position) -> None:
        """Nothing is there any more: what asyd still has goes into a new segment."""
        if self._keys is None or self._before is not None:
            self._keys = self._before
        self._before = None
        if position.segment:
            self._say(
                f"there is no segment of the {self.kind} chain any more: it goes on in segment "
                f"{position.segment + 1}, and what was in the others is gone"
            )
        self._load_keys(self._signer)
        self._since = 1
        self._hold(position._replace(offset=0, length=0))

    def _join(self, position: Position, segments: list[Segment]) -> None:
        """The disk holds not just what this ring put there: a new segment goes on behind it."""
        if position.length:
            found = settled(position, segments, self.ring.stage)
            # What could not be synced may be gone after a restart: it is written again.
            position = found._replace(tail=position.tail) if self._sync_failed else found
        if not self._live:
            for segment in segments:
                if segment.number == position.segment:
                    self._recall(segment, position)
        resumed, _ = self._on_disk()
        chain = resumed.chain
        self._load_keys(resumed.signer)
        self._before = None
        self._since = 1
        if (chain.entries, chain.h) == (position.entries, position.h):
            base = position.base
        elif chain.entries - resumed.tail_entries > position.entries:
            base = chain.entries  # another writer was here, and has signed what it wrote
        else:
            # Less is there than was, or more than anybody signed: let that show.
            newest = max(chain.segment, position.segment)
            self._hold(position._replace(segment=newest, offset=0, length=0))
            return
        self._hold(Position(position.tail, base, chain.segment, 0, chain.entries, chain.h))

    def _on_disk(self) -> tuple[Resumed, bool]:
        """Where the chain on the disk ends, and whether nothing is wrong with it."""
        try:
            return resume(self._place.path, self.kind), True
        except Tampered as bad:
            self._say(
                f"the audit that is there was tampered with ({bad}); recording goes on in a new "
                "segment, and a verification will say so"
            )
        segments = find_segments(self._place.path, self.kind)
        return Resumed(Chain(segment=segments[-1].number), None, 0), False

    def _recall(self, segment: Segment, position: Position) -> None:
        """Which sessions are open, as the segment says that names all of them at its head."""
        self._live = {}
        for framed in walk(segment):
            if position.offset and framed.offset >= position.offset:
                return
            self._note(framed.data, position.base)

    def _note(self, framed: bytes, base: int) -> None:
        type_ = framed[0]
        if type_ not in (EntryType.SESSION_OPENED, EntryType.SESSION_CLOSED):
            return
        number = int.from_bytes(framed[HEAD_SIZE : HEAD_SIZE + 4], "big") - base & 0xFFFFFFFF
        if type_ == EntryType.SESSION_CLOSED:
            self._live.pop(number, None)
        elif number < 1 << 31:  # above: the session of an asyd before this one
            self._live[number] = framed[HEAD_SIZE + 4 :]

    def _load_keys(self, signer: bytes | None) -> None:
        self._keys, words = self._files.load(signer, self._keys)
        self._signer = signer
        self._rolled = False
        if words:
            self._say(words)

    # -- writing

    @property
    def idle(self) -> bool:
        """Whether all that asyd has put is on the disk."""
        return not self._position.length and self._position.tail == self.ring.head

    @property
    def backlog(self) -> bool:
        """Whether a whole batch waits."""
        return self.ring.head - self._position.tail >= BATCH

    @property
    def ended(self) -> bool:
        """Whether the chain has its clean end, and nothing came after it."""
        return self.idle and self._position.ended and not self._rolled

    def step(self, *, end: bool = False) -> bool:
        """Writes one batch and syncs it; False when there was nothing to do. OSError.

        `end`: asyd is gone, so when the ring is empty the chain gets its clean end.
        """
        if self._rolled:
            self._promote()
        position = self._position
        if not position.length:
            waiting = self.ring.head != position.tail
            ends = end and not waiting and not position.ended
            due = self._since >= CHECKPOINT_ENTRIES or (
                self._since > 0 and time.monotonic() >= self._checkpoint_at
            )
            if not (waiting or ends or (due and not position.ended)):
                return False
            if self._fd < 0 or position.offset >= self._keeping.segment_bytes:
                position = self._begin_segment(position)
                due = False
                if not (waiting or ends):
                    return True
            self._stage(position, take=waiting, roll=due, end=ends)
        self._finish()
        return True

    def _begin_segment(self, position: Position) -> Position:
        """The next segment is there: its head, a checkpoint, the sessions that are open. OSError.

        The checkpoint covers the segment before, and tells how many entries came before this one.
        """
        if self._fd >= 0:
            self._done(position)
            self.let_go()
        chain = Chain(position.h, position.entries, position.segment)
        parts = [chain.begin_segment()]
        keys = self._keys
        if keys is None:
            raise RuntimeError("a chain has keys as soon as it is attached")
        before = CheckpointKeys(keys.private, keys.following)
        self._files.prepare(keys.following)
        parts.append(chain.checkpoint(keys, time.time_ns()))
        for number, body in self._live.items():
            numbered = (position.base + number & 0xFFFFFFFF).to_bytes(4, "big") + body
            parts.append(chain.add_body(EntryType.SESSION_OPENED, numbered))
        data = b"".join(parts)
        name = segment_name(self.kind, chain.segment)
        try:
            self._place.create(name, data, 0o600)
        except OSError as error:
            self._keys = before
            self.astray = isinstance(error, FileExistsError)
            raise
        begun = position._replace(
            segment=chain.segment, offset=len(data), entries=chain.entries, h=chain.h
        )
        self._hold(begun)
        self._since = len(self._live)
        self._has_signed()
        self._fd = self._place.open_segment(name)
        self._promote()
        return begun

    def _has_signed(self) -> None:
        """A checkpoint is on the disk: the key that it names takes the place of its own."""
        self._rolled = True
        self._before = None
        self._checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS
        if self._keys is not None:
            self._signer = self._keys.public

    def _promote(self) -> None:
        self._files.promote()
        self._rolled = False

    def _stage(
        self, position: Position, *, take: bool, roll: bool = False, end: bool = False
    ) -> None:
        """Puts together what comes next, and says so in the ring before any of it is written."""
        chain = Chain(position.h, position.entries, position.segment)
        parts: list[bytes] = []
        tail, kind = position.tail, 0
        if take:
            encoded = encode(chain, self.ring.peek(tail, BATCH), position.base)
            tail += encoded.slots
            parts.append(encoded.data)
            if encoded.bad:
                self._say(f"{encoded.bad} messages of asyd were no entries, and were left out")
        if (roll or end) and self._keys is not None:
            # The keys roll in memory at once; should this batch go nowhere, they roll back.
            self._before = CheckpointKeys(self._keys.private, self._keys.following)
            self._files.prepare(self._keys.following)
            if end:
                for number in list(self._live)[:CLOSED_AT_END]:
                    closed = SessionClosed(position.base + number & 0xFFFFFFFF, time.time_ns())
                    parts.append(chain.add(closed))
                parts.append(chain.clean_end(self._keys, time.time_ns()))
                kind = ROLLS | ENDS
            else:
                parts.append(chain.checkpoint(self._keys, time.time_ns()))
                kind = ROLLS
        data = b"".join(parts)
        self.ring.stage[: len(data)] = data
        self._hold(
            position._replace(
                length=len(data),
                next_tail=tail,
                next_entries=chain.entries,
                next_h=chain.h,
                kind=kind,
            )
        )

    def _done(self, position: Position) -> int:
        """Bytes of what is under way that are in the file. OSError: it is not as it should be."""
        info = os.fstat(self._fd)
        done = info.st_size - position.offset
        if info.st_nlink and 0 <= done <= position.length:
            return done
        self.astray = True
        name = segment_name(self.kind, position.segment)
        raise OSError(errno.ESTALE, "somebody else has changed or removed it", name)

    def _finish(self) -> None:
        """Appends what of the stage is not there yet, and syncs it. OSError."""
        position = self._position
        done = self._done(position)
        with self.ring.stage[: position.length] as staged:
            while done < position.length:
                done += os.write(self._fd, staged[done:])
            try:
                sync(self._fd)
            except OSError:
                # What the kernel could not write it has forgotten: it goes into a new segment.
                self.astray = self._sync_failed = True
                raise
            self._place.check()
            data = bytes(staged)
        self._hold(position.arrived)
        self.ring.synced(time.time_ns())
        for framed in split(data):
            self._note(framed, position.base)
        self._since += position.next_entries - position.entries
        if position.kind & ROLLS:
            self._since = 0
            self._has_signed()

    def _hold(self, position: Position) -> None:
        self._position = position
        self.ring.position = position

    def let_go(self) -> None:
        """Closes the segment; `attach` opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # -- what is kept

    def expire(self, now: float) -> None:
        """Removes segments that are too old, but never the last two. `now` is Unix time. OSError.

        The one before the last has the checkpoint that the last may not have yet.
        """
        if not self._keeping.days:
            return
        oldest = now - self._keeping.days * _DAY
        segments = find_segments(self._place.path, self.kind)
        for segment in segments[:-2]:
            if segment.path.stat().st_mtime >= oldest:
                return
            self._place.unlink(segment.path.name)
            self._say(f"{segment.path.name} is older than {self._keeping.days} days: removed")
