"""How a vendor's code does an instruction, in the worker.

    @handler(BACKUP_START)
    def backup_start(request: Start) -> Started: ...

A handler gets the parsed request and returns the reply, or None where the reply is Empty. It may be
a coroutine function. Up to four requests are in work at a time: plain functions in threads of their
own, coroutines on one loop. What a handler may not do, and how long it may take, stands in
docs/vendors.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Final, TypeAlias, TypeVar

from asys.isa import AnyInstruction, Instruction
from asys.protocol.codec import Layout
from asys.protocol.status import SW
from asys.vendor.definition import Vendor, VendorError

R = TypeVar("R", bound=Layout)
Q = TypeVar("Q")

Result: TypeAlias = R | Awaitable[R | None] | None
"""What a handler gives: the reply, nothing where the reply is Empty, or a coroutine of these."""

REFUSALS: Final = frozenset(
    {
        SW.BLOCKED,
        SW.DENIED,
        SW.INVALID_PAYLOAD,
        SW.NOT_SUPPORTED,
        *(sw for sw in SW if sw >> 8 == 0x6F),
    }
)
"""The status words that a handler may answer in place of its reply."""

_HANDLERS: Final[dict[AnyInstruction, Callable[[Any], Any]]] = {}


class Refuse(Exception):
    """Raised by a handler: the answer is this status word, and no reply.

    One of 6400, 6982, 6A80, 6D00 and 6Fxx. The reason goes to the node's log, never to the agent.
    """

    def __init__(self, status: SW | int, reason: str = "") -> None:
        super().__init__(reason)
        self.sw = SW(status)
        if self.sw not in REFUSALS:
            allowed = " ".join(str(one) for one in sorted(REFUSALS))
            raise ValueError(f"a handler refuses with one of {allowed}, not {self.sw}")


def handler(
    instruction: Instruction[..., R],
) -> Callable[[Callable[[Q], Result[R]]], Callable[[Q], Result[R]]]:
    """Makes a function the handler of a vendor's instruction; it is returned as it is.

    VendorError: the instruction has a handler already.
    """

    def take(function: Callable[[Q], Result[R]]) -> Callable[[Q], Result[R]]:
        if instruction in _HANDLERS:
            raise VendorError(f"{instruction!r} has a handler already")
        _HANDLERS[instruction] = function
        return function

    return take


def handlers_of(vendor: Vendor) -> dict[int, Callable[[Any], Any]]:
    """Imports the vendor's handlers, which runs its code; a handler for each of its codes.

    VendorError: the module cannot be imported, or an instruction has no handler.
    """
    try:
        import_module(vendor.handlers)
    except Exception as error:
        raise VendorError(
            f"{vendor.domain}: the module {vendor.handlers} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    lacking = [one.name for one in vendor.instructions if one not in _HANDLERS]
    if lacking:
        raise VendorError(
            f"{vendor.domain}: {vendor.handlers} has no @handler for {', '.join(lacking)}"
        )
    return {one.code: _HANDLERS[one] for one in vendor.instructions}
