"""A model of AutoGen that says what its script says."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import CreateResult, ModelFamily, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

WITH_TOOLS = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=False,
    family=ModelFamily.UNKNOWN,
    structured_output=False,
)

_ids = count(1)


def call(name: str, /, **arguments: Any) -> CreateResult:
    """A model's answer that calls one tool."""
    wanted = FunctionCall(id=str(next(_ids)), name=name, arguments=json.dumps(arguments))
    usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
    return CreateResult(finish_reason="function_calls", content=[wanted], usage=usage, cached=False)


def saying(*script: CreateResult | str) -> ReplayChatCompletionClient:
    """A model with this script."""
    return ReplayChatCompletionClient(script, model_info=WITH_TOOLS)
