"""The kernel's log: the machine's own, and what the kernel may answer to a read."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.isa import LogSource
from asys.node.platform.logs.kmsg import DEVICE, KmsgSource
from asys.node.platform.logs.logbook import BUDGET_ENTRIES

BOOT = bytes(range(16))
HOURS_NS = 3_600_000_000_000

try:
    os.close(os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK))
    FORBIDDEN = ""
except OSError as _error:
    FORBIDDEN = f"{DEVICE}: {_error.strerror}"


@pytest.mark.skipif(bool(FORBIDDEN), reason=FORBIDDEN)
def test_the_machine_s_own() -> None:
    source = KmsgSource(BOOT)
    name = f"asys-{secrets.token_hex(4)}"
    try:
        before = sum(1 for _ in source.newest_first(7, None))
        device = os.open(DEVICE, os.O_WRONLY | os.O_CLOEXEC)
        for line in (f"<3>{name}[4711]: it\x1b failed\n", f"<6>{name}: later\n"):
            os.write(device, line.encode())
        os.close(device)
        source.refresh()
        ours = []
        for entry in source.newest_first(7, None):
            if entry.unit == name.encode():
                ours.append((entry.priority, entry.message, *source.mark()))
        assert [one[:2] for one in ours] == [(6, b"later"), (3, b"it\x1b failed")]
        assert [one[3] for one in ours] == [0, 4711]
        assert source.kind == LogSource.KERNEL
        assert sum(1 for _ in source.newest_first(7, None)) >= before
        cursor = ours[1][2]
        assert cursor.startswith(b"kmsg:000102030405060708090a0b0c0d0e0f:")
        found = source.around(cursor, 0, 30)
        assert found is not None
        index, entries = found
        assert index == 0
        assert entries[0][1:] == (4711, 3, b"it\x1b failed")
        assert b"later" in [one.message for one in entries]
    finally:
        source.close()
        source.close()


class Device:
    """What reads give, one after the other: a record, or an error; then there is nothing."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers: Iterator[bytes | int] = iter(answers)

    def add(self, *answers: bytes | int) -> None:
        self.answers = iter(answers)

    def __call__(self, fd: int, size: int) -> bytes:
        answer = next(self.answers, errno.EAGAIN)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer


def record(number: int, text: bytes, head: int = 3) -> bytes:
    return b"%d,%d,%d,-;%b\n" % (head, number, number * 1_000_000, text)


def made(path: Path, device: Device) -> KmsgSource:
    (path / "kmsg").touch()
    return KmsgSource(
        BOOT,
        str(path / "kmsg"),
        read=device,
        clock=lambda: HOURS_NS,
        now_ns=lambda: 3 * HOURS_NS,
    )


def messages(source: KmsgSource, since_ns: int | None = None) -> list[bytes]:
    return [entry.message for entry in source.newest_first(7, since_ns)]


def test_records_that_are_overwritten_while_reading(tmp_path: Path) -> None:
    device = Device(record(1, b"one"), errno.EPIPE, record(9, b"nine"))
    source = made(tmp_path, device)
    assert messages(source) == [b"nine", b"one"]
    device.add(errno.EPIPE, errno.EPIPE, record(20, b"twenty"))
    source.refresh()
    assert messages(source) == [b"twenty", b"nine", b"one"]
    source.close()


def test_another_error_is_told(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Input/output"):
        made(tmp_path, Device(record(1, b"one"), errno.EIO))
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(FileNotFoundError):
        KmsgSource(BOOT, str(tmp_path / "none"))


def test_time_and_window(tmp_path: Path) -> None:
    source = made(tmp_path, Device(record(1, b"one"), record(5, b"five")))
    start = 2 * HOURS_NS  # when the machine started
    assert [one.time_ns for one in source.newest_first(7, None)] == [
        start + 5_000_000_000,
        start + 1_000_000_000,
    ]
    assert messages(source, start + 2_000_000_000) == [b"five"]
    source.close()


def test_times_stay_unless_the_clocks_drift_apart(tmp_path: Path) -> None:
    (tmp_path / "kmsg").touch()
    now = [3 * HOURS_NS]
    source = KmsgSource(
        BOOT,
        str(tmp_path / "kmsg"),
        read=Device(record(1, b"one")),
        clock=lambda: HOURS_NS,
        now_ns=lambda: now[0],
    )
    times = []
    for drift in (0, 9_000_000, 2_000_000_000):
        now[0] = 3 * HOURS_NS + drift
        source.refresh()
        times += [one.time_ns - 2 * HOURS_NS for one in source.newest_first(7, None)]
    assert times == [1_000_000_000, 1_000_000_000, 3_000_000_000]
    source.close()


def test_who_writes(tmp_path: Path) -> None:
    device = Device(
        record(1, b"usb 1-1: new device\n SUBSYSTEM=usb\n DEVICE=c189:0", 6),
        record(2, b"systemd[1]: Started x.", 30),
        record(3, b"name: text", 12),
        record(4, b"no name at all", 12),
        record(5, b"tab\\x09and \\\\", 2),
        b"not a record",
    )
    source = made(tmp_path, device)
    found = []
    for entry in source.newest_first(7, None):
        found.append((entry.priority, entry.unit, source.mark()[1], entry.message))
    assert found == [
        (2, b"kernel", 0, b"tab\tand \\\\"),
        (4, b"", 0, b"no name at all"),
        (4, b"name", 0, b"text"),
        (6, b"systemd", 1, b"Started x."),
        (6, b"kernel", 0, b"usb 1-1: new device"),
    ]
    source.close()


def test_neighbours(tmp_path: Path) -> None:
    source = made(tmp_path, Device(*(record(one, b"%d" % one) for one in (2, 3, 5, 8, 9))))
    name = b"kmsg:" + BOOT.hex().encode()

    def around(number: int, before: int, after: int) -> tuple[int, list[bytes]] | None:
        found = source.around(b"%b:%d" % (name, number), before, after)
        return found and (found[0], [one.message for one in found[1]])

    assert around(5, 1, 1) == (1, [b"3", b"5", b"8"])
    assert around(2, 30, 0) == (0, [b"2"])
    assert around(9, 30, 30) == (4, [b"2", b"3", b"5", b"8", b"9"])
    for gone in (4, 1, 10):
        assert around(gone, 1, 1) is None
    for strange in (b"", b"s=1;i=2", name, name + b":x", b"kmsg:00:5", name + b":5:6"):
        assert source.around(strange, 1, 1) is None
    source.close()


def test_only_the_latest_are_kept(tmp_path: Path) -> None:
    more = BUDGET_ENTRIES + 10
    source = made(tmp_path, Device(*(record(one, b"%d" % one) for one in range(more))))
    found = messages(source)
    assert (len(found), found[-1]) == (BUDGET_ENTRIES, b"10")
    source.close()
