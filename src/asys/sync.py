"""The SDK for code without asyncio; the names are those of `asys`.

with asys.sync.connect("node.example.org") as node:
    print(node.sys_status().cpu_percent)
"""

from __future__ import annotations

from asys.client.blocking import Node, Task, connect

__all__ = ["Node", "Task", "connect"]
