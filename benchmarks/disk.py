"""Disks that can be made to hang: ext4 on loop devices, with their images in memory.

They are mounted in a mount namespace that only a helper process holds, so nobody else sees them.
When its stdin ends, at the end of the block or with the process that measures, the helper thaws
them and takes them away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from benchmarks.bench import Unavailable
from benchmarks.plan import BenchmarkError

TOOLS: Final = ("fsfreeze", "mkfs.ext4", "mount", "umount", "unshare")
CLOSE_SECONDS: Final = 30.0

_SCRIPT: Final = """
cd "$1" || exit
count=$2
mount -t tmpfs -o mode=700 asys-bench . && cd "$1" || exit
away() {
    for at in $(seq "$count"); do
        fsfreeze --unfreeze "$at" 2>/dev/null
        umount -l "$at" 2>/dev/null
    done
}
trap away EXIT
for at in $(seq "$count"); do
    mkdir "$at" && truncate -s 64M "$at.img" &&
        mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$at.img" &&
        mount -o loop "$at.img" "$at" || exit
done
echo ready
read -r _
"""

_FIFREEZE: Final = 0xC0045877
_FITHAW: Final = 0xC0045878


class Disks:
    """`count` empty ext4 of 64 MB at `paths`. Unavailable where this machine cannot have them."""

    def __init__(self, directory: Path, count: int) -> None:
        """Mounts over an empty directory."""
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        missing += [] if os.geteuid() == 0 else ["root"]
        missing += [] if Path("/dev/loop-control").exists() else ["/dev/loop-control"]
        if missing:
            raise Unavailable(f"needs {', '.join(missing)}")
        self._helper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", str(directory), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        said = self._helper.stdout.readline() if self._helper.stdout is not None else ""
        if said != "ready\n":
            self.close()
            raise Unavailable(f"no disks could be mounted: {said.strip()}")
        place = Path(f"/proc/{self._helper.pid}/root{directory.resolve()}")
        self.paths = [place / str(number + 1) for number in range(count)]

    def close(self) -> None:
        """Thaws them and takes them away."""
        try:
            self._helper.communicate(timeout=CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(
                f"the disks of process {self._helper.pid} do not let themselves be unmounted"
            ) from None

    def __enter__(self) -> Disks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def frozen(disk: Path) -> Iterator[None]:
    """While the block lasts, whoever writes to the disk waits."""
    handle = os.open(disk, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.ioctl(handle, _FIFREEZE, 0)
        except OSError as error:
            raise Unavailable(f"a disk cannot be frozen: {error.strerror}") from error
        try:
            yield
        finally:
            fcntl.ioctl(handle, _FITHAW, 0)
    finally:
        os.close(handle)
