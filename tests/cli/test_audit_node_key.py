"""What became of a node's key, as `asys audit` shows it."""

from __future__ import annotations

import pytest

from asys.audit.entries import NodeKey
from asys.audit.export_syslog import Severity, severity
from asys.audit.reading import Notice, Pairing
from asys.cli.audit_export import message, row
from asys.cli.audit_views import notice, notice_data

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
NOW = 1_790_000_000 * 10**9
WORDS = {
    1: f"the node has a next key: {NEW.hex()} in the place of {OLD.hex()}; both are valid until",
    2: f"the node's next key has taken over: {NEW.hex()} in the place of {OLD.hex()}",
    9: f"event 9 of the node's key: {NEW.hex()} in the place of {OLD.hex()}",
}


@pytest.mark.parametrize("event", list(WORDS))
def test_in_words_and_as_data(event: int) -> None:
    entry = NodeKey(event, NOW, OLD, NEW, 1_790_003_600)
    [item] = Pairing().feed(entry)
    assert item == Notice(NOW, entry)
    assert notice(item).startswith(WORDS[event])
    assert ("2026-09-21 15:13:20" in notice(item)) == (event == 1)
    data = notice_data(item)
    assert data["type"] == "node_key"
    assert (data["event"], data["ends"]) == (event, 1_790_003_600)
    assert (data["old_key"], data["new_key"]) == (OLD.hex(), NEW.hex())
    assert severity(item) is Severity.NOTICE
    assert b"NODE_KEY" in message(item)
    assert NEW.hex().encode() in message(item)
    assert row(item)["note"] == notice(item)


def test_a_key_has_32_bytes() -> None:
    for old, new in ((b"", NEW), (OLD, NEW[1:])):
        with pytest.raises(ValueError, match="32 bytes"):
            NodeKey(1, NOW, old, new, 0).body()
