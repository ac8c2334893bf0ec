"""A journal full of errors, written by a journald of its own; nobody else sees it.

It lies on a tmpfs in a mount namespace that only a helper process holds. When the helper's stdin
ends, at the end of the block or with the process that measures, all of it is gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

from benchmarks.bench import Unavailable
from benchmarks.plan import BenchmarkError

JOURNALD: Final = "/lib/systemd/systemd-journald"
TOOLS: Final = ("mount", "nsenter", "unshare")
CLOSE_SECONDS: Final = 30.0

_SCRIPT: Final = """
mount --make-rprivate / && mount -t tmpfs -o mode=755 run /run || exit
[ ! -d /var/log/journal ] || mount -t tmpfs journal /var/log/journal || exit
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal || exit
cat >/run/systemd/journald.conf.d/bench.conf <<'END'
[Journal]
Storage=volatile
RateLimitIntervalSec=0
RuntimeMaxUse=1G
RuntimeMaxFileSize=64M
ReadKMsg=no
Audit=no
END
"$3" & journald=$!
"$1" -I -S -c "$4" "$2" "$journald" || { kill "$journald"; exit 1; }
kill "$journald" && wait "$journald"
echo ready
read -r _
"""

_WRITE: Final = """\
import os, socket, sys, time
where = "/run/systemd/journal/socket"
deadline = time.monotonic() + 20
while not os.path.exists(where):
    if time.monotonic() > deadline:
        sys.exit("journald does not start")
    time.sleep(0.01)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.connect(where)
for number in range(int(sys.argv[1])):
    text = "PRIORITY=3\\nSYSLOG_IDENTIFIER=bench\\nMESSAGE=it went wrong %d\\n" % (number % 500)
    journal.send(text.encode())
"""


class Journal:
    """So many errors, of 500 kinds. Unavailable where this machine cannot have them."""

    def __init__(self, entries: int) -> None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        missing += [] if os.geteuid() == 0 else ["root"]
        missing += [] if Path(JOURNALD).exists() else [JOURNALD]
        missing += [] if Path("/etc/machine-id").exists() else ["/etc/machine-id"]
        if missing:
            raise Unavailable(f"needs {', '.join(missing)}")
        self._helper = subprocess.Popen(
            [
                *("unshare", "--mount", "sh", "-c", _SCRIPT, "sh"),
                *(sys.executable, str(entries), JOURNALD, _WRITE),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        said = self._helper.stdout.readline() if self._helper.stdout is not None else ""
        if said != "ready\n":
            self.close()
            raise Unavailable(f"no journal could be written: {said.strip()}")

    @property
    def launcher(self) -> tuple[str, ...]:
        """What to write before a command that is to see the journal."""
        return ("nsenter", "--target", str(self._helper.pid), "--mount")

    def close(self) -> None:
        """Takes it away."""
        try:
            self._helper.communicate(timeout=CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._helper.kill()
            self._helper.communicate()
            raise BenchmarkError("the helper that holds the journal did not end") from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
