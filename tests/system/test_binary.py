"""asyd as one file, in a root without Python, where nothing can be written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import asys
from asys import sync
from asys.isa import NodeFlags
from asys.protocol.keys import PrivateKey
from support.bare_root import LIBRARIES, WRITABLE, BareRoot, descendants
from support.built import NAME
from support.children import resumed, suspended, waiting
from support.daemon import AGENT, PATIENCE, Daemon, write_agents
from support.own_daemon import config
from support.vendors import Packages

pytestmark = pytest.mark.root

NODE = PrivateKey.generate()

VENDOR = "a.example"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """/etc, as an admin has prepared it: the node's key and agents, and an agent of its own."""
    etc = tmp_path / "etc"
    for directory, key in ((etc / "asyd", NODE), (etc / ".asys", AGENT)):
        directory.mkdir(parents=True)
        directory.chmod(0o700)
        (directory / "id_curve25519").write_bytes(key.raw())
        (directory / "id_curve25519").chmod(0o600)
    write_agents(etc / "asyd", {AGENT: "agent caps=core,PROC_THROTTLE,LOG_SUMMARY"})
    (etc / ".asys" / "known_hosts").write_text("# none yet\n")
    return etc


@pytest.fixture(params=["blocks"])
def root(
    request: pytest.FixtureRequest, tmp_path: Path, built: Path, etc: Path
) -> Iterator[BareRoot]:
    """The machine, where either has run out."""
    with BareRoot(tmp_path / "root", built / NAME, etc, request.param) as root:
        yield root


either = pytest.mark.parametrize("root", ["blocks", "inodes"], indirect=True)
"""Room for what is in files, or for files."""


def full(directory: Path) -> bool:
    """Whether not one byte more goes in."""
    try:
        (directory / "probe").write_bytes(b"x")
    except OSError:
        return True
    return False


def files(pid: int) -> set[str]:
    """The names of the files that a process has in its memory."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
    real = (one for one in paths if one.startswith("/") and not one.endswith(" (deleted)"))
    return {os.path.basename(one) for one in real}


@either
def test_it_starts_and_serves_where_nothing_has_room(root: BareRoot) -> None:
    port, key = root.await_ready()
    assert key == NODE.public
    assert all(full(root.path / one) for one in (*WRITABLE, ""))
    with (
        sync.connect("127.0.0.1", port, identity=asys.Identity(AGENT), node_key=key) as agent,
        waiting() as victim,
    ):
        assert agent.sys_status().available_mb > 0
        assert agent.sys_procs().count > 1
        agent.proc_throttle(victim.pid, "stop")
        suspended(victim.pid)
        agent.proc_throttle(victim.pid, "continue")
        resumed(victim.pid)
        agent.log_summary(window_s=60)  # another process of asyd's reads it
        # Its records have no disk, and asyd says so as soon as the writer has tried.
        until = time.monotonic() + PATIENCE
        while NodeFlags.AUDIT_DEGRADED not in agent.sys_status().node_flags:
            assert time.monotonic() < until, root.log
        # No file is in its memory but the C library, and what is in this one.
        assert files(root.pid) <= {"asyd", "ld-linux-x86-64.so.2", *LIBRARIES}
    assert not list((root.path / "usr/bin").glob("python*"))
    root.wait_for("/var/lib/asyd/dark cannot be made: No space left on device")
    root.stop()


@pytest.mark.parametrize("root", ["inodes"], indirect=True)
def test_with_room_again_everything_is_made(root: BareRoot) -> None:
    """What an admin does then is to make room, and to send SIGHUP."""
    root.await_ready()
    root.wait_for(" platform ")
    root.make_room()
    root.process.send_signal(signal.SIGHUP)
    root.wait_for("agents in", times=2)
    assert root.run("asyd", "sessions", "list").returncode == 0
    assert root.run("asyd", "dark").returncode == 0
    assert (root.path / "var/lib/asyd/dark").read_bytes() == b"1"
    assert root.run("asyd", "light").returncode == 0
    root.stop()
    assert not (root.path / "run/asyd/admin.sock").exists()


def test_its_commands(root: BareRoot) -> None:
    port, key = root.await_ready()
    assert root.run("asyd", "pubkey").stdout.split() == [key.hex()]
    assert AGENT.public.hex() in root.run("asyd", "agents", "list").stdout
    # In place: what the file has of its disk is all that there is.
    with (root.path / "etc/.asys/known_hosts").open("r+") as known_hosts:
        known_hosts.write(f"127.0.0.1:{port} {key.hex()}\n")
    told = root.run("asys", "status", f"127.0.0.1:{port}", "--json")
    assert json.loads(told.stdout)["result"]["available_mb"] > 0, told.stdout
    shown = root.run("asyd", "asys", "isa")
    assert "PROC_THROTTLE" in shown.stdout
    assert shown.stdout == root.run("asys", "isa").stdout
    root.stop()


def test_a_vendors_template_is_in_it(built: Path, tmp_path: Path) -> None:
    words = ("asys", "vendor", "new", "shop.example", "--directory", str(tmp_path / "shop"))
    subprocess.run([built / NAME, *words], check=True, capture_output=True)
    assert "shop.example" in (tmp_path / "shop" / "pyproject.toml").read_text()


def test_what_it_leaves_out_says_what_to_install(built: Path) -> None:
    done = subprocess.run(
        [built / NAME, "asys", "top", "127.0.0.1"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "pip install 'asys[tui]'" in done.stderr


def test_it_goes_on_when_another_takes_its_place(built: Path, tmp_path: Path, etc: Path) -> None:
    """As with an upgrade: its children, and what it imports late, are of the same version."""
    program = tmp_path / "asyd"
    program.write_bytes((built / NAME).read_bytes())
    program.chmod(0o755)
    command = [str(program), "--config-dir", str(etc / "asyd"), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asyd:
        try:
            assert asyd.stdout is not None
            _, address, key = asyd.stdout.readline().decode().split()
            program.unlink()
            program.write_bytes(b"something else")
            port = int(address.rpartition(":")[2])
            with sync.connect(
                "127.0.0.1", port, identity=asys.Identity(AGENT), node_key=bytes.fromhex(key)
            ) as agent:
                agent.log_summary(window_s=60)
            orders = [str(built / NAME), "dark", "--config-dir", str(etc / "asyd")]
            subprocess.run(orders, check=True, capture_output=True, timeout=PATIENCE)
            asyd.terminate()
            assert asyd.wait(PATIENCE) == 0
        finally:
            asyd.kill()
            asyd.communicate()


def test_all_of_its_children_are_in_it(built: Path, tmp_path: Path) -> None:
    """The writer of the audit, the shipper, a collector's writer, a vendor's cage and worker."""
    executable = str(built / NAME)
    packages = Packages(tmp_path / "vendors")
    packages.add(VENDOR, {"DOUBLE": "0xC0"}, "@handler(DOUBLE)\ndef double(request): ...")
    config_dir, kept = config(tmp_path), str(tmp_path / "kept")
    collect = (executable, "asys", "audit", "collect", "--dir", kept, "--listen", "127.0.0.1:0")
    collector = Daemon(config_dir, collect, read_log=True)
    try:
        collector.await_ready()
        trust = ("collector", "trust", collector.ready, collector.key.hex())
        for words in (trust, ("pubkey",)):
            command = [executable, *words, "--config-dir", str(config_dir)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        command = [executable, "asys", "audit", "admit", kept, done.stdout.strip(), "node"]
        subprocess.run(command, check=True, capture_output=True)
        collector.process.send_signal(signal.SIGHUP)
        asyd = Daemon(
            config_dir,
            (
                *("env", f"ASYS_PATH={packages.directory}", executable, "--listen", "127.0.0.1:0"),
                *("--config-dir", str(config_dir), "--audit-shadow", collector.ready),
                *("--vendor", VENDOR),
            ),
            read_log=True,
        )
        try:
            asyd.await_ready()
            asyd.wait_for(f"{VENDOR} works")
            asyd.wait_for("has the audit, and follows it")
            named = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in descendants(asyd.pid)}
            assert named >= {"asyd-keeper", "asyd-shipper", "asyd-cage", "asyd-worker"}
            asyd.stop()
        finally:
            asyd.kill()
        collector.stop()
    finally:
        collector.kill()
