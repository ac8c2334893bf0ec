"""Commands made from declarations: an instruction declared here has its command at once."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Annotated

import pytest

from asys import isa
from asys.cli.agent import parser
from asys.isa import AnyInstruction, Guide, Instruction, Level, Mode, Risk
from asys.protocol.apdu import Frame
from asys.protocol.codec import Layout, layout, p1, p2, raw, slots, text, u8, u16, u32
from support.agent_cli import AgentCli
from support.wire_node import OK, ThreadedWireNode, answer, serve

GUIDE = Guide("Paints.", "On walls.", "On floors.", "Smell.", "50 % of it.", Risk.LOW)


class Colour(IntEnum):
    RED = 1
    DARK_BLUE = 2


class Coats(IntFlag):
    PRIMER = 1
    VARNISH = 4


@layout
class Spot(Layout):
    at: Annotated[int, u16("place", least=1)]
    colour: Annotated[Colour, u8("its colour", enum=Colour)]


@layout
class Paint(Layout):
    colour: Annotated[Colour, p1("which colour", enum=Colour)]
    coats: Annotated[Coats, p2("what goes on it", enum=Coats)]
    port: Annotated[int, u16("where it is delivered", least=10, most=99)]
    litres: Annotated[float, u16("how much", unit="l", scale=10)]
    share: Annotated[int | None, u8("share of water", unit="%", absent=0xFF)]
    batch: Annotated[bytes, raw("batch", 2)]
    spots: Annotated[tuple[Spot, ...], slots("spots", Spot, 2)]
    label: Annotated[str, text("a word", least=1, most=8, pattern="[a-z]+")]


@layout
class Wall(Layout):
    area: Annotated[float, u16("painted", unit="m2", scale=100)]
    colour: Annotated[Colour, u8("its colour", enum=Colour)]
    coats: Annotated[Coats, u8("on it", enum=Coats)]
    dry_percent: Annotated[int | None, u8("dry", unit="%", absent=0xFF)]
    batch: Annotated[bytes, raw("batch", 2)]
    spots: Annotated[tuple[Spot, ...], slots("spots on it", Spot, 2)]


@layout
class Sand(Layout):
    grit: Annotated[int, u32("how fine")] = 120


PAINT: AnyInstruction = Instruction(
    0x35, "PAINT_WALL", request=Paint, reply=Wall, guide=GUIDE, level=Level.SIGNED
)
SAND: AnyInstruction = Instruction(0x36, "SAND_WALL", request=Sand, reply=isa.Empty, guide=GUIDE)
DRY: AnyInstruction = Instruction(
    0x37,
    "DRY_WALL",
    request=isa.Empty,
    reply=isa.TaskHandle,
    guide=GUIDE,
    level=Level.SIGNED,
    mode=Mode.ASYNC,
)

WORDS = (
    *("--colour", "dark_blue", "--coats", "primer,varnish", "--field-port", "80"),
    *("--litres", "2.5", "--share", "none", "--batch", "00ff"),
    *("--spots", "at=5,colour=red", "--spots", "at=6,colour=dark_blue", "--label", "wall"),
)

WALL = Wall(
    12.5, Colour.RED, Coats(5), None, b"\x12\x34", (Spot(5, Colour.RED), Spot(6, Colour.DARK_BLUE))
)


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


@pytest.fixture(autouse=True)
def _declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three instructions, declared while a test runs."""
    for one in (PAINT, SAND, DRY):
        monkeypatch.setitem(isa.REGISTRY._by_code, one.code, one)
        monkeypatch.setitem(isa.REGISTRY._by_name, one.name, one)


def paints(frame: Frame) -> bytes | None:
    """A node that knows the three."""
    replies: dict[int, bytes] = {
        PAINT.code: WALL.pack() + OK,
        SAND.code: OK,
        DRY.code: isa.TaskHandle(handle=0x00010002).pack() + OK,
    }
    return replies.get(frame.ins) or answer(frame)


def test_every_instruction_has_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    for one in isa.REGISTRY:
        if one.carrier:
            continue
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([one.command, "--help"])
        assert ended.value.code == 0
        shown = " ".join(capsys.readouterr().out.split())
        for part in (one.guide.description, one.guide.when, one.guide.when_not):
            assert part in shown
        assert f"Risk: {one.guide.risk}" in shown


def test_the_options_come_from_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["paint-wall", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for expected in (
        "--colour {red,dark_blue} which colour",
        "--coats COATS what goes on it; names with commas: primer, varnish",
        "--field-port PORT where it is delivered; 10 to 99",
        "--litres LITRES how much; 0 to 6553.5 l",
        "--share SHARE share of water; 0 to 255 %; or none",
        "--batch BATCH batch; 4 hex digits",
        "--spots NAME=VALUE,... spots; at, colour; up to 2 times",
        "--label LABEL a word; 1 to 8 characters, [a-z]+",
    ):
        assert expected in shown


def test_the_request_has_what_the_options_say(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(paints)) as node:
        assert agent.ask("paint-wall", node, *WORDS).status == 0
        frame = node.peer.frames[-1]
    assert (frame.ins, frame.p1, frame.p2) == (0x35, 2, 5)
    assert Paint.unpack(frame.data[4:], frame.p1, frame.p2) == Paint(
        Colour.DARK_BLUE,
        Coats(5),
        80,
        2.5,
        None,
        b"\x00\xff",
        (Spot(5, Colour.RED), Spot(6, Colour.DARK_BLUE)),
        "wall",
    )


def test_the_answer_is_shown_field_by_field(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(paints)) as node:
        run = agent.ask("paint-wall", node, *WORDS)
    assert run.out.splitlines()[1:] == [
        "area         12.50 m2  painted",
        "colour       red  its colour",
        "coats        primer, varnish  on it",
        "dry_percent  none  dry",
        "batch        1234  batch",
        "spots  spots on it",
        "at  colour",
        "5   red",
        "6   dark_blue",
    ]


def test_the_answer_as_json(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(paints)) as node:
        data = agent.ask("paint-wall", node, *WORDS, "--json").data
    assert data["result"] == {
        "area": 12.5,
        "colour": "red",
        "coats": ["primer", "varnish"],
        "dry_percent": None,
        "batch": "1234",
        "spots": [{"at": 5, "colour": "red"}, {"at": 6, "colour": "dark_blue"}],
    }


@pytest.mark.parametrize(("words", "grit"), [((), 120), (("--grit", "0x50"), 80)])
def test_a_field_with_a_default_may_be_left_out(
    agent: AgentCli, words: tuple[str, ...], grit: int
) -> None:
    with ThreadedWireNode(serve(paints)) as node:
        run = agent.ask("sand-wall", node, *words)
        frame = node.peer.frames[-1]
    assert frame.data == grit.to_bytes(4, "big")
    assert run.out.startswith(f"SAND_WALL grit {grit}: done on 127.0.0.1:")


def test_an_asynchronous_one_is_queued_or_waited_for(agent: AgentCli) -> None:
    with ThreadedWireNode(serve(paints)) as node:
        queued = agent.ask("dry-wall", node)
        ended = agent.ask("dry-wall", node, "--wait")
    assert queued.out.startswith("DRY_WALL: queued on 127.0.0.1:")
    assert "as task 00010002" in queued.out
    assert ended.out.startswith("DRY_WALL: success on 127.0.0.1:")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--colour", "green", "invalid choice: 'green'"),
        ("--coats", "glue", "'glue' is not made of primer, varnish"),
        ("--field-port", "eighty", "'eighty' is not a whole number"),
        ("--field-port", "100", "port must be 10 to 99, not 100"),
        ("--litres", "much", "'much' is not a number"),
        ("--litres", "nan", "litres must be"),
        ("--batch", "xy", "'xy' is not hex"),
        ("--batch", "00", "batch must be 2 bytes"),
        ("--spots", "at=5", "'at=5' is not NAME=VALUE"),
        ("--spots", "at=0,colour=red", "at must be 1 to 65535, not 0"),
        ("--spots", "at=1,colour=green", "colour must be one of 'red', 'dark_blue'"),
        ("--spots", "at=1,size=2", "'at=1,size=2' is not NAME=VALUE"),
        ("--spots", "at=9,colour=red", "spots may be given 2 times, not 3"),
        ("--label", "UPPER", "label has characters other than [a-z]+"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(
    agent: AgentCli, option: str, value: str, said: str
) -> None:
    with ThreadedWireNode(serve(paints)) as node:
        run = agent.ask("paint-wall", node, *WORDS, option, value)
        reached = list(node.node.peers)
    assert run.status == 2
    assert said in run.err
    assert reached == []


def test_a_missing_argument_is_named(agent: AgentCli) -> None:
    run = agent.run("paint-wall", "127.0.0.1", *WORDS[2:], *agent.files)
    assert run.status == 2
    assert "--colour" in run.err.splitlines()[-1]


@pytest.mark.parametrize("words", [("isa",), ("isa", "paint-wall"), ("isa", "35")])
def test_it_stands_in_the_listings(agent: AgentCli, words: tuple[str, ...]) -> None:
    assert "PAINT_WALL" in agent.run(*words).out
