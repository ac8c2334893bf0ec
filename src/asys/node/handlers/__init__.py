"""What each instruction does; a module per group, with the same names as in `asys.isa`.

Importing this package fills the dispatcher's table.
"""

from asys.node.handlers import (
    control,
    core,
    diagnostics,
    network,
    process,
    security,
    vendor,
)

__all__ = ["control", "core", "diagnostics", "network", "process", "security", "vendor"]
