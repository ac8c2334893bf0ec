"""A request of each instruction, made from its declaration: the examples of docs/instructions.md.

Whoever implements the protocol can check them: frames that are signed have Seq 1 and the keys of
the session in Appendix A of docs/protocol.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from asys.isa.definition import AnyInstruction, Level, Mode
from asys.protocol.apdu import encode_plain
from asys.protocol.codec import Field
from asys.protocol.signing import Signer

SESSION_KEY: Final = bytes.fromhex(
    "98c1f35c3d97ae8f9f102979910fe38f7789e31e9331f5b67363c4b59100fcc6"
)
"""K of Appendix A, `agent_to_node_key`. It is printed there, so it protects nothing."""

_VALUES: Final[Mapping[str, object]] = {
    "caps": "core",
    "event_id": 1,
    "fragment": b"web-1",
    "handle": 0x12345678,
    "key": "761b4d9b298c1bfb6ca1d979a5d4b59d9f0b849eb09e8c429b6e3f032476147c",
    "name": "nginx",
    "pid": 16073,
    "ttl_s": 600,
}
"""What an example says for fields of these names."""


def arguments(one: AnyInstruction) -> dict[str, Any]:
    """What an example call names: all that must be given, and what `_VALUES` has.

    LookupError for a field that must be given and has no value there.
    """
    declared = inspect.signature(one.request).parameters
    found: dict[str, Any] = {}
    for name, field in one.request.FIELDS.items():
        if name in _VALUES:
            found[name] = _VALUES[name]
        elif declared[name].default is inspect.Parameter.empty:
            found[name] = _first_choice(one, name, field)
    return found


def _first_choice(one: AnyInstruction, name: str, field: Field) -> object:
    if field.enum is None:
        raise LookupError(f"{one.name}: an example needs a value for {name} in {__name__}")
    return next(iter(field.enum.__members__)).lower()


def frame(one: AnyInstruction) -> bytes:
    """The frame of that call, from CLA to the last byte, at the instruction's own level."""
    given = arguments(one)
    if isinstance(given.get("key"), str):
        given["key"] = bytes.fromhex(given["key"])
    request = one.make_request(**given)
    request.check()
    p1, p2 = request.parameters()
    if one.level is Level.PLAIN:
        return encode_plain(one.code, p1, p2, request.pack())
    signer = Signer(SESSION_KEY)
    make = signer.seal if one.level is Level.ENC_SIGN else signer.sign
    return make(one.code, p1, p2, request.pack())


def call(one: AnyInstruction) -> str:
    """The same in the SDK. Nothing for what only carries others: no one calls that."""
    if one.carrier:
        return ""
    given = ", ".join(
        f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}"
        for name, value in arguments(one).items()
    )
    if one.mode is Mode.ASYNC:
        return f"task = await node.{one.method}({given})\nstatus = await task.wait()"
    return f"await node.{one.method}({given})"
