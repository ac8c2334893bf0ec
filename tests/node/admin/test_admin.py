"""What an admin can ask over the socket, and what is no request."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import uvloop

from asys.node.admin import server as admin
from asys.node.admin.server import AdminServer
from asys.node.admin.verbs import ReloadReport, SessionInfo
from asys.node.disk.files import ConfigError
from support.admin_rig import KEY, METRICS, OTHER, MadeControls, ask, exchange, serving, session

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine in each kind of event loop that asyd may have."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "asyd" / "admin.sock"


# -- what can be asked


def test_the_bounds() -> None:
    assert (admin.MAX_REQUEST, admin.REQUEST_SECONDS, admin.MAX_CONNECTIONS) == (65_536, 10.0, 16)


def test_sessions(run: Run, path: Path) -> None:
    late = session(OTHER, "", peer="unix", opened=20, idle=0.12345, confirmed=False)
    controls = MadeControls([late, session(opened=10)])

    async def use() -> None:
        with serving(controls, path):
            assert await ask(path, verb="sessions") == {
                "dark": False,
                "sessions": [
                    {
                        **{"key": KEY.hex(), "label": "watcher", "peer": "192.0.2.1:5000"},
                        **{"id": 7, "opened": 10, "idle_seconds": 1.5, "confirmed": True},
                    },
                    {
                        **{"key": OTHER.hex(), "label": "", "peer": "unix"},
                        **{"id": 0, "opened": 20, "idle_seconds": 0.123, "confirmed": False},
                    },
                ],
            }
            controls.dark, controls.open = True, []
            assert await ask(path, verb="sessions") == {"dark": True, "sessions": []}

    run(use())


def test_the_most_sessions(run: Run, path: Path) -> None:
    """More than a socket's buffer, and put in words in slices."""
    controls = MadeControls([session(number=number, opened=number) for number in range(1, 5001)])

    async def use() -> None:
        with serving(controls, path):
            answer = await ask(path, verb="sessions")
            assert [one["id"] for one in answer["sessions"]] == list(range(1, 5001))

    run(use())


@pytest.mark.parametrize("who", ["watcher", KEY.hex(), KEY.hex().upper()])
def test_closing(run: Run, path: Path, who: str) -> None:
    controls = MadeControls([session(), session(number=8), session(OTHER, "other")])

    async def use() -> None:
        with serving(controls, path):
            assert await ask(path, verb="close", who=who) == {"key": KEY.hex(), "closed": 2}
            assert controls.closed == [KEY]
            assert controls.open == [session(OTHER, "other")]
            answer = await ask(path, verb="close", who=who)
            assert answer == {
                "error": f"no open session has the key or label {who!r}; see: asyd sessions list"
            }
            assert controls.closed == [KEY]

    run(use())


@pytest.mark.parametrize("who", ["", "watch", "*", "00" * 32, 5, None, ["watcher"], {"a": 1}])
def test_closing_what_is_not_there(run: Run, path: Path, who: Any) -> None:
    controls = MadeControls([session(), session(OTHER, "")])

    async def use() -> None:
        with serving(controls, path):
            answer = await ask(path, verb="close", who=who)
            assert list(answer) == ["error"]
            assert controls.closed == []

    run(use())


def test_a_label_that_two_agents_have(run: Run, path: Path) -> None:
    """An agent may have named the one that it added after another: nobody is closed by mistake."""
    controls = MadeControls([session(), session(OTHER)])

    async def use() -> None:
        with serving(controls, path):
            answer = await ask(path, verb="close", who="watcher")
            assert "more than one agent has the label 'watcher'; name one" in answer["error"]
            assert KEY.hex() in answer["error"]
            assert OTHER.hex() in answer["error"]
            assert controls.closed == []

    run(use())


def test_metrics(run: Run, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They change nothing, so nobody reads in the log that they were asked for."""

    async def use() -> None:
        with serving(MadeControls(), path):
            assert await ask(path, verb="metrics") == {"metrics": METRICS}
            answer = await ask(path, verb="metrics", what="asyd_dark")
            assert answer == {"error": "metrics takes nothing else"}

    run(use())
    assert not caplog.records


def test_dark_and_light(run: Run, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    controls = MadeControls()

    async def use() -> None:
        with serving(controls, path):
            assert await ask(path, verb="dark") == {"dark": True}
            assert controls.dark
            assert await ask(path, verb="light") == {"dark": False}
            assert not controls.dark

    run(use())
    told = [one.getMessage() for one in caplog.records if one.name == "asyd.admin"]
    assert told == [
        f"uid {os.geteuid()}, process {os.getpid()}: {verb}" for verb in ("dark", "light")
    ]


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (TimeoutError("dark: the disk has not answered"), "dark: the disk has not answered"),
    ],
)
def test_dark_that_is_not_on_the_disk(run: Run, path: Path, trouble: Exception, why: str) -> None:
    controls = MadeControls(trouble=trouble)

    async def use() -> None:
        with serving(controls, path):
            answer = await ask(path, verb="dark")
            assert answer == {
                "error": f"the node is dark now, but its disk does not have that: {why}; it will "
                "not outlast a restart of asyd. Mend the disk, then run asyd dark again"
            }
            assert controls.dark

    run(use())


def test_reload(run: Run, path: Path) -> None:
    controls = MadeControls(report=ReloadReport(3, ((4, "no key"), (9, "caps=: 'x' is none"))))

    async def use() -> None:
        with serving(controls, path):
            assert await ask(path, verb="reload") == {
                "agents": 3,
                "faults": [[4, "no key"], [9, "caps=: 'x' is none"]],
                "fault_count": 2,
            }
            assert controls.reloads == 1
            controls.report = ReloadReport(0, tuple((n, "bad") for n in range(1, 2001)))
            answer = await ask(path, verb="reload")
            assert (len(answer["faults"]), answer["fault_count"]) == (1000, 2000)
            controls.trouble = ConfigError("authorized_agents is too large")
            assert await ask(path, verb="reload") == {
                "error": "nothing has changed: authorized_agents is too large"
            }

    run(use())


@pytest.mark.parametrize("verb", ["sessions", "close", "dark", "reload"])
def test_a_fault_of_the_node_is_answered_and_logged(
    run: Run, path: Path, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    controls = MadeControls([session()], trouble=RuntimeError("broken"))
    request = {"verb": verb, "who": "watcher"} if verb == "close" else {"verb": verb}

    async def use() -> None:
        with serving(controls, path):
            answer = await ask(path, **request)
            assert answer == {"error": f"{verb} failed in asyd; its log says more"}

    run(use())
    assert "RuntimeError: broken" in caplog.text


# -- what is no request


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"\n", "not JSON"),
        (b"dark\n", "not JSON"),
        (b"{\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 60_000 + b"\n", "not JSON"),
        (b'{"verb": ' + b"9" * 5000 + b"}\n", "not JSON"),
        (b"[]\n", "no JSON object"),
        (b'"dark"\n', "no JSON object"),
        (b"null\n", "no JSON object"),
        (
            b"{}\n",
            "the verb is sessions, close, dark, light, reload, metrics, throttled, isolations,",
        ),
        (b'{"verb": "DARK"}\n', "the verb is"),
        (b'{"verb": ["dark"]}\n', "the verb is"),
        (b'{"verb": {}}\n', "the verb is"),
        (b'{"verb": 1e999}\n', "the verb is"),
        (b'{"verb": "dark", "who": "x"}\n', "dark takes nothing else"),
        (b'{"verb": "sessions", "x": 1}\n', "sessions takes nothing else"),
        (b'{"verb": "close"}\n', "close takes who"),
        (b'{"verb": "close", "who": "x", "y": 1}\n', "close takes who"),
        (b'{"verb": "dark"}\n{"verb": "light"}\n', "there is more behind it"),
        (b'{"verb": "dark"}\n ', "there is more behind it"),
        (b" " * 65_536, "at most 65536 bytes"),
        (b" " * 65_537 + b"\n", "at most 65536 bytes"),
    ],
)
def test_bad_requests(run: Run, path: Path, sent: bytes, why: str) -> None:
    controls = MadeControls([session()])

    async def use() -> None:
        with serving(controls, path):
            answer = json.loads(await exchange(path, sent))
            assert list(answer) == ["error"]
            assert why in answer["error"]
            assert not controls.dark
            assert await ask(path, verb="sessions")  # and it goes on

    run(use())


@pytest.mark.parametrize("sent", [b"", b"{", b'{"verb": "dark"}'])
def test_a_request_without_an_end(run: Run, path: Path, sent: bytes) -> None:
    """Half a request may read like a whole one."""
    controls = MadeControls()

    async def use() -> None:
        with serving(controls, path):
            answer = json.loads(await exchange(path, sent, end=True))
            assert answer == {"error": "the request has no newline at its end"}
            assert not controls.dark

    run(use())


def test_the_largest_request(run: Run, path: Path) -> None:
    line = b'{"verb": "dark"}'
    controls = MadeControls()

    async def use() -> None:
        with serving(controls, path):
            sent = line + b" " * (65_535 - len(line)) + b"\n"
            assert json.loads(await exchange(path, sent)) == {"dark": True}

    run(use())


def test_a_request_in_pieces(run: Run, path: Path) -> None:
    controls = MadeControls()

    async def use() -> None:
        loop = asyncio.get_running_loop()
        with serving(controls, path), socket.socket(socket.AF_UNIX) as peer:
            peer.setblocking(False)
            peer.connect(str(path))
            for byte in b'{"verb": "dark"}\n':
                assert not controls.dark
                await loop.sock_sendall(peer, bytes([byte]))
                await asyncio.sleep(0)
            assert json.loads(await loop.sock_recv(peer, 1000)) == {"dark": True}

    run(use())


def test_a_request_that_does_not_come(run: Run, path: Path) -> None:
    controls = MadeControls()

    async def use() -> None:
        with serving(controls, path, seconds=0.01):
            answer = json.loads(await exchange(path, b'{"verb": "da'))
            assert answer == {"error": "no whole request came within 0.01 s"}

    run(use())


class Hasty(MadeControls):
    """Whoever asks it for its sessions must read the answer at once."""

    server: AdminServer | None = None

    def sessions(self) -> list[SessionInfo]:
        """As Controls.sessions."""
        assert self.server is not None
        self.server._seconds = 0.01
        return super().sessions()


def test_an_answer_that_is_not_read(run: Run, path: Path) -> None:
    """It is given up; and whoever goes away before it has done no harm."""
    controls = Hasty([session(number=number) for number in range(1, 8000)])

    async def use() -> None:
        loop = asyncio.get_running_loop()
        with serving(controls, path) as server:
            controls.server = server
            deaf, gone = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
            for peer in (deaf, gone):
                peer.setblocking(False)
                peer.connect(str(path))
                await loop.sock_sendall(peer, b'{"verb": "sessions"}\n')
            gone.close()
            with deaf:
                cut = await loop.sock_recv(deaf, 1)
                await asyncio.gather(*server._tasks)
                while more := await loop.sock_recv(deaf, 1 << 16):
                    cut += more
                assert len(cut) < 1 << 20
                assert not cut.endswith(b"\n")

    run(use())
