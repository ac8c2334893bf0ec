"""Instructions of a vendor's own: what its package imports (docs/vendors.md).

    from asys.vendor import Empty, Guide, Instruction, Layout, Level, Risk, Vendor, layout, u32

The package exports a `Vendor` by an entry point in the group `asys.vendors`, whose name is the
vendor's domain; its module of handlers uses `handler` and `Refuse`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from asys.isa import Empty, Guide, Instruction, Level, Risk
from asys.isa.untrusted import UntrustedText, untrusted, untrusted_padded
from asys.protocol.codec import (
    Layout,
    LayoutError,
    layout,
    p1,
    p2,
    padded,
    raw,
    rest,
    rows,
    slots,
    text,
    u8,
    u16,
    u32,
    u64,
)
from asys.protocol.status import SW
from asys.vendor.definition import Vendor, VendorError, id_of_domain
from asys.vendor.discovery import Found, Installed, find, find_all, installed
from asys.vendor.handlers import Refuse, handler, handlers_of

if TYPE_CHECKING:
    from asys.vendor.client import (
        SyncVendorNode,
        VendorNode,
        action,
        method,
        sync_action,
        sync_method,
    )

__all__ = [
    "SW",
    "Empty",
    "Found",
    "Guide",
    "Installed",
    "Instruction",
    "Layout",
    "LayoutError",
    "Level",
    "Refuse",
    "Risk",
    "SyncVendorNode",
    "UntrustedText",
    "Vendor",
    "VendorError",
    "VendorNode",
    "action",
    "find",
    "find_all",
    "handler",
    "handlers_of",
    "id_of_domain",
    "installed",
    "layout",
    "method",
    "p1",
    "p2",
    "padded",
    "raw",
    "rest",
    "rows",
    "slots",
    "sync_action",
    "sync_method",
    "text",
    "u8",
    "u16",
    "u32",
    "u64",
    "untrusted",
    "untrusted_padded",
]


def __getattr__(name: str) -> object:
    """Imports the agent's side when it is first used: a node's workers do without."""
    if name in __all__:
        value: object = getattr(import_module("asys.vendor.client"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'asys.vendor' has no attribute {name!r}")
