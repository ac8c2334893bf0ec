"""What each instruction does; a module per group, with the same names as in `asys.isa`.

Importing this package fills the dispatcher's table.
"""

from asys.node.handlers import control, core, process, security

__all__ = ["control", "core", "process", "security"]
