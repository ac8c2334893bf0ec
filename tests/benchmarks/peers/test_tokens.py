"""Tokens are counted by the rule that is stated, and by no other."""

from __future__ import annotations

import pytest
from benchmarks.peers.tokens import DIGITS, LETTERS, RULE, tokens
from hypothesis import given
from hypothesis import strategies as st

from support.pages import DOCS

PAGE = DOCS / "benchmarks-peers.md"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a", 1),
        ("memory", 1),
        ("percent", 2),
        ("naïveté", 2),
        ("123", 1),
        ("1234", 2),
        ("a b", 2),
        (" ", 0),
        ("a  b", 3),
        ("a\nb", 3),
        ("a\n  b", 3),
        ("cpu_percent", 4),
        ('{"pid": 4711}', 6),
        ("____", 1),
        ("12.5 %", 4),
    ],
)
def test_examples(text: str, count: int) -> None:
    assert tokens(text) == count


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one: str, other: str) -> None:
    assert tokens(one) <= tokens(f"{one}\n{other}")
    assert tokens(f"{one}\n\n{other}") <= tokens(one) + 1 + tokens(other)


def test_the_page_states_the_rule_that_is_used() -> None:
    assert f"every {LETTERS} " in RULE
    assert f"every {DIGITS} " in RULE
    assert RULE in " ".join(PAGE.read_text("utf-8").split())
