"""The declarations themselves: complete, consistent, and what follows from them."""

from __future__ import annotations

from typing import Any

import pytest

import asys.isa
from asys.errors import ArgumentError
from asys.isa import (
    ABANDON,
    AGENT_ADD,
    AGENT_LIST,
    AGENT_REMOVE,
    CONTINUE,
    PROC_THROTTLE,
    REGISTRY,
    REKEY,
    SVC_RESTART,
    SYS_CAPS,
    SYS_HELLO,
    SYS_PROCS,
    SYS_STATUS,
    TASK_CANCEL,
    TASK_QUERY,
    AnyInstruction,
    Empty,
    Group,
    Instruction,
    Level,
    Mode,
    Registry,
    Risk,
    TaskHandle,
)
from asys.isa.control import TaskQuery
from asys.isa.core import Capabilities
from asys.isa.process import Restart, Throttle
from asys.protocol.codec import BadValue, Layout, WrongSize
from asys.protocol.limits import MAX_DATA

every = pytest.mark.parametrize("one", list(REGISTRY), ids=lambda one: one.name)


def _made(code: int, name: str = "NEW_ONE", **options: Any) -> Instruction[[], Empty]:
    return Instruction(code, name, request=Empty, reply=Empty, guide=SYS_HELLO.guide, **options)


def test_what_there_is() -> None:
    assert [(one.code, one.name) for one in REGISTRY] == [
        (0x00, "SYS_CAPS"),
        (0x01, "SYS_HELLO"),
        (0x02, "SYS_STATUS"),
        (0x03, "SYS_PROCS"),
        (0x10, "CONTINUE"),
        (0x11, "TASK_QUERY"),
        (0x12, "TASK_CANCEL"),
        (0x13, "REKEY"),
        (0x14, "ABANDON"),
        (0x15, "KEY_STATEMENT"),
        (0x20, "PROC_THROTTLE"),
        (0x21, "NET_ISOLATE"),
        (0x22, "SVC_RESTART"),
        (0x40, "LOG_SUMMARY"),
        (0x41, "LOG_DETAIL"),
        (0x42, "PROC_TREE"),
        (0x60, "AGENT_ADD"),
        (0x61, "AGENT_REMOVE"),
        (0x62, "AGENT_LIST"),
    ]


@pytest.mark.parametrize(
    ("one", "group", "level", "mode"),
    [
        (SYS_CAPS, Group.CORE, Level.PLAIN, Mode.SYNC),
        (SYS_HELLO, Group.CORE, Level.PLAIN, Mode.SYNC),
        (SYS_STATUS, Group.CORE, Level.PLAIN, Mode.SYNC),
        (SYS_PROCS, Group.CORE, Level.PLAIN, Mode.SYNC),
        (TASK_QUERY, Group.CONTROL, Level.PLAIN, Mode.SYNC),
        (REKEY, Group.CONTROL, Level.PLAIN, Mode.SYNC),
        (ABANDON, Group.CONTROL, Level.PLAIN, Mode.SYNC),
        (PROC_THROTTLE, Group.PROCESS, Level.SIGNED, Mode.SYNC),
        (SVC_RESTART, Group.PROCESS, Level.SIGNED, Mode.ASYNC),
        (AGENT_ADD, Group.SECURITY, Level.ENC_SIGN, Mode.SYNC),
        (AGENT_REMOVE, Group.SECURITY, Level.ENC_SIGN, Mode.SYNC),
        (AGENT_LIST, Group.SECURITY, Level.ENC_SIGN, Mode.SYNC),
    ],
)
def test_how_each_travels(one: AnyInstruction, group: Group, level: Level, mode: Mode) -> None:
    assert (one.group, one.level, one.mode) == (group, level, mode)
    assert one.idempotent == (one is not REKEY)


@every
def test_each_is_found_by_code_and_by_any_spelling_of_its_name(one: AnyInstruction) -> None:
    assert REGISTRY.get(one.code) is one
    for name in (one.name, one.method, one.command, one.name.lower()):
        assert REGISTRY.named(name) is one
    assert one.method.isidentifier()
    assert "_" not in one.command
    assert repr(one) == f"<Instruction {one.code:02X} {one.name}>"


def test_what_there_is_not() -> None:
    assert REGISTRY.get(0x04) is None
    assert REGISTRY.get(0xC0) is None
    assert REGISTRY.named("SYS_NOTHING") is None


@every
def test_the_level_is_that_of_the_group(one: AnyInstruction) -> None:
    """Core and control are plain; what acts is signed; what has to do with rights is sealed too."""
    assert (one.level is Level.PLAIN) == (one.group in (Group.CORE, Group.CONTROL))
    assert (one.level is Level.ENC_SIGN) == (one.group is Group.SECURITY)


@every
def test_the_core_has_no_payload_and_no_side_effects(one: AnyInstruction) -> None:
    """What an instruction of the core is asked travels in its header, as SYS_CAPS's page does."""
    if one.group is Group.CORE:
        assert {field.place for field in one.request.FIELDS.values()} <= {"p1", "p2"}
        assert (one.request is Empty) == (one is not SYS_CAPS)
        assert one.ignores_extra
        assert one.guide.risk is Risk.NONE
        assert one.guide.side_effects.startswith("None")


@every
def test_who_does_harm_signs_for_it(one: AnyInstruction) -> None:
    """But for ABANDON, which can only harm what the same key has opened, and TASK_CANCEL, which can
    only take back what the same session has signed.
    """
    if one.guide.risk is not Risk.NONE and one not in (ABANDON, TASK_CANCEL):
        assert one.level >= Level.SIGNED
    assert not ABANDON.guide.side_effects.startswith("None")
    assert ABANDON.guide.risk is Risk.LOW


@every
def test_async_means_a_task_handle(one: AnyInstruction) -> None:
    assert (one.mode is Mode.ASYNC) == (one.reply is TaskHandle)


@every
def test_the_guide_is_complete(one: AnyInstruction) -> None:
    guide = one.guide
    for text in (
        guide.description,
        guide.when,
        guide.when_not,
        guide.side_effects,
        guide.reversible,
    ):
        assert text
        assert text == text.strip()
        assert text.endswith(".")
        assert "  " not in text
        assert text.isascii()


@every
def test_every_field_says_what_it_is(one: AnyInstruction) -> None:
    for layout in (one.request, one.reply):
        assert layout.__doc__
        for field in layout.FIELDS.values():
            assert field.doc
            for inner in field.slot.FIELDS.values() if field.slot else ():
                assert inner.doc


@every
def test_units_stand_in_names(one: AnyInstruction) -> None:
    """But for `expires`, a moment that has the name of the option of `authorized_agents`."""
    suffixes = {"MB": "_mb", "s": "_s", "ms": "_ms", "ns": "_ns"}
    suffixes |= {"%": "_percent", "Mbit/s": "_mbps"}
    for layout in (one.request, one.reply):
        fields = dict(layout.FIELDS)
        for field in layout.FIELDS.values():
            fields |= field.slot.FIELDS if field.slot else {}
        for name, field in fields.items():
            if field.unit and name != "expires":
                assert name.endswith(suffixes[field.unit])


@every
def test_requests_and_responses_fit_into_a_frame(one: AnyInstruction) -> None:
    assert one.request.SIZE + 64 <= MAX_DATA
    assert one.reply.SIZE <= MAX_DATA


@every
def test_names_of_methods_are_exported(one: AnyInstruction) -> None:
    assert getattr(asys.isa, one.name) is one
    assert one.name in asys.isa.__all__


def test_all_is_sorted_as_ruff_sorts_it_and_whole() -> None:
    assert len(set(asys.isa.__all__)) == len(asys.isa.__all__)
    for name in asys.isa.__all__:
        assert hasattr(asys.isa, name)


@pytest.mark.parametrize("code", [-1, 256, 1000])
def test_a_code_is_a_byte(code: int) -> None:
    with pytest.raises(ValueError, match="is not a byte"):
        _made(code)


def test_a_request_is_a_layout() -> None:
    wrong: Any = dict
    with pytest.raises(TypeError, match="NEW_ONE: request must be a layout"):
        Instruction(0x05, "NEW_ONE", request=wrong, reply=Empty, guide=SYS_HELLO.guide)


@pytest.mark.parametrize("code", range(0x90, 0xC0))
def test_the_reserved_codes(code: int) -> None:
    with pytest.raises(ValueError, match="the codes 90 to BF are reserved"):
        Registry().add(_made(code))


def test_codes_and_names_stand_once() -> None:
    registry = Registry()
    registry.add(_made(0x05), _made(0x06, "OTHER"))
    with pytest.raises(ValueError, match="05 THIRD> collides with <Instruction 05 NEW_ONE>"):
        registry.add(_made(0x05, "THIRD"))
    with pytest.raises(ValueError, match="07 OTHER> collides with <Instruction 06 OTHER>"):
        registry.add(_made(0x07, "OTHER"))
    assert [one.code for one in registry] == [5, 6]
    assert len(registry) == 2


def test_code_0_is_taken_too() -> None:
    registry = Registry()
    registry.add(_made(0x00))
    with pytest.raises(ValueError, match="collides"):
        registry.add(_made(0x00, "OTHER"))


def test_iteration_is_in_order_of_code() -> None:
    registry = Registry()
    registry.add(_made(0x06, "B"), _made(0xC1, "C"), _made(0x05, "A"))
    assert [one.name for one in registry] == ["A", "B", "C"]


@pytest.mark.parametrize("nibble", [*range(9), *range(0xC, 0x10)])
def test_groups(nibble: int) -> None:
    group = _made(nibble << 4 | 5).group
    assert group == nibble
    assert group.title == ("vendor" if nibble >= 0xC else group.name.lower())


def test_levels_have_names() -> None:
    assert [level.title for level in Level] == ["plain", "signed", "enc-sign"]
    assert Level.PLAIN < Level.SIGNED < Level.ENC_SIGN


def test_parsing_requests() -> None:
    assert SYS_STATUS.parse(1, 2, b"ignored") == Empty()
    assert TASK_QUERY.parse(0, 0, b"\x00\x05\x7b\xb0and more").pack() == b"\x00\x05\x7b\xb0"
    with pytest.raises(WrongSize):
        TASK_QUERY.parse(0, 0, b"\x00\x05\x7b")
    stop = PROC_THROTTLE.parse(0, 9, (1234).to_bytes(4, "big"))
    assert stop == Throttle(pid=1234, action="stop")
    with pytest.raises(WrongSize):
        PROC_THROTTLE.parse(0, 0, bytes(5))
    for p1, pid in ((2, 1234), (0, 0)):
        with pytest.raises(BadValue):
            PROC_THROTTLE.parse(p1, 0, pid.to_bytes(4, "big"))


@pytest.mark.parametrize(
    "name", ["nginx", "a", "x" * 64, "my_svc-2.0", "service", ".", "a.service.b"]
)
def test_service_names(name: str) -> None:
    request = Restart(name)
    request.check()
    assert SVC_RESTART.parse(0, 0, name.encode()) == request


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", WrongSize),
        ("x" * 65, BadValue),
        ("Nginx", BadValue),
        ("nginx.service", BadValue),
        (".service", BadValue),
        ("../etc/passwd", BadValue),
        ("a b", BadValue),
        ("a@b", BadValue),
        ("nginx\n", BadValue),
        ("n\0", BadValue),
    ],
)
def test_service_names_that_are_refused(name: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        SVC_RESTART.parse(0, 0, name.encode())
    with pytest.raises(ValueError, match="name "):
        Restart(name).check()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Throttle(0, "stop"), "pid must be 1 to 4294967295, not 0"),
        (Throttle(1 << 32, "stop"), "pid must be 1 to 4294967295, not 4294967296"),
        (TaskQuery(-1), "handle must be 0 to 4294967295, not -1"),
        (Restart(""), "name has 0 characters, not 1 to 64: ''"),
        (Restart("a b"), "name has characters other than [a-z0-9_.-]+: 'a b'"),
        (Restart("a.service"), r"name must not match \.service$: 'a.service'"),
    ],
    ids=repr,
)
def test_arguments_are_refused_by_name_with_what_is_allowed(request_: Layout, says: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        request_.check()
    assert str(caught.value) == says


def test_an_action_is_one_of_two() -> None:
    kind: Any = Throttle
    says = "action must be one of 'stop', 'continue', not "
    with pytest.raises(ArgumentError, match=says + "'kill'"):
        kind(1, "kill")
    with pytest.raises(ArgumentError, match=says + "2"):
        kind(1, 2).check()
    kind(1, 1).check()


def test_capabilities() -> None:
    caps = Capabilities.unpack(bytes.fromhex("0002000f00000005") + bytes(26))
    assert caps.instructions == (0x00, 0x01, 0x02, 0x03, 0x11, 0x20, 0x22)
    assert [code for code in range(-3, 0x50) if caps.has(code)] == list(caps.instructions)
    everything = Capabilities.unpack(b"\xff" * 8 + bytes(26))
    assert everything.instructions == tuple(range(0x40))
    assert not everything.has(0x40)
    assert not everything.has(-1)


def test_what_only_carries_others_is_nobodys_to_call() -> None:
    assert [one for one in REGISTRY if one.carrier] == [CONTINUE]
    assert [one for one in REGISTRY if one.chainable] == []
