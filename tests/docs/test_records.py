"""docs/decisions and docs/threat-model.md: their form, and that what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.protocol_document import DOCUMENT

DOCS = Path(__file__).parents[2] / "docs"
RECORDS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
SECTIONS = set(re.findall(r"^##+ (\d+(?:\.\d+)?) ", DOCUMENT, re.MULTILINE))

each_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)


def test_records_are_listed_and_numbered_without_gaps() -> None:
    readme = (DOCS / "decisions" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\d{4})\]\((.*?)\) \|", readme, re.MULTILINE)
    assert [name for _, name in listed] == [record.name for record in RECORDS]
    assert [int(number) for number, _ in listed] == list(range(1, len(RECORDS) + 1))
    assert all(name.startswith(number) for number, name in listed)


@each_record
def test_record_has_the_form(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert text.startswith(f"# {record.stem[:4]}: ")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 50, "fits on one page"


@each_record
def test_record_names_what_is_there(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert {name for name in re.findall(r"\]\((\d{4}-.*?\.md)\)", text)} <= {
        one.name for one in RECORDS
    }
    named = re.findall(r"sections? (\d+(?:\.\d+)?)(?: and (\d+(?:\.\d+)?))?", text)
    assert {number for pair in named for number in pair if number} <= SECTIONS


def test_superseded_records_name_the_new_one() -> None:
    names = {record.name: record.read_text(encoding="utf-8") for record in RECORDS}
    superseded = {
        name: re.findall(r"^Superseded by \[\d{4}\]\((.*?)\)", text, re.MULTILINE)
        for name, text in names.items()
    }
    named = {old[:4]: new[0][:4] for old, new in superseded.items() if new}
    assert named == {"0004": "0010", "0005": "0009"}
    for old, new in named.items():
        (text,) = (text for name, text in names.items() if name.startswith(new))
        assert old in text


def test_threat_model_names_sections_and_records_that_exist() -> None:
    text = (DOCS / "threat-model.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    where = [line.rsplit("|", 2)[1] for line in text.splitlines() if line.startswith("|")]
    where += re.findall(r"\(([0-9., ]+)\)", text)
    numbers = set(re.findall(r"\b\d{4}\b|\b\d{1,2}(?:\.\d+)?\b", " ".join(where)))
    records = {record.name[:4] for record in RECORDS}
    assert len(numbers) > 10
    assert {one for one in numbers if len(one) == 4 and "." not in one} <= records
    assert {one for one in numbers if len(one) < 4 or "." in one} <= SECTIONS
