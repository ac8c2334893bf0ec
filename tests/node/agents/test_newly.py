"""What an upgrade lights: exactly for those whose words take the new instruction in."""

from __future__ import annotations

import pytest

from asys.isa import REGISTRY
from asys.node.agents.check import Severity, check_agents
from asys.node.agents.newly import Growing, growing
from asys.node.agents.ran import InstructionSet, this_set
from asys.protocol.keys import PrivateKey
from support.planted import NAME, coming, upgraded

NOW = 1_800_000_000
THEN = this_set()

LINES = {
    "all": ("caps=all", ["all"]),
    "group": ("caps=core,diagnostics", ["diagnostics"]),
    "code": ("caps=core,4a", ["4a"]),
    "both": ("caps=4A,all users=0", ["4A", "all"]),
    "none": ("", []),
    "core": ("caps=core", []),
    "other-group": ("caps=process,network", []),
    "names": ("caps=core,LOG_SUMMARY,LOG_DETAIL,PROC_TREE", []),
    "vendor": ("caps=core,vendor vendors=example.com", []),
    "over": ("caps=all expires=2020-01-01", []),
    "bad": ("caps=all oops", []),
}
KEYS = {name: PrivateKey(bytes([n]) * 32).public.hex() for n, name in enumerate(LINES, 1)}
TEXT = "".join(f"{KEYS[name]} {name} {options}\r\n" for name, (options, _) in LINES.items())


def by_name(lines: list[Growing]) -> dict[str, Growing]:
    return {one.agent.label: one for one in lines}


def test_a_new_instruction_shows_up_for_exactly_those_whose_words_cover_it() -> None:
    found = by_name(growing(TEXT, THEN, NOW, registry=coming()))
    assert set(found) == set(LINES) - {"over", "bad"}
    for name, one in found.items():
        words = LINES[name][1]
        assert list(one.words) == words
        assert [new.name for new in one.instructions] == ([NAME] if words else [])


@pytest.mark.parametrize("then", [THEN, None])
def test_nothing_is_new_without_an_upgrade(then: InstructionSet | None) -> None:
    assert not any(one.instructions or one.words for one in growing(TEXT, then, NOW))
    assert not any(one.severity is Severity.NEW for one in check_agents(TEXT, NOW, then=then))


def test_nothing_is_new_where_it_is_not_known_what_was() -> None:
    assert not any(one.instructions for one in growing(TEXT, None, NOW, registry=coming()))


def test_which_words_can_grow() -> None:
    found = by_name(growing(TEXT, None, NOW))
    assert {name: one.open_words for name, one in found.items() if one.open_words} == {
        "all": ("all",),
        "group": ("diagnostics",),
        "code": ("4a",),
        "both": ("4A", "all"),
        "other-group": ("process", "network"),
    }
    named = ",".join(one.name for one in REGISTRY if not one.carrier)
    [one] = growing(f"{KEYS['all']} caps={named},10\n", None, NOW)
    assert one.open_words == ()


def test_what_a_line_names_is_not_new_to_who_wrote_it() -> None:
    """An asyd that did not know the name would have refused the line."""
    lines = {"named": f"caps=all,{NAME.lower()}", "all": "caps=all"}
    text = "".join(
        f"{KEYS['all' if n else 'core']} {a} {b}\n" for n, (a, b) in enumerate(lines.items())
    )
    with upgraded():
        found = by_name(growing(text, THEN, NOW))
    assert {name: len(one.instructions) for name, one in found.items()} == {"named": 0, "all": 1}


def test_what_is_said_of_it() -> None:
    text = f"{KEYS['all']} boss caps=all\n{KEYS['core']} boss caps=4A\n{KEYS['code']} caps=4A\n"
    with upgraded():
        said = {
            one.line: one.message
            for one in check_agents(text, NOW, then=THEN)
            if one.severity is Severity.NEW
        }
    new = (
        f"lights DISK_TREND (risk none), which asyd {THEN.asyd} did not have; to leave it as it was"
    )
    assert set(said) == {1, 2, 3}
    assert said[1].startswith(f"all of caps= {new}")
    assert said[2].startswith(f"4A of caps= {new}")
    pins = [message.rpartition(": ")[2] for message in said.values()]
    assert pins == [
        "asyd agents pin boss",
        f"asyd agents pin {KEYS['core']}",  # the label is another's too
        f"asyd agents pin {KEYS['code']}",
    ]
