"""Where the code blocks of a page run as they stand, one after the other.

A user without privileges and with an empty home, in namespaces of its own: the ports, the host
names and the processes that a page names are nobody else's. Needs root.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from support.nobody import as_nobody
from support.pages import Block
from support.users import NOBODY

PATIENCE: Final = 240
"""Seconds until a page that does not come to its end counts as broken."""

HOSTS: Final = ("node.example.org", "web1.example.org")
"""Names of other machines on the pages: here they are this one."""

_SERVERS: Final = re.compile(r"(asyd --|asys audit collect ).*\n")
"""Blocks that a reader types in a terminal of its own: they serve until they are ended."""

_ROOM: Final = """
set -eu
ip link set lo up
mount -t tmpfs -o mode=0755 room /mnt
mkdir -m 0700 /mnt/home
chown "$2:$2" /mnt/home
{ cat /etc/hosts; echo "127.0.0.1 $3"; } > /mnt/hosts
mount --bind /mnt/hosts /etc/hosts
script=$1
shift 3
cd /mnt/home
exec "$@" bash -c "$script"
"""
"""Arguments: the script, the user, host names, and the command that becomes the user."""

_BEGIN: Final = """
set -euo pipefail
servers=()
trap '(( ${#servers[@]} == 0 )) || kill -KILL "${servers[@]}" 2>/dev/null || true' EXIT
"""

_SERVE: Final = """
mkfifo said-{line}
exec {{said}}<>said-{line}
{command} >&$said 2>errors-{line} &
servers+=($!)
if ! read -r -t 60 word rest <&$said || [ "$word" != READY ]; then cat errors-{line} >&2; exit 1; fi
echo "$word $rest"
"""

_END: Final = """
for server in "${servers[@]}"; do kill -TERM "$server"; done
for server in "${servers[@]}"; do wait "$server"; done
servers=()
if grep -sE ' ERROR |Traceback' errors-* >&2; then exit 1; fi
"""

_MARK: Final = "-------- line "


def play(blocks: Iterable[Block], *, before: str = "", **variables: str) -> dict[int, str]:
    """Runs blocks of `sh` and `python`; what each printed, by its line.

    `before` is shell that comes first, `variables` stand in the environment. AssertionError when a
    block ends with another status than 0, or a server does not end well.
    """
    script = [_BEGIN, before, *(_step(block) for block in blocks), _END]
    namespaces = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    room = ("sh", "-c", _ROOM, "sh", "\n".join(script), str(NOBODY), " ".join(HOSTS))
    done = subprocess.run(
        ("unshare", *namespaces, *room, *as_nobody()),
        env=_environment() | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    parts = done.stdout.split(_MARK)[1:]
    return {int(line): said for line, _, said in (part.partition("\n") for part in parts)}


def _environment() -> dict[str, str]:
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"HOME": "/mnt/home", "PATH": tools, "LANG": "C.UTF-8", "PYTHONWARNINGS": "error"}


def _step(block: Block) -> str:
    mark = f"echo {shlex.quote(_MARK + str(block.line))}\n"
    if block.language == "python":
        return f"{mark}python -c {shlex.quote(block.text)}\n"
    if _SERVERS.fullmatch(block.text):
        return mark + _SERVE.format(line=block.line, command=block.text.strip())
    return f"{mark}{block.text}"
