"""`users=` and `services=`: whom PROC_THROTTLE and SVC_RESTART may touch, for one agent."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.children import gone, suspended, waiting, zombie
from support.daemon import AGENT, COMMAND, CORE_AGENT, STRANGER, Daemon, running
from support.frames import DENIED, INVALID_PAYLOAD, OK, WRONG_LENGTH, frame
from support.raw_agent import RawAgent
from support.supervised import FOR_EVER, supervisord
from support.systemd_box import Gate, SystemdBox, systemd_box_missing
from support.users import NOBODY

MINE = os.geteuid()
ELSE = 54_321
"""A uid that no process has."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node whose agents tests decide on; it restarts programs of a supervisord."""
    programs = dict.fromkeys(("web-1", "web-2", "db", "dbus"), "sleep infinity")
    with (
        supervisord(programs, startsecs=FOR_EVER) as url,
        running(
            tmp_path_factory.mktemp("asyd"),
            *("--supervisord", url, "--handshake-rate", "0"),
            agents={},
        ) as daemon,
    ):
        yield daemon


@contextmanager
def holding(node: Daemon, options: str) -> Iterator[RawAgent]:
    """A session of an agent with these options."""
    node.reload({AGENT: f"agent caps=all {options}"})
    with node.connect() as agent:
        yield agent


# -- users=


def test_without_users_everybodys_processes_may_be_touched(node: Daemon) -> None:
    with holding(node, "") as agent, waiting() as child:
        assert agent.ask(agent.throttle(child.pid)) == OK


@pytest.mark.parametrize("users", [f"{MINE}", f"{ELSE},{MINE}"])
def test_own_uid(node: Daemon, users: str) -> None:
    with holding(node, f"users={users}") as agent, waiting() as child:
        assert agent.ask(agent.throttle(child.pid)) == OK
        suspended(child.pid)


def test_anothers_process_is_outside_both_ways(node: Daemon) -> None:
    with holding(node, f"users={ELSE}") as agent, waiting() as child:
        for action in (0, 1):
            assert agent.ask(agent.throttle(child.pid, action)) == DENIED
        state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state != "T"


@pytest.mark.root
def test_by_uid_and_by_name_as_root(node: Daemon) -> None:
    with waiting(user=NOBODY) as theirs, waiting() as mine:
        with holding(node, "users=root") as agent:
            assert agent.ask(agent.throttle(theirs.pid)) == DENIED
            assert agent.ask(agent.throttle(mine.pid)) == OK
        for users in ("nobody", f"{NOBODY}"):
            with holding(node, f"users={users}") as agent:
                assert agent.ask(agent.throttle(theirs.pid)) == OK
                assert agent.ask(agent.throttle(mine.pid)) == DENIED
        with holding(node, "users=root,nobody") as agent:
            assert agent.ask(agent.throttle(theirs.pid)) == OK
            assert agent.ask(agent.throttle(mine.pid)) == OK


@pytest.mark.parametrize("users", ["", f"users={MINE}", "users=0", f"users={ELSE}"])
def test_no_scope_lifts_a_permanent_refusal(node: Daemon, users: str) -> None:
    with holding(node, users) as agent:
        for pid in {1, node.pid, os.getpid()}:
            assert agent.ask(agent.throttle(pid)) == DENIED
            assert agent.ask(agent.throttle(pid, 1)) == DENIED


def test_a_scope_follows_the_file(node: Daemon) -> None:
    with holding(node, f"users={MINE}") as agent, waiting() as child:
        assert agent.ask(agent.throttle(child.pid)) == OK
        node.reload({AGENT: f"agent caps=all users={ELSE}"})
        assert agent.ask(agent.throttle(child.pid, 1)) == DENIED
        node.reload({AGENT: "agent caps=all"})
        assert agent.ask(agent.throttle(child.pid, 1)) == OK


def test_scopes_of_two_agents_do_not_mix(node: Daemon) -> None:
    node.reload({AGENT: f"a caps=all users={MINE}", CORE_AGENT: f"b caps=all users={ELSE}"})
    with node.connect() as one, node.connect(CORE_AGENT) as other, waiting() as child:
        for _ in range(2):
            assert other.ask(other.throttle(child.pid)) == DENIED
            assert one.ask(one.throttle(child.pid)) == OK


def test_scope_stands_behind_parameters_and_before_target(node: Daemon) -> None:
    """6982 for a process outside, and 6A80 for one that is not there: the two can be told apart."""
    with holding(node, f"users={ELSE}") as agent, waiting() as child, zombie() as dead:
        assert agent.ask(frame(0x20, child.pid.to_bytes(4, "big"))) == DENIED
        assert agent.ask(agent.signed(0x20, bytes(3))) == WRONG_LENGTH
        assert agent.ask(agent.throttle(child.pid, 2)) == INVALID_PAYLOAD
        assert agent.ask(agent.throttle(0)) == INVALID_PAYLOAD
        assert agent.ask(agent.throttle(child.pid)) == DENIED
        assert agent.ask(agent.throttle(gone())) == INVALID_PAYLOAD
        assert agent.ask(agent.throttle(dead)) == DENIED  # whose zombie it is can be seen


# -- services=


def test_globs_of_a_supervisord(node: Daemon) -> None:
    """Programs of a group have its name in front, as supervisord calls them."""
    with holding(node, "services=all:web-?") as agent:
        assert agent.ask(agent.restart("web-1"))[4:] == OK
        assert agent.ask(agent.restart("web-2"))[4:] == OK
        assert agent.ask(agent.restart("db")) == DENIED
        assert agent.ask(agent.restart("all")) == DENIED  # the whole group, db too
        assert agent.ask(agent.restart("no-such")) == DENIED
    with holding(node, "services=d*,all:db") as agent:
        assert agent.ask(agent.restart("db"))[4:] == OK
        assert agent.ask(agent.restart("web-1")) == DENIED
        assert agent.ask(agent.restart("different"))[4:] == OK  # inside, and there is none
    with holding(node, "services=*") as agent:
        assert agent.ask(agent.restart("web-1"))[4:] == OK
        assert agent.ask(agent.restart("dbus")) == DENIED  # nobody's


def test_a_task_under_way_is_not_shown_to_who_may_not_touch_it_any_more(node: Daemon) -> None:
    with holding(node, "services=all:web-1") as agent:
        handle = agent.ask(agent.restart("web-1"))[:4]
        assert agent.ask(agent.restart("web-1")) == handle + OK
        node.reload({AGENT: "agent caps=all services=all:db"})
        assert agent.ask(agent.restart("web-1")) == DENIED
        assert agent.ask(frame(0x11, handle)) == b"\0" + OK
        node.reload({AGENT: "agent caps=all services=all:web-1"})
        assert agent.ask(agent.restart("web-1")) == handle + OK


# -- services= and SIGHUP with a real systemd


class BoxedNode:
    """An asyd as root beside a systemd in its box, spoken to from outside."""

    def __init__(self, box: SystemdBox, gate: Gate) -> None:
        self.box = box
        self.gate = gate
        name = f"asyd-{secrets.token_hex(4)}"
        self._config = box.share / name
        self._config.mkdir(mode=0o700)
        self._write("caps=core")
        self._asyd = box.popen(
            *(sys.executable, "-c", COMMAND, "--handshake-rate", "0"),
            *("--config-dir", f"/run/box/{name}", "--listen", f"unix:/run/box/{name}.sock"),
        )
        assert self._asyd.stdout is not None
        assert self._asyd.stdout.readline().startswith("READY ")
        self._address = f"{box.share / name}.sock"

    def _write(self, options: str) -> None:
        path = self._config / "authorized_agents"
        lines = f"{AGENT.public.hex()} agent {options}\n{STRANGER.public.hex()} stays\n"
        path.write_text(lines)
        path.chmod(0o600)

    def reload(self, options: str) -> None:
        """Changes what the agent holds; in force when it returns."""
        self._write(options)
        argv = (sys.executable, "-c", COMMAND, "reload", "--config-dir", str(self._config))
        subprocess.run(argv, check=True, capture_output=True)

    def connect(self) -> RawAgent:
        """A session."""
        agent = RawAgent(self._address)
        agent.handshake(AGENT)
        return agent

    def end(self) -> None:
        """Stops it, as an admin would."""
        self.box.signal(self._asyd, signal.SIGTERM)


@pytest.fixture(scope="module")
def box() -> Iterator[SystemdBox]:
    missing = systemd_box_missing()
    if missing:
        pytest.skip(f"a systemd of its own {missing}")
    with SystemdBox() as made:
        yield made


@pytest.fixture(scope="module")
def boxed(box: SystemdBox) -> Iterator[BoxedNode]:
    gate = Gate(box.share)
    node = BoxedNode(box, gate)
    yield node
    node.end()
    box.end_children()
    gate.close()


def alias(box: SystemdBox, service: str, name: str) -> None:
    """Another name of a unit."""
    (box.path("/run/systemd/system") / f"{name}.service").symlink_to(f"{service}.service")
    box.run("systemctl", "daemon-reload")


@pytest.mark.root
def test_a_name_stands_for_the_unit_behind_it(box: SystemdBox, boxed: BoxedNode) -> None:
    """An alias inside the globs does not let a unit in that is outside, nor the reverse."""
    service, other = box.service(), box.service()
    alias(box, service, "alias-of-it")
    with boxed.connect() as agent:
        boxed.reload(f"caps=all services={service}")
        assert agent.ask(agent.restart(service))[4:] == OK
        assert agent.ask(agent.restart("alias-of-it"))[4:] == OK
        assert agent.ask(agent.restart(other)) == DENIED
        boxed.reload("caps=all services=alias-*")
        assert agent.ask(agent.restart("alias-of-it")) == DENIED
        assert agent.ask(agent.restart(service)) == DENIED
        assert agent.ask(agent.restart("alias-of-none"))[4:] == OK  # its name is all there is
        assert agent.ask(agent.restart("no-such")) == DENIED


@pytest.mark.root
@pytest.mark.parametrize("services", ["", "services=*", "services=systemd-journald,dbus"])
def test_no_scope_lifts_a_refusal_of_a_unit(boxed: BoxedNode, services: str) -> None:
    boxed.reload(f"caps=all {services}")
    with boxed.connect() as agent:
        for name in ("systemd-journald", "dbus"):
            assert agent.ask(agent.restart(name)) == DENIED


@pytest.mark.root
def test_a_running_restart_goes_on_when_its_agent_may_no_longer(
    box: SystemdBox, boxed: BoxedNode
) -> None:
    service = box.service(boxed.gate.wait, Type="oneshot", RemainAfterExit="yes")
    boxed.reload("caps=all")
    with boxed.connect() as agent:
        handle = agent.ask(agent.restart(service))[:4]
        query = frame(0x11, handle)
        boxed.reload("caps=core")
        assert agent.ask(agent.restart(service)) == b"\x6a\x81"
        assert agent.ask(query) == b"\0" + OK
        boxed.gate.open()
        box.run("systemctl", "start", service)  # waits for the job that is under way
        assert box.property(service, "ActiveState") == "active"
        while (state := agent.ask(query)) == b"\0" + OK:
            pass  # systemd has told; asyd hears of it at once
        assert state == b"\1" + OK
        assert agent.ask(query) == b"\xff" + OK
