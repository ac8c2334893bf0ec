"""The kit shares no code with the node, and its cases cite what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from asys.conformance.case import all_cases
from support.protocol_document import DOCUMENT

ROOT = Path(__file__).parents[2]
KIT = ROOT / "src" / "asys" / "conformance"
SECTIONS = set(re.findall(r"^##+ (\d+(?:\.\d+)?) ", DOCUMENT, re.MULTILINE))

READS_FILES = {"asys.client.address"}
"""What it uses of the SDK: how the address of a node is written."""


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return found


def test_it_imports_nothing_of_protocol_isa_and_node() -> None:
    used = {name for path in KIT.rglob("*.py") for name in _imported(path)}
    ours = {name for name in used if name.split(".")[0] == "asys"}
    assert {name for name in ours if not name.startswith("asys.conformance")} == READS_FILES


def test_every_section_that_a_case_cites_is_there() -> None:
    assert {one.id for one in all_cases() if one.section not in SECTIONS} == set()


def test_the_page_names_every_option() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text("utf-8")
    source = (ROOT / "src" / "asys" / "cli" / "conformance_commands.py").read_text("utf-8")
    assert {one for one in re.findall(r'"(--[a-z-]+)"', source) if f"`{one}" not in page} == set()
