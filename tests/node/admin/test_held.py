"""The admin's side of what a node holds: verbs, and where a node keeps it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from asys.node.admin.blackout import Blackout
from asys.node.admin.controls import NodeControls
from asys.node.admin.held import EVERYTHING, HeldInfo
from asys.node.disk.config_dir import ConfigDir
from asys.node.platform.base import NotPermitted
from support.admin_rig import MadeControls, ask, serving
from support.frames import OK
from support.machine import MadePlatform
from support.metrics import health_of
from support.node_rig import Rig
from support.target import Machine

INFO = HeldInfo(7, "java", "signal", "agent", 1_700_000_000, 0)


class MadeHeld:
    """Holds one process."""

    def __init__(self) -> None:
        self.released: list[int] = []
        self.trouble: Exception | None = None

    def listed(self) -> list[HeldInfo]:
        """As Held.listed."""
        return [INFO]

    async def release(self, pid: int) -> int:
        """As Held.release."""
        if self.trouble is not None:
            raise self.trouble
        self.released.append(pid)
        return int(pid in (EVERYTHING, 7))


@pytest.mark.parametrize("what", ["throttled", "isolations"])
def test_verbs(tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    held = MadeHeld()

    async def scenario() -> None:
        path = tmp_path / "run" / "admin.sock"
        with serving(MadeControls(things={what: held}), path):
            assert await ask(path, verb=what) == {
                what: [
                    {
                        "pid": 7,
                        "name": "java",
                        "how": "signal",
                        "agent": "agent",
                        "since": 1_700_000_000,
                        "until": 0,
                    }
                ]
            }
            assert await ask(path, verb="release", what=what, pid=7) == {"released": 1}
            assert await ask(path, verb="release", what=what, pid=0) == {"released": 1}
            assert await ask(path, verb="release", what=what, pid=8) == {
                "error": f"process 8 is not held by asyd; see: asyd {what} list"
            }

    asyncio.run(scenario())
    assert held.released == [7, 0, 8]
    assert caplog.text.count(f"release {what}") == 3


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"verb": "throttled", "pid": 7}, "throttled takes nothing else"),
        ({"verb": "release", "what": "throttled"}, "release takes pid and what"),
        ({"verb": "release", "what": "dark", "pid": 7}, "what is throttled or isolations"),
        ({"verb": "release", "what": ["throttled"], "pid": 7}, "what is throttled or"),
        ({"verb": "release", "what": "throttled", "pid": -1}, "pid is a number"),
        ({"verb": "release", "what": "throttled", "pid": True}, "pid is a number"),
        ({"verb": "release", "what": "throttled", "pid": "7"}, "pid is a number"),
        ({"verb": "release", "what": "isolations", "pid": 7}, "there are no isolations here"),
    ],
)
def test_bad_requests(tmp_path: Path, request_: dict[str, object], error: str) -> None:
    held = MadeHeld()

    async def scenario() -> None:
        path = tmp_path / "run" / "admin.sock"
        with serving(MadeControls(things={"throttled": held}), path):
            answer = await ask(path, **request_)
        assert re.search(error, answer["error"])

    asyncio.run(scenario())
    assert held.released == []


def test_what_the_system_refuses_is_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held = MadeHeld()
    held.trouble = NotPermitted("SIGCONT to process 7: Operation not permitted")

    async def scenario() -> None:
        path = tmp_path / "run" / "admin.sock"
        with serving(MadeControls(things={"throttled": held}), path):
            answer = await ask(path, verb="release", what="throttled", pid=7)
        assert answer == {"error": "SIGCONT to process 7: Operation not permitted"}

    asyncio.run(scenario())
    assert "Traceback" not in caplog.text


async def test_what_a_node_has_stopped(tmp_path: Path) -> None:
    machine = Machine()
    rig = Rig(platform=machine)
    controls = NodeControls(rig.node, ConfigDir(tmp_path), Blackout(tmp_path), health_of(rig.node))
    agent = rig.session()
    assert agent.ask(agent.throttle(4711)) == [OK]

    held = await controls.held("throttled")
    assert held is rig.node.throttled
    assert held is not None
    assert [(one.pid, one.agent) for one in held.listed()] == [(4711, "agent")]

    machine.target.zombie = True
    machine.target.signals.clear()
    await controls.held("throttled")
    assert held.listed() == []
    assert await controls.held("isolations") is rig.node.isolations
    await rig.close()


async def test_a_node_that_cannot_stop_any(tmp_path: Path) -> None:
    rig = Rig(platform=MadePlatform())
    controls = NodeControls(rig.node, ConfigDir(tmp_path), Blackout(tmp_path), health_of(rig.node))

    assert await controls.held("throttled") is None
    await rig.close()
