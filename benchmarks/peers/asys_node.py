"""ASys itself: the SDK on one open session with a real asyd."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import asys
from asys.isa import SYS_PROCS, SYS_STATUS
from asys.tools import run_sync
from asys.tools.catalog import ToolSpec, spec_of
from benchmarks.line import Target
from benchmarks.nodes import own_node
from benchmarks.peers.jobs import Job
from benchmarks.peers.peer import HOST, Ask, Peer
from benchmarks.plan import BenchmarkError

SPECS: Final[dict[Job, ToolSpec]] = {
    Job.VITALS: spec_of(SYS_STATUS),
    Job.TOP: spec_of(SYS_PROCS),
}


class AsysNode(Peer):
    """The text is what a model gets from the tools `sys_status` and `sys_procs`."""

    _target: Target | None = None

    @contextlib.contextmanager
    def serve(self) -> Iterator[int]:
        """An asyd with an audit of its own."""
        audit = self.rig.directory / "audit"
        with own_node(
            self.rig.directory, granted="caps=core", audit=audit, launcher=self.rig.launcher
        ) as self._target:
            yield self._target.port

    @contextlib.contextmanager
    def connect(self, port: int) -> Iterator[Ask]:
        """A session."""
        if self._target is None:
            raise BenchmarkError("asyd has not been started")
        with asys.sync.connect(
            HOST,
            port,
            identity=asys.Identity(self._target.agent),
            node_key=self._target.node_key,
        ) as node:

            def ask(job: Job) -> str:
                result = run_sync(node, SPECS[job], {})
                if not result.ok:
                    raise BenchmarkError(result.text)
                return result.text

            yield ask
