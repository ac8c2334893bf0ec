"""asyncssh at both ends: one kept connection, and a command in a new channel for each question."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncssh

from benchmarks.peers.held import held
from benchmarks.peers.jobs import SHELL, Job
from benchmarks.peers.peer import HOST, Ask, Peer
from benchmarks.plan import BenchmarkError

ALGORITHM: Final = "ssh-ed25519"


class AsyncSsh(Peer):
    """What a Python program does that does not want to start `ssh`."""

    @contextlib.contextmanager
    def serve(self) -> Iterator[int]:
        """A server that runs what it is told, as this user."""
        for who in ("host", "user"):
            key = asyncssh.generate_private_key(ALGORITHM)
            key.write_private_key(str(self._file(who)))
            key.write_public_key(str(self._file(f"{who}.pub")))
        command = [sys.executable, "-m", "benchmarks.peers.async_ssh", str(self.rig.directory)]
        with self.rig.serving(command) as port:
            yield port

    @contextlib.contextmanager
    def connect(self, port: int) -> Iterator[Ask]:
        """A connection."""
        known = asyncssh.import_known_hosts(f"* {self._file('host.pub').read_text()}")
        connection = partial(
            asyncssh.connect,
            HOST,
            port,
            known_hosts=known,
            client_keys=[str(self._file("user"))],
            username="agent",
            config=None,
        )
        with held(connection) as (runner, opened):

            async def command(job: Job) -> str:
                done = await opened.run(SHELL[job])
                if done.exit_status != 0:
                    raise BenchmarkError(f"the command failed: {done.stderr!s}")
                return str(done.stdout)

            yield lambda job: runner.run(command(job))

    def _file(self, name: str) -> Path:
        return self.rig.directory / name


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    child = await asyncio.create_subprocess_shell(
        process.command or "false",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await child.communicate()
    process.stdout.write(out)
    process.stderr.write(err)
    process.exit(child.returncode or 0)


async def _serve(directory: str) -> None:
    options: dict[str, Any] = {"encoding": None, "process_factory": _run}
    server = await asyncssh.listen(
        HOST,
        0,
        server_host_keys=[f"{directory}/host"],
        authorized_client_keys=f"{directory}/user.pub",
        **options,
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
