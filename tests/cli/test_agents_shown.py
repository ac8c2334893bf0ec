"""`asyd agents show` and `test`: what an agent holds, and what it would be answered."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from asys.cli.daemon import main
from support.admin_cli import (
    BOSS,
    DEPUTY,
    HAND,
    NEW,
    TEXT,
    WEB,
    Agents,
    delegate,
    save,
    write,
)
from support.children import suspended, waiting
from support.daemon import AGENT, COMMAND, PATIENCE, STRANGER, running
from support.supervised import supervisord
from support.users import NOBODY

# -- show


def test_show_a_line(agents: Agents) -> None:
    rows = agents("show", "web").rows
    path = agents.directory / "authorized_agents"
    assert rows == {
        "key": [WEB],
        "label": ["web"],
        "holds": [
            "core,process",
            "00 SYS_CAPS       line 4",
            "01 SYS_HELLO      line 4",
            "02 SYS_STATUS     line 4",
            "03 SYS_PROCS      line 4",
            "11 TASK_QUERY     line 4",
            "13 REKEY          line 4",
            f"20 PROC_THROTTLE  line 4; users=0,{NOBODY}",
            f"21 NET_ISOLATE    line 4; users=0,{NOBODY}",
            "22 SVC_RESTART    line 4; services=nginx*,web",
            "and 13 codes that this version has no instruction for",
        ],
        "lacks": [
            "TASK_CANCEL,ABANDON,LOG_SUMMARY,LOG_DETAIL,PROC_TREE,AGENT_ADD,AGENT_REMOVE,AGENT_LIST"
        ],
        "comes from": [f"{path} line 4, web: core,process"],
        "services": ["nginx*, web"],
        "users": [f"processes of root (uid 0), nobody (uid {NOBODY})"],
        "connects": ["from 10.0.0.0/8,unix"],
        "ends": ["never"],
    }


def test_show_a_chain(agents: Agents, state: Path) -> None:
    write(agents.directory, TEXT.replace("all,security", "core,20,security users=0"))
    ran = agents("show", "hand")
    assert (ran.status, ran.err) == (0, "")
    rows = ran.rows
    assert rows["holds"][0] == "core,PROC_THROTTLE"
    through = "line 2, through boss, through deputy"
    assert rows["holds"][1] == f"00 SYS_CAPS       {through}"
    assert rows["holds"][-1] == f"20 PROC_THROTTLE  {through}; users=0"
    root, deputy, hand = rows["comes from"]
    assert root.endswith("authorized_agents line 2, boss: core,security,PROC_THROTTLE")
    assert deputy == (
        "deputy, added by boss: core,security,ABANDON,PROC_THROTTLE,SVC_RESTART; the chain leaves "
        "core,security,PROC_THROTTLE"
    )
    assert hand.startswith("hand, added by deputy until 2")
    assert hand.endswith("UTC: core,PROC_THROTTLE,33; the chain leaves core,PROC_THROTTLE")
    assert rows["rates"] == ["SVC_RESTART:3/h, for line 2 and all that is added below it together"]
    assert rows["ends"][0].endswith("UTC")
    assert "role" not in rows  # it is never handed on
    assert agents("show", "boss").rows["role"][0].startswith("admin: ")


def test_show_in_the_dark(agents: Agents, state: Path) -> None:
    (state / "dark").write_bytes(b"1")
    (state / "dark").chmod(0o600)
    ran = agents("show", "web")
    assert (ran.status, ran.err) == (0, "")
    assert ran.rows["dark"] == ["the node is dark: core is in force; to lift it, run: asyd light"]
    assert [row.endswith("; dark now") for row in ran.rows["holds"][7:9]] == [True, True]
    assert not any("dark now" in row for row in ran.rows["holds"][:7])
    ran = agents("test", "web", "PROC_THROTTLE", "1")
    assert ran.rows["rule"][0].startswith("the node is dark")
    assert "every agent is down to core" in agents("list").err


@pytest.mark.parametrize(
    ("text", "who", "why"),
    [
        (f"{WEB} web caps=nonsense\n", "web", "line 1 grants nothing: caps=: 'nonsense'"),
        (f"{WEB} web\n{WEB} web\n", WEB, "line 2 grants nothing: the key of line 1 stands here"),
        (f"{WEB} web expires=2001-01-01\n", "web", "line 1 has expired with 2001-01-01"),
        (TEXT, NEW, "no line of authorized_agents is about this key, and no agent has added it"),
        (f"{BOSS} b expires=2001-01-01\n", HAND, "deputy was added by b, and line 1 has expired"),
        (
            f"{BOSS} caps=nonsense\n",
            DEPUTY,
            f"deputy was added by {BOSS[:8]}, and line 1 grants nothing: caps=",
        ),
        ("", HAND, f"it was added below {BOSS}, which is no agent any more"),
    ],
)
def test_who_holds_nothing(agents: Agents, state: Path, text: str, who: str, why: str) -> None:
    write(agents.directory, text)
    ran = agents("show", who)
    assert (ran.status, ran.out) == (1, "")
    assert f"asyd: {who!r} holds nothing: " in ran.err
    assert why in ran.err
    ran = agents("test", who, "SYS_HELLO")
    assert (ran.status, ran.err) == (1, "")
    assert list(ran.rows) == ["6982", "rule", "note"]
    assert why in ran.rows["rule"][0]


def test_who_was_added_for_a_time_that_is_over(agents: Agents, state: Path) -> None:
    save(state, delegate(DEPUTY, BOSS, "core,60", "deputy", 1_000_000_000))
    for who in (DEPUTY, "hand"):
        ran = agents("show", who)
        assert "deputy, added by boss, expired at 2001-09-09 01:46:40 UTC" in ran.err


def test_who_was_added_by_somebody_who_has_a_line_by_now(agents: Agents, state: Path) -> None:
    write(agents.directory, f"{TEXT}{DEPUTY} own caps=all,security\n")
    ran = agents("show", HAND)
    assert (ran.status, ran.out) == (1, "")
    assert "hand was added by own, and went when that got line 5 of its own" in ran.err
    assert agents("show", "own").rows["comes from"][0].endswith("line 5, own: all,security")


def test_the_key_of_the_node_is_no_agent(agents: Agents, state: Path) -> None:
    (agents.directory / "id_curve25519.pub").write_bytes(bytes.fromhex(DEPUTY))
    assert "deputy was added by boss, and is left out" in agents("show", DEPUTY).err
    ran = agents("test", "boss", "AGENT_ADD", DEPUTY, "core")
    assert (ran.status, next(iter(ran.rows))) == (1, "6A80")
    assert ran.rows["rule"] == ["the key is the node's own"]


def test_two_agents_of_one_label(agents: Agents, state: Path) -> None:
    save(state, delegate(DEPUTY, BOSS, "core,60", "web"))
    ran = agents("show", "web")
    assert (ran.status, ran.out) == (1, "")
    assert "more than one agent has the label 'web'; name its key" in ran.err
    assert agents("show", DEPUTY).status == 0


# -- what cannot be read


@pytest.mark.parametrize("damage", ["{", '{"version": 9, "agents": []}'])
def test_damaged_state_does_not_stop_show_and_test_of_lines(
    agents: Agents, state: Path, damage: str
) -> None:
    (state / "delegated_agents.json").write_text(damage)
    for ran in (agents("show", "web"), agents("test", "web", "SYS_HELLO")):
        assert ran.status == 0
        assert "asyd: no agent that an agent has added is known: " in ran.err
        assert "delegated_agents.json is damaged" in ran.err
    ran = agents("list")
    assert (ran.status, ran.out.count("\n")) == (1, 2)
    assert "no agent that is known has added it" in agents("show", HAND).err


@pytest.mark.parametrize("words", [["show", "web"], ["test", "web", "SYS_HELLO"]])
def test_without_a_state_directory(agents: Agents, words: list[str]) -> None:
    ran = agents(*words)
    assert ran.status == 0
    assert ran.err.startswith(f"asyd: there is no {agents.directory}/state: no asyd has run here")
    assert ran.err.count("\n") == 1


def test_a_state_directory_of_another_place(agents: Agents, state: Path) -> None:
    elsewhere = agents.directory.parent / "elsewhere"
    state.rename(elsewhere)
    assert agents("show", "hand", "--state-dir", str(elsewhere)).status == 0
    assert agents("show", "hand").status == 1


def test_a_dark_flag_that_says_neither(agents: Agents, state: Path) -> None:
    (state / "dark").write_bytes(b"?")
    (state / "dark").chmod(0o600)
    ran = agents("show", "web")
    assert "asyd: every agent is down to core, as it cannot be told whether" in ran.err
    assert "dark" in ran.rows


@pytest.mark.parametrize(
    "words",
    [
        *(["show", who] for who in ("web", "hand", "nobody")),
        *(["test", "boss", "AGENT_ADD", NEW, "core"], ["test", "boss", "AGENT_REMOVE", DEPUTY]),
        *(["test", "web", "PROC_THROTTLE", "1"], ["check"], ["check", "--strict"], ["list"]),
    ],
)
def test_looking_writes_nothing(agents: Agents, state: Path, words: list[str]) -> None:
    """Not even the node's key, which the daemon makes at its first start."""
    before = agents.files()
    agents(*words)
    assert agents.files() == before
    assert not (agents.directory / "id_curve25519").exists()


@pytest.mark.parametrize("words", [["show", "web"], ["test", "web", "20"], ["check"]])
def test_a_directory_that_is_not_there_is_not_made(agents: Agents, words: list[str]) -> None:
    agents.directory = agents.directory.parent / "missing"
    ran = agents(*words)
    assert (ran.status, ran.out) == (1, "")
    assert "missing is no directory; name the node's with --config-dir" in ran.err
    assert not agents.directory.exists()


# -- test


@pytest.mark.parametrize(
    ("words", "status", "sw", "rule"),
    [
        (["boss", "SYS_HELLO"], 0, "9000", "line 2 grants SYS_HELLO"),
        (["boss", "sys-hello"], 0, "9000", "line 2 grants SYS_HELLO"),
        (["boss", "01"], 0, "9000", "line 2 grants SYS_HELLO"),
        (["boss", "TASK_QUERY", "0x10001"], 0, "9000", "line 2 grants TASK_QUERY"),
        (["hand", "SYS_HELLO"], 0, "9000", "line 2 grants SYS_HELLO, handed on by boss and then"),
        (["web", "AGENT_LIST"], 1, "6A81", "line 4 does not grant AGENT_LIST"),
        (["hand", "SVC_RESTART", "web"], 1, "6A81", "deputy has not handed SVC_RESTART on to hand"),
        (["boss", "30"], 1, "6A81", "this version has no instruction 30"),
        (["boss", "FF"], 1, "6A81", "line 2 does not grant FF"),
        (["web", "PROC_THROTTLE", "1"], 1, "6982", "PID 1 is protected for everybody"),
        (["web", "NET_ISOLATE", "1", "isolate", "--portable"], 1, "6D00", "cut off the network"),
        (["boss", "SVC_RESTART", "web", "--portable"], 1, "6D00", "there is no service manager"),
        (["boss", "LOG_SUMMARY", "--portable"], 1, "6D00", "there are no logs that asyd could"),
        (["boss", "PROC_TREE", "--portable"], 1, "6D00", "who started whom cannot be told"),
        (["boss", "CONTINUE"], 1, "6A81", "it holds nothing that may come in fragments"),
        (["web", "PROC_THROTTLE", "0"], 1, "6A80", "PROC_THROTTLE takes PID (process id), ACTION"),
        (["web", "PROC_THROTTLE", "4294967295", "continue"], 1, "6A80", "no process can have"),
        (["boss", "AGENT_ADD", NEW, "core"], 0, "9000", "line 2 grants AGENT_ADD"),
        (["boss", "AGENT_ADD", NEW, "C0"], 1, "6982", "the map is not within the caller's"),
        (["boss", "AGENT_ADD", NEW, "", "5", "a b"], 1, "6A80", "has characters other than"),
        (["boss", "AGENT_ADD", WEB, ""], 1, "6A80", "the key is known already"),
        (["boss", "AGENT_REMOVE", HAND], 0, "9000", "line 2 grants AGENT_REMOVE"),
        (["boss", "AGENT_REMOVE", WEB], 1, "6982", "the key stands in authorized_agents"),
        (["boss", "AGENT_REMOVE", NEW], 1, "6A80", "no agent below the caller has this key"),
        (["boss", "SYS_CAPS", "3"], 0, "9000", "line 2 grants SYS_CAPS"),
        (["boss", "SYS_CAPS", "4"], 1, "6A80", "4 is not within 0 to 3"),
        (["web", "20", "--mode", "monitor"], 1, "6D00", "in monitor mode nobody has more than"),
        (["web", "20", "1", "--portable"], 1, "6D00", "processes cannot be held on this machine"),
    ],
)
def test_what_would_be_answered(
    agents: Agents, state: Path, words: list[str], status: int, sw: str, rule: str
) -> None:
    ran = agents("test", *words)
    assert (ran.status, ran.err) == (status, "")
    assert list(ran.rows)[:2] == [sw, "rule"]
    assert rule in ran.rows["rule"][0]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["zz"], "'zz' is no instruction's name or two-digit hex code; there are SYS_CAPS, "),
        (["1"], "'1' is no instruction's name"),
        (["SYS_HELLO", "1"], "SYS_HELLO takes no arguments; given: 1"),
        (["PROC_THROTTLE"], "PROC_THROTTLE takes PID [ACTION]; given: none"),
        (["PROC_THROTTLE", "1", "stop", "3"], "takes PID [ACTION]; given: 1 stop 3"),
        (["PROC_THROTTLE", "x"], "PROC_THROTTLE: 'x' is no PID (process id)"),
        (["PROC_THROTTLE", "-5"], "'-5' is no PID (process id): it is 0 to 4294967295"),
        (["PROC_THROTTLE", "4294967296"], "it is 0 to 4294967295"),
        (["PROC_THROTTLE", "1", "freeze"], "action must be one of 'stop', 'continue'"),
        (["TASK_QUERY"], "TASK_QUERY takes HANDLE; given: none"),
        (["AGENT_ADD", "0011", ""], "64 hex digits are needed"),
        (["AGENT_ADD", "x", ""], "'x' is no KEY (static public key of the agent)"),
        (["AGENT_ADD", NEW, "nonsense"], "AGENT_ADD: capability map: 'nonsense' is no"),
        (["AGENT_ADD", NEW, "", "-1"], "'-1' is no TTL_S"),
        (["AGENT_ADD", NEW, "", "0", "a" * 256], "at most 255 ASCII characters can be sent"),
        (["AGENT_ADD", NEW, "", "0", "\N{SNOWMAN}"], "at most 255 ASCII characters"),
        (["SYS_HELLO", "--supervisord", "nowhere"], "--supervisord: only unix:///PATH and"),
    ],
)
def test_what_cannot_be_asked(agents: Agents, state: Path, words: list[str], why: str) -> None:
    ran = agents("test", "boss", *words)
    assert (ran.status, ran.out) == (2, "")
    assert why in ran.err
    assert ran.err.count("\n") == 1


def test_what_is_lacking_can_be_granted(agents: Agents, state: Path) -> None:
    ran = agents("test", "web", "ABANDON")
    remedy = shlex.split(ran.rows["note"][0].partition("run: ")[2])
    assert remedy[:3] == ["asyd", "agents", "grant"]
    assert main(remedy[1:]) == 0
    assert agents("test", "web", "ABANDON").status == 0
    assert "note" not in agents("test", "hand", "ABANDON").rows


def test_what_it_hangs_on_is_said(agents: Agents, state: Path) -> None:
    with supervisord({"web": "sleep infinity"}) as url:
        ran = agents("test", "deputy", "SVC_RESTART", "web", "--supervisord", url)
    assert ran.status == 0
    assert ran.rows["rule"] == [
        "line 2 grants SVC_RESTART, handed on by boss, without services=, so for all services"
    ]
    queued, rate = ran.rows["note"]
    assert queued.startswith("it would restart all:web; 9000 says that this is queued")
    assert rate.startswith("line 2 has rate=SVC_RESTART:3/h for this agent and all that hang on")
    notes = agents("test", "web", "SYS_HELLO").rows["note"]
    assert notes == ["line 4 has from=10.0.0.0/8,unix: from elsewhere it cannot connect (6982)"]
    assert agents("test", "hand", "SYS_HELLO").rows["note"][0].startswith("this ends at 2")


@pytest.mark.parametrize(
    ("name", "sw", "rule"),
    [
        ("web", "9000", "services=all:w* matches all:web"),
        ("db", "6982", "line 1: services=all:w* does not match all:db"),
        ("dbus-daemon", "6982", "all:dbus-daemon is protected for everybody: the message bus"),
        ("web.service", "6A80", "NAME (service name without .service)"),
        ("", "6700", "NAME (service name without .service)"),
        ("w" * 65, "6A80", "has 65 characters, not 1 to 64"),
    ],
)
def test_a_real_service_manager(agents: Agents, name: str, sw: str, rule: str) -> None:
    write(agents.directory, f"{WEB} web caps=22 services=all:w*\n")
    programs = dict.fromkeys(("web", "db", "dbus-daemon"), "sleep infinity")
    with supervisord(programs) as url:
        ran = agents("test", "web", "SVC_RESTART", name, "--supervisord", url)
    assert list(ran.rows)[:2] == [sw, "rule"]
    assert rule in ran.rows["rule"][0]


def test_a_service_manager_that_does_not_answer(agents: Agents, state: Path) -> None:
    url = f"unix://{agents.directory.parent}/none"
    ran = agents("test", "boss", "SVC_RESTART", "web", "--supervisord", url)
    assert ran.status == 1
    assert next(iter(ran.rows)).startswith("6F")
    assert ran.rows["rule"][0].startswith("supervisord cannot be asked: ")


def test_real_processes_and_a_running_asyd(tmp_path: Path) -> None:
    """A process of its own asks the kernel whom asyd protects, and touches nobody."""
    lines = {AGENT: f"agent caps=core,20 users={os.geteuid()}", STRANGER: "other users=4711"}
    lines[STRANGER] += " caps=20"

    def tried(config: Path, who: str, pid: int) -> tuple[int, str]:
        words = ["agents", "test", who, "PROC_THROTTLE", str(pid), "--config-dir", str(config)]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    with running(tmp_path, agents=lines) as asyd, waiting() as child:
        config = asyd.config_dir
        status, out = tried(config, "agent", child.pid)
        assert (status, out[:4]) == (0, "9000")
        assert f"users={os.geteuid()} has its owner" in out
        status, out = tried(config, "other", child.pid)
        assert (status, out[:4]) == (1, "6982")
        assert f"line 2: users=4711 does not have the owner of PID {child.pid}, " in out
        for pid in (asyd.pid, os.getpid()):
            status, out = tried(config, "agent", pid)
            assert (status, out[:4]) == (1, "6982")
            assert f"PID {pid} is protected for everybody: asyd or an ancestor of it" in out
        with asyd.connect() as agent:  # the child was left alone, and this stops it
            assert agent.ask(agent.throttle(child.pid)) == b"\x90\x00"
            suspended(child.pid)
