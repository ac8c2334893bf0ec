"""A real asyd for agents of any framework, with connections as their authors make them."""

from __future__ import annotations

from typing import Any, Final

import asys
from asys.client.aio import Connecting
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, CORE_AGENT, PATIENCE, Daemon

AGENTS: Final = {AGENT: "agent caps=all,AGENT_LIST", CORE_AGENT: "other caps=core"}

CORE: Final = ["sys_caps", "sys_hello", "sys_status", "sys_procs"]
"""The tools of an agent that holds no more than everybody."""

RISKY: Final = {"proc_throttle", "net_isolate"}
"""What asks first, where no service manager is."""


def connect(asyd: Daemon, key: PrivateKey = AGENT, **options: Any) -> Connecting:
    """A connection for asyncio."""
    host, port = asyd.endpoint
    identity = asys.Identity(key)
    return asys.connect(
        host, port, identity=identity, node_key=asyd.key, timeout=PATIENCE, **options
    )


def connect_sync(asyd: Daemon, key: PrivateKey = AGENT) -> asys.sync.Node:
    """A connection without asyncio."""
    host, port = asyd.endpoint
    identity = asys.Identity(key)
    return asys.sync.connect(host, port, identity=identity, node_key=asyd.key, timeout=PATIENCE)
