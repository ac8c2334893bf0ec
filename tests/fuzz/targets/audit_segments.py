"""`asys audit verify`: a file that is not what was written is never called whole."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from asys.audit.chain import header
from asys.audit.segments import AUDIT, segment_name
from asys.audit.verify import OPEN, TAMPERED, WHOLE, Verdict, verify
from fuzz import scratch
from fuzz.choices import Choices, Script
from support.audit_files import usual

COVERS = ("asys.audit.verify", "asys.audit.trace", "asys.audit.segments", "asys.audit.chain")

SEGMENTS: Final = 3
KINDS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9)


@functools.cache
def _genuine() -> tuple[list[bytes], bytes, tuple[int, bytes]]:
    """Segments that end cleanly, the first public key, and the anchor of their end."""
    directory = scratch.directory() / "genuine"
    files = usual(directory, segments=SEGMENTS)
    found = [(directory / segment_name(AUDIT, one)).read_bytes() for one in range(1, SEGMENTS + 1)]
    return found, files.first_key, (files.chain.entries, files.chain.h)


def one(data: bytes) -> None:
    """A directory as somebody has left it who could write to it, and what is said of it."""
    choices = Choices(data)
    genuine, key, anchor = _genuine()
    what = choices.below(4)
    given_key = key if choices.flag() else None
    given_anchor = anchor if choices.flag() else None
    if what == 3:
        segments = _made_up(choices)
    else:
        segments = dict(enumerate(genuine, 1))
        for _ in range(what):
            _alter(choices, segments)
    directory = _written(segments, key if choices.flag() else None)
    verdict = verify(directory, key=given_key, anchor=given_anchor)
    _makes_sense(verdict)
    if segments == dict(enumerate(genuine, 1)):
        assert verdict.code == WHOLE
        assert verdict.anchor is not None
    if verdict.code == WHOLE:
        assert what != 3
        _is_whole(segments, genuine, verdict, anchored=given_anchor is not None)


def _is_whole(
    segments: dict[int, bytes], genuine: list[bytes], verdict: Verdict, *, anchored: bool
) -> None:
    """Every byte of each segment from the first that is there is what was written.

    Behind them may be the piece of an entry, as a crash leaves it, but not unsaid; and behind an
    anchor that was met anything, as that vouches for what is before it only.
    """
    first = min(segments)
    assert first <= SEGMENTS
    assert first == 1 or any("begins with" in note for note in verdict.notes)
    while first > 1 and _holds_nothing(first, verdict):
        first += 1  # before the rest it is as good as gone, and so it is said
    for number in range(first, SEGMENTS + 1):
        wanted, there = genuine[number - 1], segments[number]
        assert there.startswith(wanted)
        if there != wanted and not (anchored and number == SEGMENTS):
            assert number < SEGMENTS
            assert any(note.startswith(segment_name(AUDIT, number)) for note in verdict.notes)
    assert anchored or max(segments) == SEGMENTS


def _holds_nothing(number: int, verdict: Verdict) -> bool:
    said = f"{segment_name(AUDIT, number)}: its head was never finished"
    return any(note.startswith(said) for note in verdict.notes)


def _alter(choices: Choices, segments: dict[int, bytes]) -> None:
    """One thing that somebody could do to the files."""
    number = choices.below(SEGMENTS) + 1
    data = segments.get(number, b"")
    at = choices.u16() % (len(data) + 1)
    what = choices.below(8)
    if what == 0 and data:
        at %= len(data)
        segments[number] = data[:at] + bytes((data[at] ^ (choices.byte() or 1),)) + data[at + 1 :]
    elif what == 1:
        segments[number] = data[:at]
    elif what == 2:
        segments[number] = data[:at] + choices.blob() + data[at:]
    elif what == 3:
        segments[number] = data[:at] + data[at + choices.byte() :]
    elif what == 4:
        segments.pop(number, None)
    elif what == 5:
        other = choices.below(SEGMENTS + 1) + 1
        segments[other], segments[number] = data, segments.get(other, data)
    elif what == 6:
        segments[number] = data + data[at:]
    else:
        segments[number] = data + bytes(choices.byte())


def _made_up(choices: Choices) -> dict[int, bytes]:
    """Segments of somebody's own: entries behind a head that may be right."""
    segments = {}
    for number in range(1, choices.below(3) + 1):
        data = header(number, bytes(32)) if choices.flag() else choices.take(41)
        for _ in range(choices.below(6)):
            body = choices.blob()
            data += bytes((choices.byte(),)) + len(body).to_bytes(2, "big") + body
        segments[number] = data + choices.blob()
    return segments


def _written(segments: dict[int, bytes], published: bytes | None) -> Path:
    directory = scratch.directory() / "audit"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for number, data in segments.items():
        (directory / segment_name(AUDIT, number)).write_bytes(data)
    if published is not None:
        (directory / f"{AUDIT}.pub").write_text(f"{published.hex()}\n")
    return directory


def _makes_sense(verdict: Verdict) -> None:
    assert verdict.code in (WHOLE, TAMPERED, OPEN)
    for words in (verdict.words, *verdict.notes):
        assert words
        assert words.isprintable()
    assert verdict.tail.entries >= 0
    assert verdict.tail.bytes >= 0


def seeds() -> Iterator[bytes]:
    """The genuine files, each thing done to each of them, and files of somebody's own."""
    for trusted in ((0, 0), (1, 0), (0, 1), (1, 1)):
        yield bytes(Script().byte(0, *trusted, 1))
    for number in range(SEGMENTS):
        for what in range(8):
            for at in (3, 41, 200):
                done = Script().byte(1, 1, what & 1, number).u16(at).byte(what, 1, 1, 1, 1)
                yield bytes(done)
    for type_ in KINDS:
        body = bytes(144 if type_ == 5 else 24 if type_ == 3 else 12)
        made = Script().byte(3, 0, 0, 1, 1, 2).blob(body).byte(type_).blob(body[:8]).byte(6)
        yield bytes(made.blob(b""))
