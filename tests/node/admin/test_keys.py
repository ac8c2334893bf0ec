"""What an admin asks about the node's keys over the socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asys.node.admin.keys import AgentKeys, KeysInfo, told
from asys.node.disk.next_key import LONGEST_OVERLAP
from asys.protocol.statement import STATEMENT_SIZE
from support.admin_rig import KEY, OTHER, MadeControls, ask, serving


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "asyd" / "admin.sock"


async def test_rotate_keys_and_finish(path: Path) -> None:
    controls = MadeControls()
    with serving(controls, path):
        assert await ask(path, verb="keys") == {"key": KEY.hex(), "next": None, "agents": []}
        stated = await ask(path, verb="rotate", overlap=60)
        assert (stated["old_key"], stated["new_key"]) == (KEY.hex(), OTHER.hex())
        assert (stated["made"], stated["ends"]) == (1, 61)
        assert len(bytes.fromhex(stated["statement"])) == STATEMENT_SIZE
        assert (await ask(path, verb="keys"))["next"] == stated
        assert await ask(path, verb="finish") == stated
        assert await ask(path, verb="finish") == {"error": "there is no next key"}


@pytest.mark.parametrize("overlap", [-1, LONGEST_OVERLAP + 1, 1.5, "60", None, True])
async def test_an_overlap_that_is_none(path: Path, overlap: Any) -> None:
    with serving(MadeControls(), path):
        answer = await ask(path, verb="rotate", overlap=overlap)
        assert answer == {"error": f"overlap is 0 to {LONGEST_OVERLAP} seconds"}


async def test_what_stands_beside_the_verb(path: Path) -> None:
    with serving(MadeControls(), path):
        assert "rotate takes overlap" in (await ask(path, verb="rotate"))["error"]
        assert "finish takes nothing else" in (await ask(path, verb="finish", overlap=1))["error"]


def test_agents_in_words() -> None:
    agents = (AgentKeys(OTHER, "web", "told", True),)
    assert told(KeysInfo(KEY, None, agents))["agents"] == [
        {"key": OTHER.hex(), "label": "web", "has": "told", "connected": True}
    ]
