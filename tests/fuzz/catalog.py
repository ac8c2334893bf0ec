"""The targets: what each is, and its part of a long run."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
"""A directory a target: inputs to begin with."""

REGRESSIONS: Final = HERE / "regressions"
"""A directory a target: inputs that failed once."""

SCRATCH: Final = Path("build/fuzz/scratch")
"""Where a target that is run by hand has its files."""


class Target(NamedTuple):
    """A module with `one`, which raises for a defect only; `share` is its part of all executions.

    `longest` bounds its inputs, in bytes. `short` is how often it is executed in a test.
    """

    module: str
    share: int
    longest: int = 1024
    short: int = 3_000


TARGETS: Final[dict[str, Target]] = {
    "frames": Target("fuzz.targets.frames", 120, longest=512),
    "channel": Target("fuzz.targets.channel", 90),
    "link": Target("fuzz.targets.link", 20, short=500),
    "signing": Target("fuzz.targets.signing", 40),
    "requests": Target("fuzz.targets.requests", 120, longest=512),
    "inspect": Target("fuzz.targets.inspect", 60, longest=512),
    "node": Target("fuzz.targets.node", 2, longest=512, short=150),
    "agents": Target("fuzz.targets.agents", 60),
    "agents_edit": Target("fuzz.targets.agents_edit", 25, short=1000),
    "known_hosts": Target("fuzz.targets.known_hosts", 25, short=1000),
    "inventory": Target("fuzz.targets.inventory", 100),
    "audit_segments": Target("fuzz.targets.audit_segments", 12, longest=512, short=400),
    "audit_reading": Target("fuzz.targets.audit_reading", 12, short=400),
    "audit_wire": Target("fuzz.targets.audit_wire", 140, longest=256),
    "worker": Target("fuzz.targets.worker", 90, longest=512),
    "log_worker": Target("fuzz.targets.log_worker", 60, longest=256),
    "admin": Target("fuzz.targets.admin", 8, longest=2048, short=500),
    "stores": Target("fuzz.targets.stores", 60, longest=2048),
    "supervisord": Target("fuzz.targets.supervisord", 25, short=1000),
}
