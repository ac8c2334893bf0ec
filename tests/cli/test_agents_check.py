"""`asyd agents check` and `pin` around an upgrade: before it is started, after, and as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys import __version__
from asys.isa.capmap import parse_caps
from asys.node.agents.ran import InstructionSet, RanStore, this_set
from support.admin_cli import BOSS, DEPUTY, HAND, NEW, WEB, Agents, delegate, save, write
from support.planted import CODE, NAME, upgraded

BOUNDS = "users=0 services=web role=admin from=unix"
TEXT = f"{BOSS} boss caps=all,security {BOUNDS}\n{WEB} web caps=core\n"


def ran(state: Path, *sets: InstructionSet) -> None:
    """What asyd has put down at its starts."""
    asyncio.run(RanStore(state).save(sets))


@pytest.fixture
def upgrade(directory: Path, state: Path) -> Iterator[InstructionSet]:
    """The coming version is installed, and not started yet; `this_set` as it was ran before."""
    write(directory, TEXT)
    then = this_set()
    ran(state, then)
    with upgraded():
        yield then


def test_before_the_upgrade_is_started_and_after(
    agents: Agents, state: Path, upgrade: InstructionSet
) -> None:
    new = (
        f"{agents.directory / 'authorized_agents'}:1: new: all of caps= lights {NAME} (risk none), "
        f"which asyd {__version__} did not have; to leave it as it was, and keep it so: "
        "asyd agents pin boss\n"
    )
    told = agents("check")
    assert (told.status, told.err) == (0, "2 agents, 0 errors, 0 warnings, 1 new\n")
    assert told.out == new
    assert agents("check", "--strict").status == 0
    ran(state, upgrade, this_set())
    assert agents("check") == told
    ran(state, upgrade, this_set(), this_set())
    assert agents("check").out == "", "the next upgrade has brought nothing"


def test_new_alone_is_for_scripts(agents: Agents, upgrade: InstructionSet) -> None:
    write(agents.directory, f"{TEXT}{NEW} new caps=22\nnonsense\n")
    told = agents("check", "--new")
    assert told.status == 1
    assert told.out.count("\n") == 1
    assert ":1: new: " in told.out
    assert told.err.splitlines() == [
        f"1 line of 3 with something new since asyd {__version__}",
        "an upgrade can add to: boss (all, security)",
        "pinned: web, new",
    ]


def test_since_a_version_needs_no_record(agents: Agents, state: Path) -> None:
    """As a package says it in its upgrade: --since OLD."""
    write(agents.directory, TEXT)
    assert agents("check", "--new", "--since", f"{__version__}-1").status == 0
    with upgraded():
        told = agents("check", "--new", "--since", f"{__version__}-1")
        assert told.status == 1
        assert f"lights {NAME} (risk none), which asyd {__version__}-1 did not have" in told.out
        assert agents("check", "--new", "--since", "99.0").status == 0
    told = agents("check", "--since", "yesterday")
    assert (told.status, told.out) == (2, "")
    assert told.err == f"asyd: --since: 'yesterday' is no version, such as {__version__}\n"


def test_where_it_cannot_be_told(agents: Agents, state: Path) -> None:
    write(agents.directory, TEXT)
    assert agents("check").err == "2 agents, 0 errors, 0 warnings\n"
    told = agents("check", "--new")
    assert (told.status, told.out) == (1, "")
    assert "instructions.json is not there, so it cannot be told what ran here before" in told.err
    assert "--since VERSION" in told.err
    (state / "instructions.json").write_text("damaged")
    (state / "instructions.json").chmod(0o600)
    told = agents("check")
    assert told.status == 0
    assert "what an upgrade has lit cannot be told: " in told.err
    told = agents("check", "--new")
    assert (told.status, told.out) == (1, "")
    assert "is damaged" in told.err


def test_where_no_asyd_has_run_nothing_is_new(agents: Agents) -> None:
    told = agents("check", "--new")
    assert (told.status, told.out) == (0, "")
    assert told.err.startswith("0 lines of 2 with something new as no other version has run here\n")


def test_agents_that_agents_have_added_have_it_too(
    agents: Agents, state: Path, upgrade: InstructionSet
) -> None:
    save(state, delegate(DEPUTY, BOSS, "core,all", "deputy"))
    told = agents("check")
    assert f"deputy: new: it has {NAME} by way of boss\n" in told.out
    assert "hand: new" not in told.out
    save(state, delegate(DEPUTY, BOSS, "core,all", "deputy"), delegate(NEW, DEPUTY, "all", "low"))
    told = agents("check")
    assert f"low: new: it has {NAME} by way of boss\n" in told.out
    write(agents.directory, TEXT.replace("all,", f"all,{NAME},"))
    told = agents("check", "--new")
    assert ": new: all of caps=" not in told.out, "boss was given it by name"
    assert told.status == 1, "those below had all that boss had, unasked"
    (state / "delegated_agents.json").write_text("damaged")
    told = agents("check")
    assert "no agent that an agent has added is known" in told.err
    assert told.status == 0


def test_as_json(agents: Agents, state: Path, upgrade: InstructionSet) -> None:
    save(state, delegate(DEPUTY, BOSS, "core,4A", "deputy"))
    write(agents.directory, f"{TEXT}x\n")
    told = agents("check", "--json")
    assert (told.status, told.err) == (1, "")
    said = json.loads(told.out)
    assert [(one["line"], one["severity"]) for one in said.pop("findings")] == [
        (1, "new"),
        (3, "error"),
    ]
    open_words = ["all", "security"]
    boss = {"line": 1, "key": BOSS, "label": "boss", "new": [NAME], "pinned": False}
    web = {"line": 2, "key": WEB, "label": "web", "new": [], "pinned": True, "open_words": []}
    assert said == {
        "file": str(agents.directory / "authorized_agents"),
        "since": __version__,
        "agents": [boss | {"open_words": open_words}, web],
        "added_agents": [{"name": "deputy", "line": "boss", "new": [NAME]}],
    }
    told = agents("check", "--json", "--new")
    assert [one["severity"] for one in json.loads(told.out)["findings"]] == ["new"]


def test_pin_leaves_out_what_is_new_and_the_next_upgrade_adds_nothing(
    agents: Agents, upgrade: InstructionSet
) -> None:
    told = agents("pin", "boss")
    assert told.status == 0
    words = agents.line(1).split()
    assert words[3:] == BOUNDS.split()
    caps = words[2].removeprefix("caps=")
    assert parse_caps(caps) == upgrade.codes
    assert f"holds   {caps}\n" in told.out
    assert "asyd reload" in told.err
    assert agents("check", "--new").status == 0
    assert "an upgrade can add to: none" in agents("check", "--new").err
    again = agents("pin", "boss")
    assert "now     the same\n" in again.out


def test_pin_keeps_what_is_named_and_vendors(agents: Agents, upgrade: InstructionSet) -> None:
    line = f"{WEB} web caps=core,diagnostics,{NAME},vendor,C1 vendors=example.com"
    write(agents.directory, f"{line}\n{NEW} new caps=core,{CODE:02X},05\n{HAND} hand caps=05\n")
    assert agents("pin", "web").status == 0
    assert agents.line(1) == (
        f"{WEB} web caps=core,vendor,LOG_SUMMARY,LOG_DETAIL,PROC_TREE,{NAME} vendors=example.com"
    )
    assert agents("pin", "new").status == 0
    assert agents.line(2) == f"{NEW} new caps=core"
    told = agents("pin", "new", "--since", "99.0")
    assert "now     the same\n" in told.out
    told = agents("pin", "hand")
    assert told.status == 1
    assert "nothing would be left to the agent: all that it has is unknown here" in told.err
    assert agents("pin", "nobody").status == 1


def test_pin_of_an_added_agent_names_the_line(agents: Agents, state: Path) -> None:
    told = agents("pin", "hand")
    assert (told.status, told.out) == (1, "")
    assert "hand has no line: deputy has added it" in told.err
