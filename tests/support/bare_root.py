"""A machine's root with hardly anything in it: asyd as one file, the C library, /proc and /dev.

    with BareRoot(tmp_path / "root", executable, etc, "blocks") as root:
        port, key = root.await_ready()
        root.run("asyd", "pubkey")

All that could be written to is a small tmpfs without room, the directory for temporary files among
them. The network is this machine's.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from support.daemon import PATIENCE

LIBRARIES: Final = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")
"""All there is beside the loader: the C library."""

WRITABLE: Final = ("etc", "tmp", "run", "var", "dev/shm", "root")

_READY: Final = re.compile(r"READY 127\.0\.0\.1:(\d+) ([0-9a-f]{64})\n")

_SET_UP: Final = r"""
set -e
executable=$1 config=$2 fill=$3; shift 3
mount -t tmpfs -o size=64m,mode=755 root "$PWD"
cd "$PWD"
mkdir -p usr/bin lib/x86_64-linux-gnu lib64 proc dev sys etc tmp run var root
for one in LIBRARIES; do
    cp "/lib/x86_64-linux-gnu/$one" lib/x86_64-linux-gnu/
done
cp /lib64/ld-linux-x86-64.so.2 lib64/
cp "$executable" usr/bin/asyd
ln -s asyd usr/bin/asys
mount --bind /proc proc
mount --bind /sys sys
mount -t tmpfs -o size=64k dev dev
mkdir dev/shm
for one in null zero random urandom kmsg; do
    : > "dev/$one"
    mount --bind "/dev/$one" "dev/$one"
done
for one in WRITABLE; do
    mount -t tmpfs -o size=64k,nr_inodes=32 full "$one"
done
cp -r "$config"/. etc
for one in . dev WRITABLE; do
    dd if=/dev/zero of="$one/filler" bs=4k count=20000 2>/dev/null || true
    if [ "$fill" = inodes ] && [ "$one" != . ] && [ "$one" != dev ]; then
        n=0
        while [ $n -lt 64 ] && true > "$one/filler-$n"; do n=$((n + 1)); done 2>/dev/null
    fi
done
exec chroot "$PWD" "$@"
"""


def descendants(pid: int) -> Iterator[int]:
    """The processes below one."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


class BareRoot:
    """asyd in such a root, in a mount namespace that ends with it."""

    def __init__(self, directory: Path, executable: Path, config: Path, fill: str) -> None:
        """`directory` is where it is mounted, `config` becomes /etc; `fill`: blocks or inodes."""
        script = _SET_UP.replace("LIBRARIES", " ".join(LIBRARIES))
        script = script.replace("WRITABLE", " ".join(WRITABLE))
        asyd = ("/usr/bin/asyd", "--listen", "127.0.0.1:0")
        self._unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        self._command = [str(executable), str(config), fill, *asyd]
        self._directory = directory
        self._helpers: list[int] = []
        self.log: list[str] = []

    def __enter__(self) -> BareRoot:
        self._directory.mkdir()
        self.process = subprocess.Popen(
            [*self._unshare, *self._command],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"HOME": "/root", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._collect, name="asyd-stderr")
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._note_helpers()
        self.process.kill()
        self.process.wait()
        # The writer of the audit would wait for room on its disk for as long as there is none.
        for pidfd in self._helpers:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self._reader.join(PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        """Of asyd itself."""
        return self.process.pid

    @property
    def path(self) -> Path:
        """The root, as it is seen from outside."""
        return Path(f"/proc/{self.pid}/root")

    def await_ready(self) -> tuple[int, bytes]:
        """Port and key of the READY line."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else ""
        found = _READY.fullmatch(line)
        assert found is not None, (line, self.log)
        return int(found[1]), bytes.fromhex(found[2])

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Returns when so many lines of the log have `text` in them."""
        with self._said:
            found = self._said.wait_for(
                lambda: sum(text in line for line in self.log) >= times, PATIENCE
            )
        assert found, (text, self.log)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command in the same root."""
        enter = ("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", f"--root=/proc/{self.pid}/root")
        return subprocess.run(
            [*enter, "--wd=/", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={"HOME": "/etc", "PATH": "/usr/bin"},
        )

    def make_room(self) -> None:
        """Removes what fills it."""
        for one in WRITABLE:
            for path in (self.path / one).glob("filler*"):
                path.unlink()

    def stop(self) -> None:
        """Ends it as an admin would; it must end well."""
        self._note_helpers()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.log

    def _note_helpers(self) -> None:
        """Descriptors of the processes that asyd has started, those above first."""
        if self.process.poll() is None:
            for pid in descendants(self.pid):
                with contextlib.suppress(ProcessLookupError):
                    self._helpers.append(os.pidfd_open(pid))

    def _collect(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._said:
                self.log.append(line.rstrip("\n"))
                self._said.notify_all()
