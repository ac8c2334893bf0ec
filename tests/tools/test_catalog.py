"""Which tools are offered, and what they say of themselves."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from asys_postgres.definition import PG_ACTIVITY, PG_CANCEL, VENDOR

from asys.isa import (
    PROC_THROTTLE,
    REGISTRY,
    AnyInstruction,
    CapabilityMap,
    Group,
    Instruction,
    Level,
    Mode,
    Risk,
)
from asys.tools import ToolSpec, offered, spec_of
from asys.vendor import Vendor

EVERYTHING = CapabilityMap.of("all,security,vendor,10")
OF_AGENTS = ("AGENT_ADD", "AGENT_REMOVE", "AGENT_LIST")
NEVER = {"continue", "rekey", "abandon", "key_statement"}


def names(*specs: ToolSpec) -> set[str]:
    return {one.name for one in specs}


def all_specs() -> tuple[ToolSpec, ...]:
    return offered(EVERYTHING, include=OF_AGENTS, vendors=[VENDOR])


def test_nothing_is_offered_where_nothing_is_known() -> None:
    assert offered(None) == ()
    assert offered(CapabilityMap(0)) == ()


def test_what_is_not_lit_is_not_offered() -> None:
    core = {"sys_caps", "sys_hello", "sys_status", "sys_procs"}
    assert names(*offered(CapabilityMap.of("core"))) == core
    assert names(*offered(CapabilityMap.of("core,PROC_THROTTLE"))) == core | {"proc_throttle"}
    assert names(*offered(CapabilityMap.of("PROC_TREE"))) == {"proc_tree"}


def test_all_that_agents_may_call_is_offered_once() -> None:
    found = all_specs()
    expected = {one.method for one in REGISTRY} | {one.method for one in VENDOR.instructions}
    assert names(*found) == expected - NEVER
    assert len(found) == len(names(*found))


def test_those_that_hand_on_rights_must_be_named() -> None:
    assert not names(*offered(EVERYTHING)) & {"agent_add", "agent_remove", "agent_list"}
    assert "agent_list" in names(*offered(EVERYTHING, include=["AGENT_LIST"]))
    assert "agent_add" not in names(*offered(EVERYTHING, include=["AGENT_LIST"]))
    assert "agent_list" not in names(*offered(EVERYTHING, include=OF_AGENTS, risk=Risk.MEDIUM))
    assert "agent_list" not in names(*offered(CapabilityMap.of("all"), include=OF_AGENTS))
    with pytest.raises(ValueError, match="AGENT_LOST"):
        offered(EVERYTHING, include=["AGENT_LOST"])


def test_naming_does_not_bring_in_what_is_never_offered() -> None:
    assert not names(*offered(EVERYTHING, include=["REKEY", "ABANDON", "CONTINUE"])) & NEVER


@pytest.mark.parametrize("risk", list(Risk))
def test_no_more_risk_than_is_allowed(risk: Risk) -> None:
    order = list(Risk)
    found = offered(EVERYTHING, risk=risk, include=OF_AGENTS)
    assert found
    assert all(order.index(one.risk) <= order.index(risk) for one in found)


def test_read_only_leaves_out_what_changes_the_node() -> None:
    found = offered(EVERYTHING, read_only=True, include=OF_AGENTS)
    assert all(one.read_only for one in found)
    assert not names(*found) & {"proc_throttle", "svc_restart", "net_isolate", "agent_add"}
    # Tasks are started by nobody then, so there are none to ask about.
    assert not names(*found) & {"task_query", "task_cancel"}
    reading = [one for one in REGISTRY if one.group in (Group.CORE, Group.DIAGNOSTICS)]
    assert {one.method for one in reading} <= names(*found)


def test_tasks_come_with_what_starts_them() -> None:
    with_restart = offered(CapabilityMap.of("core,TASK_CANCEL,SVC_RESTART"))
    assert {"task_query", "task_cancel"} <= names(*with_restart)
    without = offered(CapabilityMap.of("core,TASK_CANCEL,PROC_THROTTLE"))
    assert not {"task_query", "task_cancel"} & names(*without)


def test_what_asks_first() -> None:
    asking = {one.name for one in all_specs() if one.asks_first}
    assert {"proc_throttle", "svc_restart", "net_isolate", "agent_add", "pg_cancel"} <= asking
    assert not asking & {"sys_status", "log_detail", "proc_tree", "agent_list", "task_query"}


def test_a_way_back() -> None:
    back = {one.name: one.can_be_undone for one in all_specs()}
    assert back["proc_throttle"]
    assert back["sys_status"]
    assert not back["svc_restart"]
    assert not back["pg_cancel"]


def test_the_description_says_what_the_declaration_says() -> None:
    spec = spec_of(PROC_THROTTLE)
    guide = spec.instruction.guide
    for text in (guide.description, guide.when, guide.side_effects, guide.reversible):
        assert text in spec.description
    assert "Risk: medium." in spec.description
    assert spec.level is Level.SIGNED


@pytest.mark.parametrize("spec", all_specs(), ids=repr)
def test_what_every_tool_says(spec: ToolSpec) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,63}", spec.name)
    assert spec.title
    for schema in (spec.parameters, spec.result_schema):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(schema)) == schema
        assert not schema["additionalProperties"]
        assert all(one["description"] for one in schema["properties"].values())
    # It speaks of tools by their names, and of no others.
    told = {one.name for one in REGISTRY} & set(re.findall(r"[A-Z]+_[A-Z_]+", spec.description))
    assert not told
    assert spec.waits is (spec.instruction.mode is Mode.ASYNC)
    assert ("written by anyone" in spec.description) is spec.untrusted


def test_what_waits_does_not_speak_of_handles() -> None:
    spec = next(one for one in all_specs() if one.name == "svc_restart")
    assert "handle" not in spec.description
    assert "waits until" in spec.description


def test_parameters_have_types_bounds_names_units_and_defaults() -> None:
    by_name = {one.name: one.parameters for one in all_specs()}
    isolate = by_name["net_isolate"]
    assert isolate["required"] == ["pid", "action"]
    assert isolate["properties"]["pid"]["minimum"] == 1
    assert isolate["properties"]["action"]["enum"] == ["isolate", "release"]
    assert isolate["properties"]["keep_loopback"] == {
        "type": "boolean",
        "description": "packets between addresses of loopback pass",
        "default": False,
    }
    assert isolate["properties"]["ttl_s"]["description"].endswith(", in s")
    logs = by_name["log_summary"]["properties"]
    assert (logs["priority"]["default"], logs["wanted"]["maximum"]) == ("err", 32)
    # A u64 would be rounded by programs that keep numbers as doubles.
    assert by_name["log_detail"]["properties"]["event_id"]["type"] == "string"
    assert by_name["sys_caps"]["properties"] == {}


def test_two_vendors_with_one_name_for_an_instruction() -> None:
    other = Vendor("another.example.net", "Another", (_copy(PG_CANCEL, 0xD0),), "another.handlers")
    found = offered(CapabilityMap.of("vendor"), vendors=[VENDOR, other])
    assert names(*found) == {
        *("pg_activity", "pg_blockers", "pg_cancel", "another_example_net_pg_cancel")
    }
    assert not offered(CapabilityMap.of("vendor"))
    assert names(*offered(CapabilityMap.of("C0"), vendors=[VENDOR])) == {PG_ACTIVITY.method}


def _copy(one: AnyInstruction, code: int) -> AnyInstruction:
    return Instruction(
        code, one.name, request=one.make_request, reply=one.reply, level=one.level, guide=one.guide
    )
