"""The frameworks are extras: nothing imports one unasked, and a missing one is named."""

from __future__ import annotations

import pytest

from support.bare_python import run

EXTRAS = {
    "langchain": "langchain_core",
    "autogen": "autogen_core",
    "agent_framework": "agent_framework",
}


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_extra_is_named(module: str) -> None:
    said = run(
        f"import sys; sys.modules['{EXTRAS[module]}'] = None\n"
        "try:\n"
        f"    import asys.integrations.{module}\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name, error)\n"
    )
    extra = module.replace("_", "-")
    assert said == (
        f"{EXTRAS[module]} there is no {EXTRAS[module]} here; "
        f"install it with: pip install 'asys[{extra}]'\n"
    )


def test_so_is_what_a_framework_itself_lacks() -> None:
    said = run(
        "import sys; sys.modules['pydantic'] = None\n"
        "try:\n"
        "    import asys.integrations.autogen\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert said == "there is no pydantic here; install it with: pip install 'asys[autogen]'\n"


def test_nothing_imports_a_framework_unasked() -> None:
    said = run(
        "import sys, asys, asys.sync, asys.isa, asys.tools, asys.integrations\n"
        "import asys.integrations.asking\n"
        "asys.connect, asys.Fleet\n"
        "print([one for one in ('langchain_core', 'autogen_core', 'agent_framework', 'pydantic')"
        " if one in sys.modules])\n"
    )
    assert said == "[]\n"


def test_an_adapter_imports_its_framework_alone() -> None:
    for module, own in EXTRAS.items():
        said = run(
            f"import sys, asys.integrations.{module}\n"
            f"print(sorted(one for one in {tuple(EXTRAS.values())} if one in sys.modules),"
            " any(one in sys.modules for one in ('langchain', 'langgraph', 'mcp', 'asys.node')))\n"
        )
        assert said == f"{[own]} False\n"
