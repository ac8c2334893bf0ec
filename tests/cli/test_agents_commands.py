"""`asyd agents` grant, revoke, list and check; and add and remove with what came later."""

from __future__ import annotations

import shlex
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
    WEB_LINE,
    Agents,
    delegate,
    save,
    write,
)
from support.users import NOBODY

# -- add, grant, revoke


def test_add_takes_every_option(agents: Agents) -> None:
    ran = agents(
        *("add", NEW, "--label", "new", "--caps", "core,20,22,C0", "--services", "a,b-*"),
        *("--users", "root", "--vendors", "example.com", "--from", "192.0.2.0/24,unix"),
        *("--rate", "SVC_RESTART:3/h,20:1/s", "--expires", "2100-12-31", "--role", "admin"),
    )
    assert ran.status == 0
    assert agents.line(5) == (
        f"{NEW} new caps=core,20,22,C0 services=a,b-* users=root vendors=example.com "
        "from=192.0.2.0/24,unix rate=SVC_RESTART:3/h,20:1/s expires=2100-12-31 role=admin"
    )
    assert ran.out == f"added: {agents.line(5)}\n"
    where = shlex.quote(str(agents.directory))
    assert ran.err == (
        f"a running asyd takes it over on SIGHUP, or with: asyd reload --config-dir {where}\n"
    )


def test_a_line_that_grants_much_is_pointed_out_at_once(agents: Agents) -> None:
    ran = agents("add", NEW, "--caps", "22")
    assert ran.status == 0
    assert "asyd: warning: line 5: SVC_RESTART is granted for every service" in ran.err
    ran = agents("grant", NEW, "20", "--services", "nginx")
    assert "line 5: PROC_THROTTLE is granted for every user's processes" in ran.err
    assert "SVC_RESTART" not in ran.err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--users", "nobody-has-this-name"], "users=: this machine has no user"),
        (["--services", "a.service"], "services=: 'a.service' must be written without"),
        (["--from", "10.0.0.1/8"], "write 10.0.0.0/8"),
        (["--rate", "SVC_RESTART:3"], "rate=: 'SVC_RESTART:3' is no rate"),
        (["--expires", "tomorrow"], "expires=: 'tomorrow' is no day"),
        (["--vendors", "23"], "vendors=: '23' is no vendor"),
        (["--role", "root"], "role=: 'root' is no role; there is admin"),
        (["--services", "a b"], "services=: 'a b' has blanks"),
    ],
)
@pytest.mark.parametrize("action", ["add", "grant"])
def test_options_that_mean_nothing(
    agents: Agents, action: str, options: list[str], why: str
) -> None:
    before = agents.files()
    ran = agents(action, NEW if action == "add" else "web", *options)
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert ran.err.startswith("asyd: ")
    assert why in ran.err
    assert agents.files() == before


def test_grant_and_revoke_say_what_was_and_what_is(agents: Agents) -> None:
    before = agents.line(WEB_LINE)
    ran = agents("grant", "web", "14", "--expires", "2100-01-01")
    after = agents.line(WEB_LINE)
    assert after == before.replace("process", "process,14") + " expires=2100-01-01"
    assert ran.out.splitlines() == [
        f"line    {WEB_LINE}",
        f"before  {before}",
        f"now     {after}",
        "holds   core,process,ABANDON",
    ]
    assert "asyd reload" in ran.err
    ran = agents("revoke", WEB.upper(), "process", "--without", "expires", "--without", "users")
    assert ran.status == 0
    assert agents.line(WEB_LINE) == (
        f"{WEB} web caps=core,ABANDON services=nginx*,web from=10.0.0.0/8,unix"
    )


def test_what_stands_behind_an_option_counts(agents: Agents) -> None:
    ran = agents("grant", "--label", "www", "web", "--services", "nginx", "14")
    assert ran.status == 0
    assert agents.line(WEB_LINE).startswith(f"{WEB} www caps=core,process,14 services=nginx ")


def test_what_changes_nothing_needs_no_reload(agents: Agents) -> None:
    before = agents.files()
    ran = agents("grant", "web", "SVC_RESTART")
    assert (ran.status, ran.err) == (0, "")
    assert "now     the same\n" in ran.out
    assert agents.files() == before


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["grant", "web"], 2, "nothing to change is named; see: asyd agents grant --help"),
        (["revoke", "web"], 2, "nothing to change is named; see: asyd agents revoke --help"),
        (["grant", "web", "--users", "0", "--without", "users"], 2, "leave one of them out"),
        (["grant", "nobody", "20"], 1, "no agent has the key or label 'nobody'; see: asyd agents"),
        (["revoke", "web", "core,process"], 1, "to shut it out, remove it: asyd agents remove"),
        (["grant", "web", "nonsense"], 1, "caps=: 'nonsense' is no instruction"),
        (["show", "nobody"], 1, "no agent has the key or label 'nobody'; see: asyd agents list"),
        (["test", "nobody", "20"], 1, "no agent has the key or label 'nobody'"),
    ],
)
def test_what_is_refused(agents: Agents, words: list[str], status: int, why: str) -> None:
    before = agents.files()
    ran = agents(*words)
    assert (ran.status, ran.out) == (status, "")
    assert why in ran.err
    assert agents.files() == before


# -- agents that agents have added


@pytest.mark.parametrize("action", ["grant", "revoke", "remove"])
@pytest.mark.parametrize("who", ["hand", HAND.upper()])
def test_an_added_agent_belongs_to_another(
    agents: Agents, state: Path, action: str, who: str
) -> None:
    before = agents.files()
    ran = agents(action, who, *([] if action == "remove" else ["20"]))
    assert (ran.status, ran.out) == (1, "")
    assert "asyd: hand has no line: deputy has added it" in ran.err
    assert agents.files() == before
    remedy = shlex.split(ran.err.rpartition(": ")[2])
    assert remedy[:4] == ["asyd", "agents", "add", HAND]
    assert main(remedy[1:]) == 0
    (origin,) = agents("show", HAND).rows["comes from"]
    assert origin.endswith(f"line 5, {HAND[:8]}: core")


def test_what_else_is_wrong_is_said_of_a_line(agents: Agents, state: Path) -> None:
    ran = agents("grant", "web", "nonsense")
    assert "added it" not in ran.err
    save(state, delegate(DEPUTY, BOSS, "core,60", "web"))
    ran = agents("grant", "web", "nonsense")
    assert "caps=: 'nonsense'" in ran.err


def test_list_has_them(agents: Agents, state: Path) -> None:
    ran = agents("list")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"{BOSS} boss caps=all,security rate=SVC_RESTART:3/h role=admin",
        f"{WEB} web caps=core,process services=nginx*,web users=0,{NOBODY} from=10.0.0.0/8,unix",
        f"{DEPUTY} deputy caps=core,security,ABANDON,PROC_THROTTLE,SVC_RESTART added by boss",
        f"{HAND} hand caps=core,PROC_THROTTLE added by deputy",
    ]


def test_list_says_who_has_expired(agents: Agents, state: Path) -> None:
    write(agents.directory, TEXT.replace("role=admin", "expires=2001-01-01"))
    ran = agents("list")
    assert "expires=2001-01-01 (expired)\n" in ran.out
    assert f"{HAND} hand expired added by deputy\n" in ran.out


# -- check


def test_check(agents: Agents) -> None:
    path = agents.directory / "authorized_agents"
    write(agents.directory, f"{WEB} web caps=core\n")
    ran = agents("check", "--strict")
    assert (ran.status, ran.out, ran.err) == (0, "", "1 agent, 0 errors, 0 warnings\n")
    write(agents.directory, f"{WEB} web caps=22\n")
    ran = agents("check")
    assert (ran.status, ran.err) == (0, "1 agent, 0 errors, 1 warning\n")
    assert ran.out.startswith(f"{path}:1: warning: SVC_RESTART is granted for every service; say ")
    assert agents("check", "--strict").status == 1
    write(agents.directory, f"{WEB} web caps=22\n\n{NEW} \x1b[2J\n{NEW} new x=\n")
    ran = agents("check")
    assert (ran.status, ran.err) == (1, "1 agent, 2 errors, 1 warning\n")
    assert [line.partition(": ")[0] for line in ran.out.splitlines()] == [
        f"{path}:1",
        f"{path}:3",
        f"{path}:4",
    ]
    assert ": error: " in ran.out
    assert "\x1b" not in ran.out


def test_check_of_a_file_that_is_not_there(agents: Agents) -> None:
    (agents.directory / "authorized_agents").unlink()
    ran = agents("check")
    assert (ran.status, ran.out) == (0, "")
    assert "authorized_agents: nobody may connect\n" in ran.err
    assert "0 agents" in ran.err
