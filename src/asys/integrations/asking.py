"""What a person is asked before a tool does something that may do harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asys.tools import ToolSpec


@dataclass(frozen=True, slots=True)
class Question:
    """Whether one tool may run, once, with exactly these arguments; as text it is a sentence."""

    spec: ToolSpec
    arguments: Mapping[str, Any]

    @property
    def tool(self) -> str:
        """The name of the tool."""
        return self.spec.name

    def __str__(self) -> str:
        defaults = {
            name: one["default"]
            for name, one in self.spec.parameters["properties"].items()
            if "default" in one
        }
        said = ", ".join(f"{name}={one!r}" for name, one in (defaults | {**self.arguments}).items())
        return (
            f"Run {self.tool} with {said or 'no arguments'}? Risk: {self.spec.risk}. "
            f"Side effects: {self.spec.instruction.guide.side_effects} "
            f"Reversible: {self.spec.reversible}"
        )
