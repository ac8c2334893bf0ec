"""docs/resilience.md: every promise names a test, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "resilience.md").read_text(encoding="utf-8")


def promises() -> list[str]:
    """The rows of the tables whose last column is the test."""
    rows, kept = TEXT.splitlines(), False
    found = []
    for row in rows:
        if not row.startswith("|"):
            kept = False
        elif row.endswith("| Shown by |"):
            kept = True
        elif kept and not row.startswith("|---"):
            found.append(row)
    return found


def test_every_promise_names_tests_that_are_there() -> None:
    for row in promises():
        tests = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row.rsplit("|", 2)[1])
        assert tests, f"no test is named: {row}"
        for path, function in tests:
            assert (ROOT / path).is_file(), f"{path} is not there: {row}"
            if function:
                text = (ROOT / path).read_text(encoding="utf-8")
                assert re.search(rf"^(async )?def {function}\(", text, re.MULTILINE), row
