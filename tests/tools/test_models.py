"""Pydantic models of tools."""

from __future__ import annotations

import jsonschema
import pydantic
import pytest
from asys_postgres.definition import VENDOR

from asys import isa
from asys.isa import CapabilityMap
from asys.tools import ToolSpec, offered, spec_of
from asys.tools.models import parameters_model, result_model
from asys.tools.values import data_of
from support import bare_python

SPECS = offered(
    CapabilityMap.of("all,security,vendor"),
    include=["AGENT_ADD", "AGENT_REMOVE", "AGENT_LIST"],
    vendors=[VENDOR],
)


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_the_model_says_what_the_schema_says(spec: ToolSpec) -> None:
    for model, schema in (
        (parameters_model(spec), spec.parameters),
        (result_model(spec), spec.result_schema),
    ):
        made = model.model_json_schema()
        jsonschema.Draft202012Validator.check_schema(made)
        assert list(made["properties"]) == list(schema["properties"])
        assert made.get("required", []) == schema["required"]
        assert made["additionalProperties"] is False
        for name, one in schema["properties"].items():
            assert made["properties"][name]["description"] == one["description"]
            if isinstance(one["type"], str) and "properties" not in one:
                shared = set(one) & {"type", "enum", "minimum", "maximum", "pattern", "default"}
                assert {key: made["properties"][name].get(key) for key in shared} == {
                    key: one[key] for key in shared
                }


def test_parameters() -> None:
    model = parameters_model(spec_of(isa.NET_ISOLATE))
    made = model.model_validate({"pid": "12", "action": "isolate"})
    assert made.model_dump() == {
        **{"pid": 12, "action": "isolate", "keep_loopback": False, "ttl_s": 0}
    }
    for wrong in (
        {"pid": 0, "action": "isolate"},
        {"pid": 1, "action": "kill"},
        {"action": "isolate"},
        {"pid": 1, "action": "isolate", "force": True},
    ):
        with pytest.raises(pydantic.ValidationError):
            model.model_validate(wrong)


def test_results() -> None:
    reply = isa.ProcessTree(
        1,
        1,
        0,
        (
            isa.TreeProcess(
                *(5, 1, 0, 99.5, 1, 0, "R", isa.ProcessFlags.ROOT, 3),
                isa.UntrustedText("cat"),
            ),
        ),
    )
    spec = spec_of(isa.PROC_TREE)
    made = result_model(spec).model_validate(data_of(reply))
    assert made.model_dump() == data_of(reply)


def test_pydantic_is_not_loaded_before_a_model_is_wanted() -> None:
    loaded = bare_python.run(
        "import sys, asys.tools, asys.tools.models; print('pydantic' in sys.modules)"
    )
    assert loaded.strip() == "False"
