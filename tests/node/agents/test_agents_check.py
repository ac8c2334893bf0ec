"""What an admin is told about `authorized_agents` before anything goes wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.isa import REGISTRY, Risk
from asys.node.agents.book import parse_agents
from asys.node.agents.check import Finding, Severity, check_agents
from asys.protocol.keys import PrivateKey

KEY = PrivateKey(bytes(range(1, 33))).public
OTHER = PrivateKey(bytes(range(2, 34))).public
HEX = KEY.hex()
NOW = int(datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp())


def warnings(options: str, now: int = NOW) -> list[str]:
    findings = check_agents(f"{HEX} {options}\n", now, {"www-data": 33}.get)
    assert {(one.line, one.severity) for one in findings} <= {(1, Severity.WARNING)}
    return [one.message for one in findings]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n\n",
        HEX,
        f"{HEX} caps=core",
        f"{HEX} caps=all services=nginx users=www-data",
        f"{HEX} caps=core,SVC_RESTART services=*",
        f"{HEX} caps=core,PROC_THROTTLE users=33",
        f"{HEX} caps=core,60,61,62 from=unix",
        f"{HEX} caps=62 role=admin from=10.0.0.0/8",
        f"{HEX} caps=vendor,C0,FF vendors=0x17",
        f"{HEX} a\n{OTHER.hex()} b",
        f"{HEX}\n{OTHER.hex()}",
        f"{HEX} expires=2026-03-24",
    ],
)
def test_nothing_to_say(text: str) -> None:
    assert check_agents(text, NOW, {"www-data": 33}.get) == []


def test_every_fault_is_an_error() -> None:
    text = f"x\n{HEX} a\n{OTHER.hex()} caps=nonsense\n{HEX} b\n"
    findings = check_agents(text, NOW)
    faults = parse_agents(text).faults
    assert findings == [Finding(number, Severity.ERROR, fault) for number, fault in faults]
    assert [one.line for one in findings] == [1, 3, 4]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("caps=core,PROC_THROTTLE", ["PROC_THROTTLE"]),
        ("caps=SVC_RESTART", ["SVC_RESTART"]),
        ("caps=22,20", ["PROC_THROTTLE", "SVC_RESTART"]),
        ("caps=21", ["NET_ISOLATE"]),
        ("caps=all", ["PROC_THROTTLE", "NET_ISOLATE", "SVC_RESTART"]),
        ("caps=process users=33", ["SVC_RESTART"]),
        ("caps=process services=nginx", ["PROC_THROTTLE", "NET_ISOLATE"]),
    ],
)
def test_a_dangerous_instruction_without_a_scope(options: str, names: list[str]) -> None:
    option = {"PROC_THROTTLE": "users=", "NET_ISOLATE": "users=", "SVC_RESTART": "services="}
    messages = warnings(options)
    assert [message.split()[0] for message in messages] == names
    for message, name in zip(messages, names, strict=True):
        assert f"say with {option[name]} which are meant" in message


def test_every_dangerous_instruction_of_the_process_group_has_a_scope_to_ask_for() -> None:
    """A new one must not be forgotten here."""
    for one in REGISTRY:
        if one.group.title == "process" and one.guide.risk in (Risk.MEDIUM, Risk.HIGH):
            [message] = warnings(f"caps={one.name}")
            assert message.startswith(f"{one.name} is granted for every")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("caps=60", "the right to add or remove agents (60-62) can be used from anywhere"),
        ("caps=core,62", "the right to add or remove agents (60-62) can be used from anywhere"),
        ("role=admin", "role=admin can be used from anywhere; say with from="),
        ("caps=61 role=admin", "(60-62) and role=admin can be used from anywhere"),
    ],
)
def test_rights_over_others_from_anywhere(options: str, words: str) -> None:
    [message] = [one for one in warnings(options) if "from=" in one]
    assert words in message
    assert not [one for one in warnings(f"{options} from=unix") if "from=" in one]


def test_a_label_that_stands_twice() -> None:
    text = f"{HEX} web\n\n{OTHER.hex()} web\nbad\n"
    [label, bad] = check_agents(text, NOW)
    assert (label.line, label.severity, bad.line) == (3, Severity.WARNING, 4)
    assert "the label web stands in line 1 already; give each agent a label of its own" in (
        label.message
    )


def test_codes_that_mean_nothing_yet() -> None:
    [message] = warnings("caps=core,0f,8F")
    assert "knows no instruction 0F, 8F of caps=" in message
    [message] = warnings("caps=90")
    assert "90" in message
    known = ",".join(f"{one.code:02x}" for one in REGISTRY)
    assert not [one for one in warnings(f"caps={known}") if "knows no" in one]


DAY = 24 * 60 * 60
END = int(datetime(2026, 3, 11, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (END - 15 * DAY, None),
        (END - 14 * DAY - 1, None),
        (END - 14 * DAY, "expires with 2026-03-10; give it a later expires="),
        (END - 1, "expires with 2026-03-10; give it a later expires="),
        (END, "expired with 2026-03-10 and grants nothing; remove the line, or give it"),
        (END + 1000 * DAY, "expired with 2026-03-10 and grants nothing"),
    ],
)
def test_the_end_of_a_line(now: int, words: str | None) -> None:
    messages = warnings("expires=2026-03-10", now)
    assert len(messages) == (words is not None)
    assert all(words is not None and one.startswith(words) for one in messages)


def test_all_that_is_to_be_said_comes_in_order_of_line() -> None:
    text = f"bad\n{HEX} web caps=all,60 expires=2026-01-01\r\n{OTHER.hex()} web caps=core,0F\nbad\n"
    findings = check_agents(text, NOW)
    assert [one.line for one in findings] == [1, 2, 2, 2, 2, 2, 3, 3, 4]
    assert [one.severity for one in findings].count(Severity.ERROR) == 2


@given(st.text(max_size=200), st.integers(0, 2**33))
def test_any_text_is_looked_over(text: str, now: int) -> None:
    errors = [one for one in check_agents(text, now) if one.severity == Severity.ERROR]
    assert [(one.line, one.message) for one in errors] == list(parse_agents(text).faults)
