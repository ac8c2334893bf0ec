"""The instruction set as tools for language models, without any framework.

    for spec in offered(node.capability_map):
        result = await run(node, spec, arguments)

`catalog` says which tools there are for an agent on a node, `running` runs one, `models` has the
pydantic models that frameworks ask for. What is offered protects nobody: the node's capability map
does.
"""

from __future__ import annotations

from asys.tools.catalog import ToolSpec, offered, spec_of
from asys.tools.running import ErrorKind, ToolResult, run, run_sync

__all__ = ["ErrorKind", "ToolResult", "ToolSpec", "offered", "run", "run_sync", "spec_of"]
