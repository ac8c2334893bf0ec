"""Broken nodes: each does one thing wrong, and names the cases that find it.

`caught_by` are all cases that fail on it, no more and no fewer. Where one fault must show in
several cases (a session that is not closed, say), all of them are named.
"""

from __future__ import annotations

import importlib
import pkgutil

from conformance.model import Node


def load() -> dict[str, list[type[Node]]]:
    """Every broken node, by the module that it stands in."""
    found: dict[str, list[type[Node]]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        found[info.name] = [
            one
            for one in vars(module).values()
            if isinstance(one, type) and issubclass(one, Node) and one.caught_by
        ]
    return found
