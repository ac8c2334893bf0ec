"""Ansible ad hoc: a module for each question, over a kept ssh connection, with pipelining."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from benchmarks.peers.jobs import SHELL, Job
from benchmarks.peers.openssh import NODE, route, sshd
from benchmarks.peers.peer import ASK_SECONDS, Ask, Peer, last_words
from benchmarks.peers.registry import found
from benchmarks.plan import BenchmarkError

_CONFIG: Final = """\
[defaults]
inventory = {directory}/inventory
interpreter_python = {python}
remote_tmp = {directory}/remote
local_tmp = {directory}/local
[ssh_connection]
ssh_args = -F {ssh_config}
pipelining = true
"""
_HEAD: Final = re.compile(rf"{NODE} \| (?P<outcome>[A-Z]+!?)( \| rc=(?P<rc>-?\d+) >>)?")


class Ansible(Peer):
    """`ansible node -m shell -a COMMAND`; a playbook does the same and says more."""

    def serve(self) -> contextlib.AbstractContextManager[int]:
        """An sshd."""
        return sshd(self.rig)

    @contextlib.contextmanager
    def connect(self, port: int) -> Iterator[Ask]:
        """Nothing happens before the first command."""
        directory = self.rig.directory
        way = route(directory, port, kept=True)
        config = way.config.with_suffix(".cfg")
        config.write_text(
            _CONFIG.format(directory=directory, python=sys.executable, ssh_config=way.config)
        )
        (directory / "inventory").write_text(f"{NODE}\n")
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(config),
            "ANSIBLE_HOME": str(directory / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        command = [str(found("ansible")), NODE, "-m", "ansible.builtin.shell", "-a"]

        def ask(job: Job) -> str:
            done = subprocess.run(
                [*command, SHELL[job]],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ASK_SECONDS,
                check=False,
            )
            answer(done.stdout or done.stderr)
            return done.stdout

        try:
            yield ask
        finally:
            way.leave()


def answer(printed: str) -> str:
    """The command's own output, of what Ansible prints. BenchmarkError: it did not do it."""
    head, _, rest = printed.partition("\n")
    match = _HEAD.match(head)
    if match is None or match["outcome"] not in ("CHANGED", "SUCCESS") or match["rc"] != "0":
        raise BenchmarkError(f"Ansible said: {last_words(printed)}")
    return rest
