"""Many nodes at once: `asys.Fleet`, its inventory, and its rows (docs/guides/fleet.md).

    async with asys.Fleet.load() as fleet:
        async for row in fleet.select("role=db").status(): ...

A fleet is built on `asys.connect` alone, and is as portable.
"""

from asys.errors import InventoryError
from asys.fleet.fleet import Fleet, Selection
from asys.fleet.inventory import Inventory, NodeEntry, Selector
from asys.fleet.rows import Failure, Row, Rows
from asys.fleet.targets import Target, Targets

__all__ = [
    "Failure",
    "Fleet",
    "Inventory",
    "InventoryError",
    "NodeEntry",
    "Row",
    "Rows",
    "Selection",
    "Selector",
    "Target",
    "Targets",
]
