"""The cases, a module for each subject. A module that stands here is loaded; nothing is listed."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Imports every module of this package, so that its cases are in the table."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
