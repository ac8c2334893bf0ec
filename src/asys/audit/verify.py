"""Whether the audit in a directory is what was written there (docs/audit.md, section 6)."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from asys.audit.chain import format_anchor, public_of
from asys.audit.segments import AUDIT, find_segments
from asys.audit.trace import Tampered, Trace

WHOLE: Final = 0
TAMPERED: Final = 1
OPEN: Final = 3

_TRIES: Final = 3
"""How often the first segments may be rotated away under the eyes of the reader."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Tail(NamedTuple):
    """What no checkpoint covers."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said of a chain.

    `code` is WHOLE, TAMPERED or OPEN, `words` says it. `entries` and `h` are where the chain, or
    what is good of it, ends: counted over the whole chain, None where nothing tells what came
    before. `tail` is what lies behind the last checkpoint, `next_key` the public key that the last
    checkpoint names, `notes` what else is worth knowing.
    """

    code: int
    words: str
    entries: int | None
    h: bytes | None
    tail: Tail
    next_key: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def anchor(self) -> str | None:
        """COUNT:HASH of the end, for safe keeping; None where it cannot be told."""
        if self.entries is None or self.h is None:
            return None
        return format_anchor(self.entries, self.h)


def verify(
    directory: Path,
    *,
    key: bytes | None = None,
    anchor: tuple[int, bytes] | None = None,
    kind: str = AUDIT,
) -> Verdict:
    """Reads a whole chain and judges it. OSError: the directory or a file cannot be read.

    `key` is a public key that the caller got from this chain earlier: the first one, or one that a
    checkpoint named. `anchor` is a COUNT:HASH that was kept elsewhere. `kind` is AUDIT or READS.
    """
    for _ in range(_TRIES - 1):
        try:
            return _verify(directory, key, anchor, kind)
        except FileNotFoundError:
            directory.stat()  # only a segment may have gone
    return _verify(directory, key, anchor, kind)


def _verify(
    directory: Path, key: bytes | None, anchor: tuple[int, bytes] | None, kind: str
) -> Verdict:
    notes: list[str] = []
    # Before the segments: a checkpoint that is made meanwhile rolls the key on.
    held = _held_key(directory / f"{kind}.key")
    segments = find_segments(directory, kind)
    trace = Trace(
        pinned=key,
        published=_published_key(directory / f"{kind}.pub", notes),
        wanted=anchor,
        expected=frozenset() if held is None else frozenset((held,)),
    )
    try:
        trace.walk(segments)
        _check_end(trace, kind, key, anchor, held)
    except Tampered as bad:
        return _verdict(trace, TAMPERED, str(bad), notes)
    if not segments:
        words = f"there is no segment {kind}-*.seg: nothing was recorded, or everything is gone"
        return _verdict(trace, OPEN, words, notes)
    if segments[0].number > 1:
        notes.append(
            f"it begins with {segments[0].path.name}: the segments before are gone, "
            "rotated away or taken away"
        )
    return _judge(trace, anchor, key, notes, len(segments))


def _check_end(
    trace: Trace,
    kind: str,
    key: bytes | None,
    anchor: tuple[int, bytes] | None,
    held: bytes | None,
) -> None:
    """What shows only when everything has been read. Tampered."""
    entries, base = trace.entries, trace.base
    if anchor is not None and not trace.anchor_met:
        count = anchor[0]
        if entries is not None and count > entries:
            raise Tampered(
                f"the anchor stands behind entry {count}, and the chain ends behind entry "
                f"{entries}: {count - entries} entries are gone from its end"
            )
        if base is not None and count >= base:
            raise Tampered(f"the chain value behind entry {count} is not the anchor's")
        if entries is None and count:
            raise Tampered(
                f"the anchor's chain value, that of entry {count}, is not here, and nothing tells "
                "how many entries came before what is"
            )
    if key is not None and trace.checkpoints and not trace.linked and key != trace.signer:
        raise Tampered(
            f"the key {key.hex()} signed no checkpoint here. Either this is not what was written, "
            "or what it signed was rotated away: then take the key of a newer anchor"
        )
    if held is not None and trace.checkpoints and held not in trace.named:
        raise Tampered(
            f"the writer's key, {kind}.key, is named by no checkpoint here: checkpoints were cut "
            "off the end, or the key is not that of this chain"
        )


def _judge(
    trace: Trace,
    anchor: tuple[int, bytes] | None,
    key: bytes | None,
    notes: list[str],
    segments: int,
) -> Verdict:
    count = "" if trace.entries is None else f" to entry {trace.entries}"
    files = "1 segment" if segments == 1 else f"{segments} segments"
    tail = f"{trace.tail_entries} entries, {trace.tail_bytes} bytes"
    if key is not None and not trace.linked:
        notes.append("the given key has signed nothing yet, so it proves nothing")
    if anchor is not None and trace.anchor_met:
        words = f"whole to the anchor behind entry {anchor[0]}; {files}"
        if not trace.clean:
            words += f"; no checkpoint covers what is behind the last one: {tail}"
        return _verdict(trace, WHOLE, words, notes)
    if anchor is not None:
        notes.append("the anchor's entry was rotated away, so it proves nothing; take a newer one")
    if not trace.clean:
        words = f"open tail behind the last checkpoint: {tail}; {files}, nothing bad{count}"
        return _verdict(trace, OPEN, words, notes)
    ended = f"{_EPOCH + timedelta(microseconds=trace.ended_ns // 1000):%Y-%m-%d %H:%M:%S} UTC"
    if anchor is not None or (key is not None and not trace.linked):
        words = f"a clean end of {ended}, but not proven; {files}, nothing bad{count}"
        return _verdict(trace, OPEN, words, notes)
    return _verdict(trace, WHOLE, f"whole{count}, clean end of {ended}; {files}", notes)


def _verdict(trace: Trace, code: int, words: str, notes: list[str]) -> Verdict:
    tail = Tail(trace.tail_entries, trace.tail_bytes)
    all_notes = (*trace.notes, *notes)
    return Verdict(code, words, trace.entries, trace.h, tail, trace.signer, all_notes)


def _held_key(path: Path) -> bytes | None:
    """The public key of the writer's private one; None where it is not there or not to be read.

    Zeros are a key that was just erased, before the next one takes its place.
    """
    try:
        private = _small_file(path)
        return public_of(private) if any(private) else None
    except (OSError, ValueError):
        return None


def _published_key(path: Path, notes: list[str]) -> bytes | None:
    """The first public key of the chain, as it lies beside the segments."""
    try:
        return parse_key(_small_file(path).decode("ascii", "replace"))
    except FileNotFoundError:
        return None
    except ValueError:
        notes.append(f"{path.name} holds no public key")
        return None


def _small_file(path: Path) -> bytes:
    """The first bytes of a regular file. ValueError: it is none; OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is no regular file")
    with path.open("rb") as file:
        return file.read(1000)


def parse_key(text: str) -> bytes:
    """A public key from its 64 hex digits. ValueError."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError("a public key has 64 hex digits")
    return key
