"""Test vectors as files, for whoever implements the protocol in whatever language.

README.md beside this file says what is in each.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

FILES: Final = (
    "README.md",
    "deployed-sessions.json",
    "frames.json",
    "instructions.json",
    "noise-ik.json",
    "sealed.json",
)


def contents(name: str) -> bytes:
    """One of FILES."""
    return resources.files(__name__).joinpath(name).read_bytes()


def load(name: str) -> Any:
    """What is in one of the JSON files."""
    return json.loads(contents(name))
