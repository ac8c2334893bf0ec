"""The examples of docs/instructions.md: what they say, a node reads."""

from __future__ import annotations

import ast
import inspect
import re
import types
from pathlib import Path
from typing import Annotated

import pytest

import asys
from asys.isa import REGISTRY, SYS_HELLO, AnyInstruction, Instruction, Level, sample
from asys.isa.definition import Empty
from asys.isa.document import to_markdown
from asys.isa.inspect import FAULT, describe_request
from asys.protocol.apdu import FrameParser
from asys.protocol.codec import Layout, layout, u8
from asys.protocol.limits import SEQ_SIZE
from asys.protocol.signing import Verifier
from support.daemon import AGENT, running
from support.protocol_document import DOCUMENT

each = pytest.mark.parametrize("one", list(REGISTRY), ids=lambda one: one.name)
callable_ones = [one for one in REGISTRY if not one.carrier]
ANSWERS = {asys.SW.INVALID_PAYLOAD, asys.SW.DENIED, asys.SW.NOT_SUPPORTED}


@each
def test_a_node_reads_the_frame_as_the_request(one: AnyInstruction) -> None:
    [frame] = FrameParser().feed(sample.frame(one))
    level = {0x00: Level.PLAIN, 0x04: Level.SIGNED, 0x08: Level.ENC_SIGN}[frame.sec]
    assert (frame.ins, level) == (one.code, one.level)
    payload = frame.data
    if level is not Level.PLAIN:
        verifier = Verifier(sample.SESSION_KEY)
        assert verifier.verify(frame) is None
        assert verifier.last_seq == 1
        opened = verifier.open(frame)
        assert opened is not None
        payload = opened.data[SEQ_SIZE:]
    request = one.parse(frame.p1, frame.p2, payload)
    given = sample.arguments(one)
    if "key" in given:
        given["key"] = bytes.fromhex(given["key"])
    assert request == one.make_request(**given)
    assert not any(part.name == FAULT for part in describe_request(sample.frame(one)))


def test_the_key_and_a_frame_are_those_of_the_worked_session() -> None:
    assert f"agent_to_node_key          {sample.SESSION_KEY.hex()}" in DOCUMENT
    [worked] = re.findall(r"^frame +(042000.*)$", DOCUMENT, re.MULTILINE)
    assert sample.frame(asys.isa.PROC_THROTTLE).hex() == worked


@each
def test_the_page_has_both(one: AnyInstruction) -> None:
    page = to_markdown()
    section = page[page.index(f"\n## {one.name}\n") :].partition("\n## ")[2].partition("\n## ")[0]
    assert f"\n```\n{sample.frame(one).hex(' ')}\n```\n" in section
    assert (f"\n```python\n{sample.call(one)}\n```\n" in section) is not one.carrier
    assert bool(sample.call(one)) is not one.carrier


async def test_every_call_can_be_made(tmp_path: Path) -> None:
    """On a real node, that lets this agent touch nothing of this machine."""
    caps = ",".join(one.name for one in callable_ones)
    line = f"agent caps={caps} users=4294967294 services=of-nobody"
    refused = {}
    with running(tmp_path, "--portable", agents={AGENT: line}) as daemon:
        identity = asys.Identity(AGENT)
        for one in callable_ones:
            async with asys.connect(
                *daemon.endpoint, identity=identity, node_key=daemon.key
            ) as node:
                code = compile(sample.call(one), one.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                running_ = types.FunctionType(code, {"node": node})()
                assert inspect.isawaitable(running_)
                try:
                    await running_
                except asys.StatusError as error:
                    refused[one.name] = error.sw
    assert refused.pop("KEY_STATEMENT") == asys.SW.NO_SUCH_INSTRUCTION  # it has one key
    assert set(refused.values()) <= ANSWERS, refused
    assert set(refused) < {one.name for one in callable_ones}


@layout
class Odd(Layout):
    """A field that no example knows of."""

    colour: Annotated[int, u8("colour")]


def test_a_field_without_a_value_is_named() -> None:
    odd = Instruction(0x7F, "ODD", request=Odd, reply=Empty, guide=SYS_HELLO.guide)
    with pytest.raises(LookupError, match="ODD: an example needs a value for colour"):
        sample.arguments(odd)
