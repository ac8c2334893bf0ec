"""asyd as a process: what it says when it is ready, signals, and an end that leaves nothing."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

import pytest

from asys.node.admin.controls import REPORTED_LINES
from asys.node.daemon import SPARE_FILES
from asys.node.server import Limits
from support.daemon import AGENT, LOOPS, PATIENCE, Daemon, running
from support.own_daemon import AGENTS, argv, config, faulty
from support.raw_agent import Ended, RawAgent


def output(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


# -- ready


@pytest.mark.parametrize("prelude", LOOPS.values(), ids=LOOPS.keys())
def test_one_line_on_stdout(tmp_path: Path, prelude: str) -> None:
    """In exactly this form, once it accepts connections, and nothing before or after."""
    directory = config(tmp_path)
    asyd = subprocess.Popen(
        argv(directory, prelude=prelude), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        line = output(asyd.stdout).readline()
        found = re.fullmatch(rb"READY 127\.0\.0\.1:(\d+) ([0-9a-f]{64})\n", line)
        assert found is not None, line
        with RawAgent(("127.0.0.1", int(found[1]))) as agent:
            agent.handshake(AGENT)
            assert agent.alive()
            assert agent.link.node_key == bytes.fromhex(found[2].decode())
        assert bytes.fromhex(found[2].decode()) == (directory / "id_curve25519.pub").read_bytes()
        asyd.send_signal(signal.SIGTERM)
        rest, log = asyd.communicate(timeout=PATIENCE)
        assert (rest, asyd.returncode) == (b"", 0)
        assert b"Traceback" not in log
    finally:
        asyd.kill()
        asyd.communicate()


@pytest.mark.parametrize(
    ("listen", "ready"),
    [
        (["[::1]"], r"\[::1\]:\d+"),
        (["unix:{}", "127.0.0.1"], r"unix:{}"),
        (["127.0.0.1", "unix:{}", "::1"], r"127\.0\.0\.1:\d+"),
    ],
    ids=["IPv6", "unix first", "three"],
)
def test_every_address_answers_and_the_first_is_named(
    tmp_path: Path, listen: list[str], ready: str
) -> None:
    path = str(tmp_path / "sock")
    addresses = [one.format(path) for one in listen]
    with running(tmp_path, agents=AGENTS, listen=addresses) as asyd:
        assert re.fullmatch(ready.format(re.escape(path)), asyd.ready)
        assert len(asyd.addresses) == len(listen)
        for address in asyd.addresses:
            with asyd.connect(AGENT, address) as agent:
                assert agent.alive()
    assert not os.path.exists(path)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told(tmp_path: Path, kind: str) -> None:
    before = time.monotonic_ns() // 1000
    name = str(tmp_path / "notify") if kind == "path" else f"@asys-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.settimeout(PATIENCE)
        notify.bind(name.replace("@", "\0"))
        with running(
            tmp_path, agents=AGENTS, prelude=f"import os; os.environ['NOTIFY_SOCKET'] = {name!r}\n"
        ) as asyd:
            assert notify.recv(100) == b"READY=1"
            with asyd.connect() as agent:
                assert agent.alive()
            asyd.process.send_signal(signal.SIGHUP)
            reloading, moment = notify.recv(100).split(b"\nMONOTONIC_USEC=")
            assert reloading == b"RELOADING=1"
            assert before <= int(moment) <= time.monotonic_ns() // 1000
            assert notify.recv(100) == b"READY=1"
            asyd.wait_for("agents in", times=2)
        assert notify.recv(100) == b"STOPPING=1"
        notify.setblocking(False)
        with pytest.raises(BlockingIOError):
            notify.recv(100)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("{}/missing", "No such file or directory"),
        ("{}/" + "x" * 200, "path too long"),
        ("{}/full", "Resource temporarily unavailable"),
        ("", ""),
    ],
    ids=["missing", "too long", "full", "empty"],
)
def test_it_serves_even_if_systemd_cannot_be_told(tmp_path: Path, name: str, why: str) -> None:
    name = name.format(tmp_path)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        full.bind(str(tmp_path / "full"))
        sender.setblocking(False)
        sender.connect(str(tmp_path / "full"))
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.send(b"x")
        prelude = f"import os; os.environ['NOTIFY_SOCKET'] = {name!r}\n"
        with running(tmp_path, agents=AGENTS, prelude=prelude) as asyd:
            if why:
                asyd.wait_for("systemd cannot be told how asyd is")
            with asyd.connect() as agent:
                assert agent.alive()
            lines = [line for line in asyd.log if "systemd cannot be told" in line]
            assert len(lines) == bool(why)
            assert all(why in line for line in lines)


@pytest.mark.parametrize("stdout", ["closed", "broken", "full"])
def test_it_serves_even_if_nobody_can_be_told(tmp_path: Path, stdout: str) -> None:
    path = tmp_path / "sock"
    read_end, write_end = os.pipe()
    os.close(read_end)
    prelude = {
        "closed": "",
        "broken": f"import os; os.dup2({write_end}, 1)\n",
        "full": "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n",
    }[stdout]
    command = argv(config(tmp_path), "--listen", f"unix:{path}", prelude=prelude)
    if stdout == "closed":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    asyd = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=[write_end]
    )
    os.close(write_end)
    try:
        log = b""
        while b" platform " not in log:
            line = output(asyd.stderr).readline()
            assert line, log
            log += line
        with RawAgent(str(path)) as agent:
            agent.handshake(AGENT)
            assert agent.alive()
        asyd.send_signal(signal.SIGTERM)
        _, rest = asyd.communicate(timeout=PATIENCE)
        assert asyd.returncode == 0
        assert b"Traceback" not in log + rest
        assert b"Exception ignored" not in log + rest
    finally:
        asyd.kill()
        asyd.communicate()


@pytest.mark.parametrize("stderr", ["closed", "broken"])
def test_it_serves_without_a_log(tmp_path: Path, stderr: str) -> None:
    directory = config(tmp_path)
    command = argv(directory)
    redirect = "2>&-" if stderr == "closed" else "2>&1 >&3 3>&- | true"
    script = f'exec 3>&1; "$@" {redirect}' if stderr == "broken" else f'exec "$@" {redirect}'
    asyd = subprocess.Popen(["sh", "-c", script, "sh", *command], stdout=subprocess.PIPE)
    pid = 0
    try:
        found = re.match(rb"READY 127\.0\.0\.1:(\d+) ", output(asyd.stdout).readline())
        assert found is not None
        for _ in range(3):
            with RawAgent(("127.0.0.1", int(found[1]))) as agent:
                agent.handshake(AGENT)
                assert agent.alive()
        pid = asyd.pid if stderr == "closed" else _child(asyd.pid)
        os.kill(pid, signal.SIGTERM)
        assert output(asyd.stdout).read() == b""  # asyd has ended
        assert asyd.wait(PATIENCE) == 0
    finally:
        asyd.kill()
        asyd.communicate()


def _child(pid: int) -> int:
    """The asyd that a shell has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    [found] = [
        int(child) for child in children if b"asys" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return found


# -- the limit of open files


def test_room_is_made_for_all_connections(tmp_path: Path) -> None:
    prelude = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))\n"
    with running(tmp_path, agents=AGENTS, prelude=prelude) as asyd:
        soft, hard = resource.prlimit(asyd.pid, resource.RLIMIT_NOFILE)
        limits = Limits()
        assert soft == limits.sessions + limits.unconfirmed + SPARE_FILES
        assert hard == 4096
        agents = [asyd.connect() for _ in range(60)]
        for agent in agents:
            assert agent.alive()
            agent.close()
        assert not asyd.said("open files")


def test_room_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    prelude = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))\n"
    with running(tmp_path, "--max-sessions", "50", agents=AGENTS, prelude=prelude) as asyd:
        assert resource.prlimit(asyd.pid, resource.RLIMIT_NOFILE) == (200, 200)
        needed = 50 + Limits().unconfirmed + SPARE_FILES
        asyd.wait_for(f"the system allows 200 open files; {needed} are needed for 50 sessions")


def test_room_that_is_there_is_left_alone(tmp_path: Path) -> None:
    prelude = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 4000))\n"
    with running(tmp_path, agents=AGENTS, prelude=prelude) as asyd:
        assert resource.prlimit(asyd.pid, resource.RLIMIT_NOFILE) == (2000, 4000)


# -- the end


@pytest.mark.parametrize("prelude", LOOPS.values(), ids=LOOPS.keys())
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_end(tmp_path: Path, number: signal.Signals, prelude: str) -> None:
    path = tmp_path / "sock"
    directory = config(tmp_path)
    command = argv(directory, "--listen", f"unix:{path}", prelude=prelude)
    asyd = Daemon(directory, command, read_log=True)
    try:
        asyd.await_ready()
        agent, silent = asyd.connect(), asyd.dial()
        assert agent.alive()
        asyd.process.send_signal(number)
        assert agent.ended()
        with pytest.raises(Ended):
            silent.read()
        assert asyd.process.wait(PATIENCE) == 0
        assert not path.exists()
        assert sorted(os.listdir(directory)) == [
            "authorized_agents",
            "id_curve25519",
            "id_curve25519.pub",
            "state",
        ]
        # Where asyd may isolate, the place for what would outlive it stays, empty.
        state = {one.name: one for one in (directory / "state").iterdir()}
        assert state.keys() - {"bpf"} == {"dark", "instructions.json"}
        assert "bpf" not in state or not os.listdir(state["bpf"])
        agent.close()
        silent.close()
    finally:
        asyd.kill()
    assert asyd.log[-1].endswith(" INFO asyd ending") or asyd.said("ending") == 1
    assert not asyd.faults


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with running(tmp_path, agents=AGENTS, read_log=False) as asyd, asyd.connect() as agent:
        with (asyd.config_dir / "authorized_agents").open("a") as file:
            file.write("bad\n" * REPORTED_LINES)
        for _ in range(20):  # far more than a pipe holds
            asyd.process.send_signal(signal.SIGHUP)
            assert agent.alive()


def test_the_next_one_takes_the_place_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        place = tmp_path / name
        with (
            running(place, agents=AGENTS, listen=[f"unix:{path}"]) as asyd,
            asyd.connect() as agent,
        ):
            assert agent.alive()
        assert not path.exists()


def test_the_socket_of_one_that_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    directory = config(tmp_path)
    killed = Daemon(directory, argv(directory, "--listen", f"unix:{path}"), read_log=True)
    try:
        killed.await_ready()
    finally:
        killed.kill()
    assert path.is_socket()
    with faulty(directory, "--listen", f"unix:{path}") as asyd, asyd.connect() as agent:
        assert agent.alive()


# -- what cannot start


def start(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def test_what_is_in_the_way_is_left_alone_and_what_was_made_is_removed(tmp_path: Path) -> None:
    """The first address can be had, the second cannot: it belongs to somebody else."""
    directory = config(tmp_path)
    mine, file, live = tmp_path / "mine", tmp_path / "file", tmp_path / "live"
    file.write_text("precious")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(live))
        other.listen()
        for taken, why in ((file, "is a file that is no socket"), (live, "listens there")):
            addresses = ["--listen", f"unix:{mine}", "--listen", f"unix:{taken}"]
            done = start(*argv(directory, *addresses))
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.splitlines()[-1].startswith(f"asyd: cannot listen on unix:{taken}: ")
            assert why in done.stderr
            assert not mine.exists()
        assert live.is_socket()
    assert file.read_text() == "precious"


def test_a_port_in_use(tmp_path: Path) -> None:
    directory = config(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = start(*argv(directory, "--listen", address))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"asyd: cannot listen on {address}: Address already in use"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["directory", "key", "agents", "damaged"])
def test_files_that_are_not_safe(tmp_path: Path, what: str) -> None:
    directory = config(tmp_path)
    assert start(*argv(directory)[:3], "--config-dir", str(directory), "pubkey").returncode == 0
    path, mode, remedy = {
        "directory": (directory, 0o755, f"run: chmod 700 {directory}"),
        "key": (directory / "id_curve25519", 0o644, "run: chmod 600"),
        "agents": (directory / "authorized_agents", 0o666, "run: chmod 600"),
        "damaged": (directory / "id_curve25519", 0o600, "has 5 bytes, not 32: it is damaged"),
    }[what]
    path.chmod(mode)
    if what == "damaged":
        path.write_bytes(b"short")
    done = start(*argv(directory))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("asyd: ")
    assert remedy in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    if what == "damaged":
        assert path.read_bytes() == b"short"


def test_the_portable_platform(tmp_path: Path) -> None:
    with running(tmp_path, "--portable", "--debug", agents=AGENTS) as asyd:
        asyd.wait_for("platform portable")
        with asyd.connect() as agent:
            assert agent.alive()
            assert agent.ask(agent.throttle(os.getpid())) == b"\x6d\x00"
