"""What the command line of asyd decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asys.client.address import Address as CollectorAddress
from asys.node.limits import Limits
from asys.node.listen import Address
from asys.node.platform.priority import USUAL
from asys.node.vendor.enabled import Enabled


@dataclass(frozen=True, slots=True)
class Options:
    """How one asyd runs."""

    config_dir: Path
    addresses: tuple[Address, ...]
    limits: Limits
    supervisord: str | None = None
    portable: bool = False
    debug: bool = False
    mode: str = "full"
    state_dir: Path | None = None
    admin_socket: Path | None = None
    handshake_rate: int = 20
    audit: str = "on"
    audit_dir: Path | None = None
    audit_full: str = "refuse"
    audit_shadow: CollectorAddress | None = None
    audit_strict: bool = False
    throttle: str = "signal"
    throttle_lease: float = 0.0
    audit_parameters: str = "off"
    audit_parameters_days: int = 7
    vendors: tuple[Enabled, ...] = ()
    metrics: Address | None = None
    memory_lock: str = "auto"
    nice: int = USUAL
