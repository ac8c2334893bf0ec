"""A real supervisord, with programs that start when somebody asks for it.

with supervisord({"web": "sleep infinity"}) as url: ...
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PATIENCE: Final = 60.0

FOR_EVER: Final = 100_000
"""startsecs of a program whose start never counts as done."""

MAIN: Final = "import sys; from supervisor.supervisord import main; sys.exit(main(sys.argv[1:]))"

CONFIG: Final = """\
[supervisord]
nodaemon=true
logfile={directory}/log
pidfile={directory}/pid
childlogdir={directory}
[unix_http_server]
file={directory}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

PROGRAM: Final = """\
[program:{name}]
command={command}
autostart=false
autorestart=false
startretries=0
startsecs={startsecs}
"""

GROUP: Final = """\
[group:all]
programs={programs}
"""
"""At its end supervisord takes a second for every group, and every program alone is one."""


@contextmanager
def supervisord(programs: Mapping[str, str], *, startsecs: int = 0) -> Iterator[str]:
    """Runs one; gives the URL of its XML-RPC interface. Its programs end with it."""
    directory = Path(tempfile.mkdtemp(prefix="asys-sup-"))  # a socket's path must be short
    config = CONFIG.format(directory=directory)
    for name, command in programs.items():
        config += PROGRAM.format(name=name, command=command, startsecs=startsecs)
    config += GROUP.format(programs=",".join(programs))
    (directory / "conf").write_text(config)
    user = {"SUPERVISOR_SERVER_URL": "", "PATH": os.environ["PATH"]}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", MAIN, "-c", str(directory / "conf")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=user,
    )
    said: list[str] = []
    started = threading.Event()

    def collect() -> None:
        for line in process.stdout or ():
            said.append(line)
            if "supervisord started" in line:
                started.set()
        started.set()

    reader = threading.Thread(target=collect, name="supervisord-log")
    reader.start()
    try:
        assert started.wait(PATIENCE), said
        assert process.poll() is None, said
        yield f"unix://{directory}/socket"
    finally:
        process.terminate()
        process.wait(PATIENCE)
        reader.join()
        if process.stdout is not None:
            process.stdout.close()
        shutil.rmtree(directory)
