"""What asyd says of itself: each thing is done on a real one, and exactly its figures move.

Every scrape is taken over the admin socket and over HTTP, and both must say the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.cli.control_commands import ask
from asys.node.descriptors import RESERVE
from asys.node.disk.places import places
from support.asyd_cli import told
from support.chained import PRELUDE
from support.children import waiting
from support.daemon import AGENT, CORE_AGENT, STRANGER, Daemon, running
from support.frames import DENIED, HELLO, NO_SUCH_INSTRUCTION, OK, STATUS, frame
from support.metrics import asked, endpoint, fetched, moved, parsed, scraped, until
from support.own_daemon import argv
from support.raw_agent import Ended, RawAgent
from support.rings import ring_of
from support.shadow_daemon import followed_config, real_collector, until_flags
from support.supervised import FOR_EVER, supervisord
from support.vendors import Packages

AGENTS = {AGENT: "zebra caps=all", CORE_AGENT: "okapi caps=core from=127.0.0.0/8"}
METRICS = ("--metrics", "0")


def answers(**by_status: int) -> dict[str, float]:
    """So many answers with each status word, written s9000."""
    return {
        f'asyd_answers_total{{status="{word.removeprefix("s")}"}}': count
        for word, count in by_status.items()
    }


def closed(reason: str) -> dict[str, float]:
    """One session less."""
    ended = f'asyd_sessions_closed_total{{reason="{reason}"}}'
    return {"asyd_sessions": -1, "asyd_connections": -1, ended: 1}


def refused(reason: str) -> dict[str, float]:
    """One connection that led to nothing."""
    return {f'asyd_handshakes_refused_total{{reason="{reason}"}}': 1}


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("metrics")
    with (
        supervisord({"web": "sleep infinity"}, startsecs=FOR_EVER) as url,
        running(
            directory, *METRICS, "--supervisord", url, agents=AGENTS, prelude=PRELUDE
        ) as daemon,
    ):
        yield daemon


# -- what agents do


def test_sessions_and_answers(asyd: Daemon) -> None:
    before = scraped(asyd)
    with asyd.connect() as agent:
        now = until(asyd, "asyd_connections", 1)
        assert moved(before, now) == {"asyd_connections": 1}
        agent.send(*[HELLO] * 100)
        assert [agent.answer()[-2:] for _ in range(100)] == [OK] * 100
        before, now = now, scraped(asyd)
        assert moved(before, now) == {
            "asyd_sessions": 1,
            "asyd_sessions_opened_total": 1,
            **answers(s9000=100),
        }
        agent.send(HELLO, frame(0x1F), HELLO, agent.throttle(0), agent.signed(0x20))
        assert [agent.answer()[-2:] for _ in range(5)][1] == NO_SUCH_INSTRUCTION
        before, now = now, scraped(asyd)
        assert moved(before, now) == answers(s9000=2, s6A81=1, s6A80=1, s6700=1)
        assert agent.ask(STATUS)[-2:] == OK  # it comes later
        before, now = now, scraped(asyd)
        assert moved(before, now) == answers(s9000=1)
        assert now["asyd_sampler_awake"] == 1
    ended = until(asyd, "asyd_connections", 0)
    assert moved(now, ended) == closed("agent")


def test_how_sessions_end(asyd: Daemon) -> None:
    where = places(asyd.config_dir, state_dir=None, admin_socket=None)
    with asyd.connect() as agent:
        assert agent.alive()
        now = scraped(asyd)
        agent.send(HELLO, b"\xff" + HELLO[1:])
        assert agent.final()[-1] == b"\x6e\x00"
    before, now = now, until(asyd, "asyd_connections", 0)
    assert moved(before, now) == {**answers(s9000=1, s6E00=1), **closed("refused")}
    with asyd.connect(CORE_AGENT) as agent:
        assert agent.alive()
        now = scraped(asyd)
        ask(where, {"verb": "close", "who": "okapi"})
        assert agent.ended()
    before, now = now, until(asyd, "asyd_connections", 0)
    assert moved(before, now) == closed("admin")
    with asyd.connect(CORE_AGENT) as agent:
        assert agent.alive()
        now = scraped(asyd)
        asyd.reload({AGENT: AGENTS[AGENT], STRANGER: "two labels"})
        assert agent.ended()
    before, now = now, until(asyd, "asyd_connections", 0)
    assert moved(before, now) == {
        **closed("revoked"),
        "asyd_agents": -1,
        "asyd_agents_faulty": 1,
    }
    asyd.reload(AGENTS)
    before, now = now, scraped(asyd)
    assert moved(before, now) == {"asyd_agents": 1, "asyd_agents_faulty": -1}
    with asyd.connect() as agent:
        assert agent.alive()
        now = scraped(asyd)
        agent.write(bytes(40))
        assert agent.ended()
    before, now = now, until(asyd, "asyd_connections", 0)
    assert moved(before, now) == closed("fault")


def test_who_is_turned_away(asyd: Daemon) -> None:
    before = scraped(asyd)
    with asyd.connect(STRANGER) as stranger:
        assert stranger.final() == [DENIED]
    before, now = scraped(asyd), before
    assert moved(now, until(asyd, "asyd_connections", 0)) == {
        **refused("unknown_key"),
        **answers(s6982=1),
    }
    with asyd.dial() as browser:
        browser.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert browser.rest() == b""
    assert moved(before, until(asyd, "asyd_connections", 0)) == refused("bad_handshake")


def test_what_agents_hold(asyd: Daemon) -> None:
    with waiting() as child, asyd.connect() as agent:
        assert agent.alive()
        before = scraped(asyd)
        assert agent.ask(agent.throttle(child.pid)) == OK
        now = scraped(asyd)
        assert moved(before, now) == {**answers(s9000=1), "asyd_throttled": 1}
        assert agent.ask(agent.throttle(child.pid, 1)) == OK
        before, now = now, scraped(asyd)
        assert moved(before, now) == {**answers(s9000=1), "asyd_throttled": -1}
        assert agent.ask(agent.restart("web"))[-2:] == OK
        before, now = now, scraped(asyd)
        assert moved(before, now) == {**answers(s9000=1), "asyd_tasks": 1}
        assert agent.ask(agent.signed(0x58, b"first", cla=0x14))[-2:] == OK
        before, now = now, scraped(asyd)
        assert moved(before, now) == {**answers(s9000=1), "asyd_chains": 1}
    before, now = now, until(asyd, "asyd_connections", 0)
    assert moved(before, now) == {**closed("agent"), "asyd_tasks": -1, "asyd_chains": -1}


def test_the_dark_switch(asyd: Daemon) -> None:
    where = places(asyd.config_dir, state_dir=None, admin_socket=None)
    before = scraped(asyd)
    ask(where, {"verb": "dark"})
    assert moved(before, scraped(asyd)) == {"asyd_dark": 1}
    ask(where, {"verb": "light"})
    assert moved(before, scraped(asyd)) == {}


# -- asyd itself


def test_the_process(asyd: Daemon) -> None:
    found = scraped(asyd)
    assert found['asyd_build_info{version="0.1.0",platform="linux",mode="full"}'] == 1
    statm = Path(f"/proc/{asyd.pid}/statm").read_text().split()
    page = os.sysconf("SC_PAGESIZE")
    assert found["process_virtual_memory_bytes"] == pytest.approx(int(statm[0]) * page, rel=0.1)
    assert found["process_resident_memory_bytes"] == pytest.approx(int(statm[1]) * page, rel=0.1)
    assert found["process_cpu_seconds_total"] == pytest.approx(asyd.cpu_ticks() / 100, abs=0.5)
    assert found["process_start_time_seconds"] < asyd_made(asyd) + 60
    agents = [asyd.connect() for _ in range(20)]
    assert all(agent.alive() for agent in agents)
    more = scraped(asyd)
    assert more["process_open_fds"] == pytest.approx(found["process_open_fds"] + 20, abs=2)
    assert more["process_max_fds"] > more["process_open_fds"]
    for agent in agents:
        agent.close()
    until(asyd, "asyd_connections", 0)


def asyd_made(asyd: Daemon) -> float:
    """When its directory was."""
    return asyd.config_dir.stat().st_ctime


def test_what_sampling_takes(asyd: Daemon) -> None:
    with asyd.connect() as agent:
        agent.ask(STATUS)
        before = scraped(asyd)
        while (
            moved(before, now := scraped(asyd), restless=True).get(
                'asyd_sampler_readings_total{what="processes"}', 0
            )
            < 3
        ):
            agent.ask(STATUS)
    change = moved(before, now, restless=True)
    for what in ("vitals", "processes"):
        readings = change[f'asyd_sampler_readings_total{{what="{what}"}}']
        assert readings >= 2
        assert change[f'asyd_sampler_slices_total{{what="{what}"}}'] >= readings
        assert 0 < change[f'asyd_sampler_busy_seconds_total{{what="{what}"}}'] < 10
        assert now[f'asyd_sampler_failures_total{{what="{what}"}}'] == 0
    assert now["asyd_sampler_processes"] > 1
    lags = change['asyd_loop_lag_seconds_bucket{le="+Inf"}']
    vitals = change['asyd_sampler_readings_total{what="vitals"}']
    assert abs(lags - vitals) <= 1  # a scrape falls between two of them
    assert change["asyd_loop_lag_seconds_count"] == lags


def test_a_loop_that_is_held_up_is_seen(tmp_path: Path) -> None:
    hold = (
        "import signal, threading\n"
        "signal.signal(signal.SIGUSR1, lambda *_: threading.Event().wait(0.6))\n"
    )
    with running(tmp_path, *METRICS, agents=AGENTS, prelude=hold) as asyd:
        with asyd.connect() as agent:
            agent.ask(STATUS)
            before = scraped(asyd)
            beyond = 'asyd_loop_lag_seconds_bucket{le="0.25"}'
            asyd.process.send_signal(signal.SIGUSR1)
            while True:
                agent.ask(STATUS)
                change = moved(before, scraped(asyd), restless=True)
                if change.get("asyd_loop_lag_seconds_count", 0) > change.get(beyond, 0):
                    break
        assert scraped(asyd)["asyd_loop_lag_max_seconds"] >= 0.3


def test_nobody_learns_for_whom_asyd_works(asyd: Daemon) -> None:
    with asyd.connect() as agent, asyd.connect(CORE_AGENT) as other, waiting() as child:
        assert agent.ask(agent.throttle(child.pid)) == OK
        assert other.ask(frame(0x20)) == NO_SUCH_INSTRUCTION
        text = fetched(endpoint(asyd)) + asked(asyd)
        for secret in (
            *("zebra", "okapi", "127.0.0.1", "cat", str(asyd.config_dir)),
            *(key.public.hex()[:8] for key in AGENTS),
            *(str(one.socket.getsockname()[1]) for one in (agent, other)),
        ):
            assert secret not in text
        assert agent.ask(agent.throttle(child.pid, 1)) == OK
    until(asyd, "asyd_connections", 0)


def test_the_command(asyd: Daemon) -> None:
    assert parsed(told(asyd.config_dir, "metrics")).keys() == scraped(asyd).keys()


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    with running(tmp_path, "--metrics", f"unix:{path}", agents=AGENTS) as asyd:
        asyd.wait_for(f"metrics are at unix:{path}")
        assert path.is_socket()
    assert not path.exists()


def test_when_no_agent_gets_a_descriptor_any_more(tmp_path: Path) -> None:
    """The admin socket has one for it. Without --metrics, nobody listens."""
    prelude = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
    with running(tmp_path, agents=AGENTS, prelude=prelude) as asyd:
        assert not asyd.said("metrics are at")
        agents: list[RawAgent] = []
        with contextlib.suppress(Ended, ConnectionError):  # the one that has no room any more
            while True:
                agents.append(asyd.connect())
                assert agents[-1].alive()
        found = parsed(asked(asyd))
        assert found["process_max_fds"] == 100
        assert 99 - RESERVE <= found["process_open_fds"] <= 102 - RESERVE
        assert found["asyd_sessions"] == len(agents) > 20
        for agent in agents:
            agent.close()


# -- the audit


def test_the_audit(tmp_path: Path) -> None:
    options = ("--metrics", "[::1]:0", "--audit", "on", "--audit-parameters", "on")
    used = 'asyd_audit_ring_used_slots{ring="doing"}'
    with (
        running(tmp_path, *options, agents=AGENTS) as asyd,
        ring_of(asyd.pid) as ring,
        waiting() as child,
        asyd.connect() as agent,
    ):
        assert agent.ask(agent.throttle(child.pid)) == OK
        found = until(asyd, used, 0)
        assert found['asyd_audit_ring_slots{ring="doing"}'] == ring.slots
        assert {name for name in found if "ring_slots" in name} == {
            f'asyd_audit_ring_slots{{ring="{one}"}}' for one in ("doing", "reading", "parameters")
        }
        assert found['asyd_audit_synced_timestamp_seconds{ring="doing"}'] == pytest.approx(
            ring.synced_ns / 1e9, abs=1e-3
        )
        assert found["asyd_audit_writers_total"] == 1
        assert found["asyd_audit_degraded"] == 0
        first = ring.writer
        os.kill(first, signal.SIGSTOP)
        for count in range(1, 4):
            assert agent.ask(agent.throttle(child.pid, count % 2)) == OK
            assert scraped(asyd)[used] == 2 * count  # one before the deed, one after it
        until(asyd, "asyd_audit_degraded", 1)
        os.kill(first, signal.SIGKILL)
        found = until(asyd, "asyd_audit_writers_total", 2)
        until(asyd, used, 0)
        found = until(asyd, "asyd_audit_degraded", 0)
        assert {found[name] for name in found if "lost" in name} == {0}


def test_the_collector(tmp_path: Path) -> None:
    with real_collector(tmp_path) as collector:
        config_dir = followed_config(
            tmp_path, collector.address, collector.key, AGENTS, collector.admit
        )
        options = (*METRICS, "--audit", "on", "--audit-shadow", collector.address)
        asyd = Daemon(config_dir, argv(config_dir, *options), read_log=True)
        try:
            asyd.await_ready()
            with asyd.connect() as agent, waiting() as child:
                until_flags(agent, 0)
                behind = 'asyd_audit_unacknowledged_slots{ring="doing"}'
                found = until(asyd, behind, 0)
                assert found["asyd_audit_collector_connected"] == 1
                assert found["asyd_audit_shippers_total"] == 1
                with collector.stopped():
                    assert agent.ask(agent.throttle(child.pid)) == OK
                    assert agent.ask(agent.throttle(child.pid, 1)) == OK
                    assert scraped(asyd)[behind] == 4
                until(asyd, behind, 0)
                collector.kill()
                until(asyd, "asyd_audit_collector_connected", 0)
            asyd.process.send_signal(signal.SIGTERM)
            assert asyd.process.wait(60) == 0
        finally:
            asyd.kill()


# -- vendors


@pytest.mark.root
def test_vendors(tmp_path: Path) -> None:
    packages = Packages(tmp_path / "site")
    handlers = (
        "import os\n"
        "@handler(DOUBLE)\ndef double(request):\n    return Number(2 * request.number)\n"
        "@handler(CRASH)\ndef crash(request):\n    os._exit(3)\n"
    )
    domain = "good.example"
    packages.add(domain, {"DOUBLE": "0xC0", "CRASH": "0xC1"}, handlers)
    up, workers, work = (
        f'asyd_vendor_{name}{{vendor="{domain}"}}' for name in ("up", "workers_total", "requests")
    )
    with (
        running(
            tmp_path,
            *(*METRICS, "--vendor", domain),
            agents={AGENT: f"agent caps=core,vendor vendors={domain}"},
            prelude=packages.prelude,
        ) as asyd,
        asyd.connect() as agent,
    ):
        body = packages.ids[domain].to_bytes(4, "big") + b"\0\0\0\1"
        assert agent.ask(agent.signed(0xC0, body)) == b"\0\0\0\2" + OK
        found = scraped(asyd)
        assert (found[up], found[workers], found[work]) == (1, 1, 0)
        assert agent.ask(agent.signed(0xC1, body)).hex() == "6f00"
        found = until(asyd, workers, 2)
        found = until(asyd, up, 1)
        assert found['asyd_answers_total{status="6F00"}'] == 1
