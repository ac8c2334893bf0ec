"""Which tools an adapter offers on one node, under names of its own where there are several."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from asys.isa import Risk
from asys.tools import ToolSpec, offered

if TYPE_CHECKING:
    from asys.client import aio, blocking
    from asys.vendor.definition import Vendor

_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")
"""Short, for names are cut nowhere and most APIs of models take 64 characters."""

_MOST_NAME: Final = 64


def specs_of(
    node: aio.Node | blocking.Node,
    *,
    prefix: str,
    risk: Risk,
    read_only: bool,
    include: Iterable[str],
    vendors: Iterable[Vendor],
) -> tuple[ToolSpec, ...]:
    """The tools for what exists for this agent on the node now.

    With a prefix, which is what the model shall call the node, `sys_status` is
    `<prefix>_sys_status`. The others as `asys.tools.offered` has them. ValueError: the prefix is no
    such name, or `include` names what does not exist.
    """
    specs = offered(
        node.capability_map, risk=risk, read_only=read_only, include=include, vendors=vendors
    )
    if not prefix:
        return specs
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"the prefix {prefix!r} must be a letter and then up to 23 letters, digits, _ or -"
        )
    return tuple(_named(spec, prefix) for spec in specs)


def _named(spec: ToolSpec, prefix: str) -> ToolSpec:
    name = f"{prefix}_{spec.name}"
    if len(name) > _MOST_NAME:
        raise ValueError(f"{name} has more than {_MOST_NAME} characters; take a shorter prefix")
    return replace(spec, name=name, description=f"On the node {prefix}. {spec.description}")
