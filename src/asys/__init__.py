"""ASys, the Agentic System Interface."""

__version__ = "0.1.0"
