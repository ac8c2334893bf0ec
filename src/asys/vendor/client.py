"""A vendor's instructions on a node that one is connected to (docs/vendors.md).

    class Shop(VendorNode):
        vendor = VENDOR
        stock = method(SHOP_STOCK)

    shop = Shop(node)
    print(await shop.stock(item=7))

What `asys.sync` connects takes `SyncVendorNode`, `sync_method` and `sync_action`. Where no types
are wanted, `node.vendor(VENDOR)` makes such an object of the declaration alone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast

from asys.client.methods import attach, describe
from asys.isa import AnyInstruction, Empty, Instruction
from asys.protocol.codec import Layout
from asys.vendor.definition import Vendor

if TYPE_CHECKING:
    from asys.client import aio, blocking

P = ParamSpec("P")
R = TypeVar("R", bound=Layout)


class _Methods:
    """Makes sure that a class has a method for every instruction of its vendor."""

    vendor: ClassVar[Vendor]
    _make: ClassVar[Callable[[AnyInstruction], Callable[..., Any]]]

    def __init_subclass__(cls) -> None:
        """A class with a vendor gets a method for each instruction that it has none for."""
        super().__init_subclass__()
        if "vendor" in cls.__dict__:
            attach(cls, cls.vendor.instructions, cls._make)

    def __repr__(self) -> str:
        return f"<{self.vendor.domain} on {self.__dict__.get('node')!r}>"


class VendorNode(_Methods):
    """A vendor's instructions on a node of `asys.connect`. They raise what the node's methods do:
    Denied where the vendor is not enabled there or not granted to this agent, NoSuchInstruction
    where the instruction is not granted or not the vendor's.
    """

    def __init__(self, node: aio.Node) -> None:
        self.node = node


class SyncVendorNode(_Methods):
    """The same on a node of `asys.sync.connect`."""

    def __init__(self, node: blocking.Node) -> None:
        self.node = node


def method(
    instruction: Instruction[P, R],
) -> Callable[Concatenate[VendorNode, P], Coroutine[Any, Any, R]]:
    """The method of an instruction that has a reply."""

    async def call(self: VendorNode, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.node.call(instruction, *args, **kwargs)

    return describe(call, instruction)


def action(
    instruction: Instruction[P, Empty],
) -> Callable[Concatenate[VendorNode, P], Coroutine[Any, Any, None]]:
    """The method of an instruction whose reply is Empty."""

    async def call(self: VendorNode, /, *args: P.args, **kwargs: P.kwargs) -> None:
        await self.node.call(instruction, *args, **kwargs)

    return describe(call, instruction)


def sync_method(
    instruction: Instruction[P, R],
) -> Callable[Concatenate[SyncVendorNode, P], R]:
    """As `method`, without asyncio."""

    def call(self: SyncVendorNode, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.node.call(instruction, *args, **kwargs)

    return describe(call, instruction)


def sync_action(
    instruction: Instruction[P, Empty],
) -> Callable[Concatenate[SyncVendorNode, P], None]:
    """As `action`, without asyncio."""

    def call(self: SyncVendorNode, /, *args: P.args, **kwargs: P.kwargs) -> None:
        self.node.call(instruction, *args, **kwargs)

    return describe(call, instruction)


def _made(instruction: AnyInstruction) -> Callable[..., Any]:
    if instruction.reply is Empty:
        return action(cast("Instruction[..., Empty]", instruction))
    return method(instruction)


def _made_sync(instruction: AnyInstruction) -> Callable[..., Any]:
    if instruction.reply is Empty:
        return sync_action(cast("Instruction[..., Empty]", instruction))
    return sync_method(instruction)


VendorNode._make = staticmethod(_made)
SyncVendorNode._make = staticmethod(_made_sync)


def on_node(vendor: Vendor, node: aio.Node) -> Any:
    """An object with a method for each of the vendor's instructions."""
    return type(vendor.domain, (VendorNode,), {"vendor": vendor})(node)


def on_sync_node(vendor: Vendor, node: blocking.Node) -> Any:
    """The same on a node of `asys.sync`."""
    return type(vendor.domain, (SyncVendorNode,), {"vendor": vendor})(node)
