"""A disk of a test's own: an ext4 that can lose its power, hang or be full.

It is mounted in a mount namespace that only a helper process holds, so nobody else sees it, and the
kernel takes all of it away when the helper ends: at the end of the block, or when the process that
runs the tests dies, however it dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

SECONDS: Final = 60
"""Deadline for what takes milliseconds on an idle machine."""

TOOLS: Final = ("mkfs.ext4", "mount", "nsenter", "umount", "unshare")

# The image of the disk lies on another ext4, which can be frozen: what the disk holds at that
# moment is what it would hold if its power failed. That one is in memory, and costs no real disk.
# The lazy writing of a new ext4's tables would come in between. A rename that replaces a file must
# not flush it by the kindness of the file system.
SCRIPT: Final = """
set -e
cd "$1"
mount -t tmpfs -o size=80m,mode=700 asys-test .
cd "$1"
mkdir outer disk copy small
truncate -s 40M outer.img
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 outer.img
mount -o loop outer.img outer
truncate -s 16M outer/disk.img
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 outer/disk.img
mount -o loop,noauto_da_alloc outer/disk.img disk
mount -t tmpfs -o size=1m,mode=700 asys-test small
echo ready
read -r _ || :
fsfreeze --unfreeze outer 2>/dev/null || :
fsfreeze --unfreeze disk 2>/dev/null || :
umount disk outer || :
"""

_FIFREEZE: Final = 0xC0045877
_FITHAW: Final = 0xC0045878


def loop_disk_missing() -> str:
    """What this machine lacks for such a disk, or ''."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    missing += [] if Path("/dev/loop-control").exists() else ["/dev/loop-control"]
    return f"needs {', '.join(missing)}" if missing else ""


class LoopDisk:
    """An ext4 of 16 MB at `path`, and a tmpfs of 1 MB at `small`; needs root."""

    def __init__(self, directory: Path) -> None:
        """Mounts over an empty directory."""
        self._helper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if self._helper.stdin is None or self._helper.stdout is None:
            raise RuntimeError("no pipes")
        said = self._helper.stdout.readline()
        if said != "ready\n":
            said += self._helper.stdout.read()
            self.close()
            raise RuntimeError(f"no loop disk: {said}")
        self._inside = directory
        self._place = Path(f"/proc/{self._helper.pid}/root{directory}")
        self.path = self._place / "disk"
        self.small = self._place / "small"

    def close(self) -> None:
        """Thaws it and takes it away."""
        if self._helper.stdin is not None and self._helper.stdout is not None:
            self._helper.stdin.close()
            self._helper.stdout.close()
        self._helper.wait(SECONDS)

    def __enter__(self) -> LoopDisk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """While the block lasts, whoever writes to the disk waits and cannot even be killed."""
        with _frozen(self.path):
            yield

    @contextlib.contextmanager
    def after_a_power_cut(self) -> Iterator[Path]:
        """The disk as it would be if its power failed now, while whoever writes to it goes on."""
        image = self._place / "copy.img"
        with _frozen(self._place / "outer"):
            shutil.copyfile(self._place / "outer" / "disk.img", image)
        self._run("mount", "-o", "loop", "copy.img", "copy")
        try:
            yield self._place / "copy"
        finally:
            self._run("umount", "copy")
            image.unlink()

    def _run(self, *command: str) -> None:
        inside = ["nsenter", "--target", str(self._helper.pid), "--mount", "--"]
        change = ["sh", "-c", 'cd "$0" && exec "$@"', str(self._inside)]
        subprocess.run([*inside, *change, *command], check=True, timeout=SECONDS)


@contextlib.contextmanager
def _frozen(mounted: Path) -> Iterator[None]:
    handle = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(handle, _FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(handle, _FITHAW, 0)
    finally:
        os.close(handle)


def fill(directory: Path) -> None:
    """Takes all room that there is, with a file of its own."""
    handle = os.open(directory / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    os.write(handle, bytes(size))
                    os.fsync(handle)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    finally:
        os.close(handle)
