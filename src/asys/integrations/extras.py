"""What a module says whose framework is not installed."""

from __future__ import annotations


def missing(extra: str, error: ModuleNotFoundError) -> ImportError:
    """The exception for an extra of asys that is not installed; `error` names what is missing."""
    package = (error.name or extra).partition(".")[0]
    return ModuleNotFoundError(
        f"there is no {package} here; install it with: pip install 'asys[{extra}]'", name=package
    )
