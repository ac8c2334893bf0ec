"""What `asys` says when something fails: exit status, one clear line, one JSON object."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asys
from asys import errors
from asys.cli import agent as agent_module
from asys.cli import failures
from asys.errors import STATUS_ERRORS, OutcomeUnknown
from support.agent_cli import ASYS, AgentCli, name_of, process
from support.wire_node import Peer, Script, ThreadedWireNode, answer, serve

NEEDS_TABLES = (
    ("isa",),
    ("isa", "SYS_CAPS"),
    ("inspect", "9000"),
    ("status", "node"),
    ("procs", "node"),
    ("caps", "node"),
    ("hello", "node"),
    ("task-query", "node", "--handle", "1"),
)


@pytest.fixture
def agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AgentCli:
    return AgentCli(tmp_path, capsys)


def refuses(sw: int) -> Script:
    """A node that answers PROC_THROTTLE with a status word."""
    return serve(lambda frame: sw.to_bytes(2, "big") if frame.ins == 0x20 else answer(frame))


@pytest.mark.parametrize("sw", [*STATUS_ERRORS, 0x6F42, 0x1234])
def test_every_other_status_word_has_its_exit_status(agent: AgentCli, sw: int) -> None:
    expected = 4 if sw == 0x6985 else 1
    with ThreadedWireNode(refuses(sw)) as node:
        shown = agent.ask("throttle", node, "1234")
        told = agent.ask("throttle", node, "1234", "--json")
    kind = type(errors.status_error(sw)).__name__
    error = errors.status_error(sw, "PROC_THROTTLE")
    assert (shown.status, told.status) == (expected, expected)
    assert shown.out == ""
    assert shown.err == f"asys: {error}\n"
    assert told.err == ""
    assert told.error["kind"] == kind
    assert told.error["sw"] == f"{sw:04X}"
    assert told.error["message"] == error.meaning
    assert told.error["advice"] == error.advice
    assert told.error["instruction"] == "PROC_THROTTLE"


async def silent(peer: Peer) -> None:
    await peer.silence()


async def rejecting(peer: Peer) -> None:
    await peer.handshake()
    peer.reply(b"\x69\x82")


async def full(peer: Peer) -> None:
    await peer.handshake()
    peer.reply(b"\x64\x00")


async def garbage(peer: Peer) -> None:
    await peer.read()
    peer.write(b"SSH-2.0-OpenSSH_9.9\r\n" * 2)


async def gone(peer: Peer) -> None:
    await peer.read()


async def gone_in_the_end(peer: Peer) -> None:
    await peer.accept()


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (rejecting, "AgentRejected"),
        (full, "SessionLimit"),
        (garbage, "HandshakeError"),
        (gone, "ConnectionLost"),
        (gone_in_the_end, "ConnectionLost"),
        (silent, "DeadlineExceeded"),
    ],
)
def test_a_connection_that_fails(agent: AgentCli, script: Script, kind: str) -> None:
    # the limit decides the one case in which nothing ever comes
    words = ("--timeout", "0.3") if script is silent else ()
    with ThreadedWireNode(script) as node:
        shown = agent.ask("status", node, *words)
        told = agent.ask("status", node, *words, "--json")
    assert (shown.status, told.status) == (3, 3)
    assert shown.out == ""
    assert shown.err.startswith("asys: ")
    assert len(shown.err.splitlines()) == 1
    assert issubclass(getattr(errors, told.error["kind"]), getattr(errors, kind))
    assert told.error["sw"] is None
    assert told.error["advice"]


def test_a_rejected_agent_learns_what_an_admin_must_type(agent: AgentCli) -> None:
    with ThreadedWireNode(rejecting) as node:
        run = agent.ask("status", node)
    assert f"asyd agents add {agent.public.hex()}" in run.err


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of loopback on which nobody listens, and nobody else will."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_an_unreachable_node(agent: AgentCli, closed_port: int) -> None:
    host = f"127.0.0.1:{closed_port}"
    shown = agent.run("status", host, *agent.files)
    told = agent.run("status", host, *agent.files, "--json")
    assert (shown.status, told.status) == (3, 3)
    assert shown.err.startswith(f"asys: cannot reach {host}: ")
    assert "see that asyd runs there" in shown.err
    assert told.error["kind"] == "ConnectFailed"


def test_a_signed_instruction_without_answer_is_an_unknown_outcome(agent: AgentCli) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()

    with ThreadedWireNode(script) as node:
        shown = agent.ask("throttle", node, "1234")
        told = agent.ask("throttle", node, "1234", "--json")
    assert (shown.status, told.status) == (4, 4)
    assert "whether it ran is not known" in shown.err
    assert told.error["kind"] == "OutcomeUnknown"
    assert (told.error["instruction"], told.error["seq"]) == ("PROC_THROTTLE", 1)


def test_an_agent_without_key_is_told_to_make_one(agent: AgentCli, tmp_path: Path) -> None:
    missing = str(tmp_path / "nobody")
    words = ("status", "node", "--identity", missing, *agent.hosts)
    shown = agent.run(*words)
    assert shown.status == 2
    assert f"asys keygen --identity {missing}" in shown.err
    assert agent.run(*words, "--json").error["kind"] == "IdentityError"
    assert agent.run("keygen", "--identity", missing).status == 0  # the advice holds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "COMMAND"),
        (("statsu", "node"), "invalid choice: 'statsu'"),
        (("status",), "HOST"),
        (("status", "node", "--timout", "3"), "--timout"),
        (("throttle", "node", "many"), "'many' is not a whole number"),
        (("throttle", "node", "-5"), "pid must be 1 to 4294967295, not -5"),
        (("throttle", "node", "0"), "pid must be 1 to 4294967295, not 0"),
        (("restart", "node", "nginx.service"), "name must not match"),
        (("restart", "node", "Nginx"), "name has characters other than"),
        (("isa", "SYS_NOTHING"), "there is no instruction 'SYS_NOTHING'"),
        (("inspect", "9000", "--response", "SYS_NOTHING"), "there is no instruction"),
        (("inspect", "xyz"), "'x'"),
    ],
)
def test_wrong_usage(agent: AgentCli, words: tuple[str, ...], said: str) -> None:
    shown = agent.run(*words)
    told = agent.run("--json", *words)
    assert (shown.status, told.status) == (2, 2)
    assert shown.out == ""
    assert said in shown.err.splitlines()[-1]
    assert told.err == ""
    assert said in told.error["message"]
    assert told.error["kind"] in {"UsageError", "ArgumentError"}


def test_json_holds_before_and_behind_the_command(agent: AgentCli) -> None:
    for words in (("--json", "inspect", "zz"), ("inspect", "zz", "--json")):
        assert agent.run(*words).error["kind"] == "ArgumentError"


def test_help_tells_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["status", "--help"]):
        assert agent_module.main(words) == 0
        assert failures.EXIT_STATUS in capsys.readouterr().out


def test_help_lists_the_commands_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    agent_module.main(["--help"])
    shown = capsys.readouterr().out
    for name in (
        *("keygen", "trust", "status", "procs", "caps", "hello"),
        *("throttle", "resume", "restart", "isa", "inspect"),
    ):
        assert f"\n    {name} " in shown


def test_version() -> None:
    run = process("--version")
    assert (run.status, run.out) == (0, f"asys {asys.__version__}\n")


@pytest.mark.parametrize("words", NEEDS_TABLES)
def test_without_rich_tables_say_what_to_install(
    agent: AgentCli, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr("importlib.util.find_spec", _without_rich)
    shown = agent.run(*words)
    assert shown.status == 2
    assert shown.out == ""
    assert "pip install 'asys[cli]'" in shown.err
    assert "--json" in shown.err


def _without_rich(name: str, package: str | None = None) -> Any:
    return None


WITHOUT_RICH = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rich", "pygments", "markdown_it"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from asys.cli.agent import main
sys.exit(main())
"""


def test_without_rich_everything_but_tables_works(agent: AgentCli) -> None:
    with ThreadedWireNode() as node:
        host = agent.trusts(node)
        for words in (
            ("hello", host, *agent.files, "--json"),
            ("caps", host, *agent.files, "--json"),
            ("throttle", host, "1234", *agent.files),
            ("restart", host, "nginx", "--wait", *agent.files),
            ("trust", host, node.node.key.public.hex(), *agent.hosts),
            ("isa", "--json"),
            ("isa", "--toml"),
            ("isa", "SYS_CAPS", "--json"),
            ("inspect", "9000", "--response", "SYS_CAPS", "--json"),
        ):
            done = subprocess.run(
                (sys.executable, "-c", WITHOUT_RICH, *words),
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout


POSIX_ONLY = (
    *("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"),
    *("asyncio", "uvloop", "psutil", "dbus_fast"),
)

WITHOUT_POSIX = f"""
import os, sys
import rich.console
for name in {POSIX_ONLY!r}:
    sys.modules[name] = None
from asys.cli.agent import main
sys.exit(main())
"""


def test_it_needs_nothing_that_only_posix_has(agent: AgentCli, tmp_path: Path) -> None:
    with ThreadedWireNode() as node:
        host = agent.trusts(node)
        for words in (
            ("keygen", "--dir", str(tmp_path / "key")),
            ("trust", "somewhere", "09" * 32, *agent.hosts),
            ("hello", host, *agent.files),
            ("throttle", host, "1234", *agent.files, "--json"),
            ("isa",),
            ("inspect", "000000000000"),
        ):
            done = subprocess.run(
                (sys.executable, "-c", WITHOUT_POSIX, *words),
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Programs start as from a terminal, also where a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status",), "interrupted"),
        (("throttle", "1234"), "interrupted; PROC_THROTTLE may have been done all the same"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c(
    agent: AgentCli, hears_ctrl_c: None, words: tuple[str, ...], said: str, as_json: bool
) -> None:
    asked = threading.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.request()
        asked.set()
        await peer.silence()

    with ThreadedWireNode(script) as node:
        command = (*ASYS, words[0], agent.trusts(node), *words[1:], *agent.files)
        with subprocess.Popen(
            command + (("--json",) if as_json else ()),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            assert asked.wait(120)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=120)
    assert running.returncode == 130
    if as_json:
        assert err == ""
        assert json.loads(out)["error"]["kind"] == "Interrupted"
        assert json.loads(out)["error"]["message"] == said
    else:
        assert (out, err) == ("", f"asys: {said}\n")


def test_ctrl_c_before_the_node_answers(agent: AgentCli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("asys.cli.nodes.connect", interrupted)
    run = agent.run("throttle", "node", "1", *agent.files)
    assert (run.status, run.err) == (130, "asys: interrupted\n")


@pytest.mark.parametrize("words", [("isa",), ("isa", "--json"), ("--help",), ("inspect", "zz")])
def test_a_pipe_that_nobody_reads_ends_it_quietly(words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run((*ASYS, *words), stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    if words == ("inspect", "zz"):  # it has nothing to say on stdout
        assert done.returncode == 2
    else:
        assert (done.returncode, done.stderr) == (141, b"")


def test_nobody_reads_the_errors_either() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run((*ASYS, "inspect", "zz"), stderr=writing, check=False)
    finally:
        os.close(writing)
    assert done.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is full")
def test_a_full_disk_is_told() -> None:
    with open("/dev/full", "w") as full_device:
        done = subprocess.run(
            (*ASYS, "isa", "--json"),
            stdout=full_device,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "asys: cannot write the output: No space left on device\n"


def test_what_the_operating_system_refuses_is_one_line(
    agent: AgentCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr("asys.cli.keys.Identity.create", refused)
    run = agent.run("keygen")
    assert run.status == 2
    assert run.err == "asys: [Errno 13] Permission denied: '/somewhere'\n"
    assert agent.run("keygen", "--json").error["kind"] == "LocalFault"


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_stream_that_is_closed_from_the_start(agent: AgentCli, closed: str) -> None:
    number = {"stdin": 0, "stdout": 1, "stderr": 2}[closed]
    with ThreadedWireNode() as node:
        command = (*ASYS, "throttle", name_of(node), "1", *agent.files)
        done = subprocess.run(
            ("sh", "-c", f'exec "$@" {number}>&-', "sh", *command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 3  # an unknown host
    assert "Traceback" not in done.stderr


def test_a_console_that_cannot_show_a_character_gets_an_escape(agent: AgentCli) -> None:
    run = process(
        "trust", "nöde", "nonsense-ü", *agent.hosts, environment={"PYTHONIOENCODING": "ascii"}
    )
    assert run.status == 2
    assert "\\xfc" in run.err


def every_error() -> list[type[errors.AsysError]]:
    """Every class of the tree, and those of the command line."""
    found: list[type[errors.AsysError]] = [errors.AsysError]
    for kind in found:
        found += [one for one in kind.__subclasses__() if one not in found]
    return found


def test_every_error_has_an_exit_status_of_the_documented_ones() -> None:
    for kind in every_error():
        if issubclass(kind, OutcomeUnknown):
            expected = 4
        elif issubclass(kind, errors.StatusError | failures.TaskFailed):
            expected = 1
        elif issubclass(kind, errors.LinkError):
            expected = 3
        else:
            expected = 130 if kind is failures.Interrupted else 2
        assert failures.exit_status(kind.__new__(kind)) == expected
        assert f"\n  {expected}" in failures.EXIT_STATUS
