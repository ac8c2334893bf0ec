"""The life of the package of Debian, on a systemd: installed, upgraded, removed, purged."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import asys
from support.daemon import AGENT
from support.debian_box import POLICY, DebianBox, announced
from support.systemd_box import CHECKOUT, SystemdBox, systemd_box_missing
from system.conftest import LATER

pytestmark = pytest.mark.root

AGENTS = "/etc/asyd/authorized_agents"
KEY = "/etc/asyd/id_curve25519"
DEFAULT = "/etc/default/asyd"
OPTIONS = "ASYD_OPTIONS=--throttle-lease=15m\n"


@pytest.fixture(scope="module")
def debian_box(packaged: Path) -> Iterator[DebianBox]:
    """One for all tests of this process; not the one in which others have units."""
    missing = systemd_box_missing()
    if missing:
        pytest.skip(f"a systemd of its own {missing}")
    with SystemdBox() as box:
        yield DebianBox(box)


@pytest.fixture
def debian(debian_box: DebianBox) -> Iterator[DebianBox]:
    """A Debian without the package, before and after."""
    yield debian_box
    debian_box.box.end_children()
    debian_box.purge()


def mode(debian: DebianBox, path: str) -> int:
    """The permissions of a file that root owns."""
    found = debian.box.path(path).lstat()
    assert (found.st_uid, found.st_gid) == (0, 0)
    return stat.S_IMODE(found.st_mode)


def state_directories() -> set[str]:
    """What systemd makes for the units; for a user of the moment it is in `private`."""
    units = (CHECKOUT / "packaging/systemd").glob("*.service")
    lines = "".join(one.read_text() for one in units)
    return set(re.findall(r"^StateDirectory=(\S+)$", lines, re.MULTILINE))


def test_it_installs_and_serves(debian: DebianBox, packaged: Path) -> None:
    key = announced(debian.install(packaged))
    assert key == debian.key()
    assert debian.active() == "active"
    enabled = debian.box.run("systemctl", "is-enabled", "asyd", "asyd-monitor", check=False)
    assert enabled.stdout.split() == ["enabled", "disabled"]
    assert debian.active("asyd-monitor") == "inactive"
    assert [mode(debian, one) for one in ("/etc/asyd", KEY, AGENTS)] == [0o700, 0o600, 0o600]
    assert "Nobody can connect yet" in debian.box.path(AGENTS).read_text()
    debian.box.run("asyd", "agents", "check")
    with pytest.raises(asys.AgentRejected):
        debian.connect(AGENT, key)
    debian.admit(AGENT)
    with debian.connect(AGENT, key) as agent:
        assert agent.sys_hello().magic == b"ASYS"
        assert agent.sys_status().available_mb > 0
    # It runs on what is in the package, and on Debian's interpreter.
    pid = debian.pid()
    assert debian.box.run("readlink", f"/proc/{pid}/exe").stdout == "/usr/bin/python3.11\n"
    assert debian.box.run("dpkg", "--verify", "asyd").stdout == ""
    guide = (CHECKOUT / "docs/guides/debian.md").read_text("utf-8")
    told = set(re.findall("`(/[^`]+)`", "".join(re.findall(r"^\| `/.*", guide, re.MULTILINE))))
    assert len(told) > 8
    assert told - debian.files() == {"/usr/local/lib/asyd-vendors"}


def test_an_upgrade_keeps_key_agents_options_and_sessions(
    debian: DebianBox, packaged: Path, packaged_later: Path
) -> None:
    key = announced(debian.install(packaged))
    debian.admit(AGENT)
    agents = debian.box.path(AGENTS).read_bytes()
    debian.box.path(DEFAULT).write_text(OPTIONS)
    before = debian.pid()
    with debian.connect(AGENT, key, reconnect=asys.Reconnect(first=0.05, most=0.2)) as agent:
        node = agent.sys_hello().node_uid
        said = debian.install(packaged_later)
        assert "the key of this node" not in said
        assert "0 lines of 1 with something new since" in said
        assert agent.sys_hello().node_uid == node
    assert f'version="{LATER}"' in debian.box.run("asyd", "metrics").stdout
    assert debian.active() == "active"
    assert debian.pid() != before
    assert debian.key() == key
    assert debian.box.path(AGENTS).read_bytes() == agents
    assert debian.box.path(DEFAULT).read_text() == OPTIONS
    assert debian.box.run("asyd", "--version").stdout == f"asyd {LATER}\n"
    # What the older one had and this one has not is gone.
    assert not [one for one in debian.files() if f"asys-{asys.__version__}" in one]


def test_removed_it_keeps_what_is_nobody_elses(debian: DebianBox, packaged: Path) -> None:
    key = announced(debian.install(packaged))
    debian.admit(AGENT, "core,PROC_THROTTLE,NET_ISOLATE")
    name = debian.box.service()
    debian.box.run("systemctl", "start", name)
    pid = debian.pid(name)
    with debian.connect(AGENT, key) as agent:
        agent.net_isolate(pid, "isolate")
        agent.proc_throttle(pid, "stop")
        debian.wait_for_state(pid, "T")
    kept = [KEY, f"{KEY}.pub", AGENTS, debian.wait_for_audit()]
    said = debian.remove()
    assert "throttled, released: 1" in said
    assert "isolations, released: 1" in said
    assert "/var/lib/asyd" not in debian.box.run("cat", "/proc/1/mounts").stdout
    debian.wait_for_state(pid, "R", "S")
    debian.box.remove_unit(f"{name}.service")
    assert debian.active() == "inactive"
    left = debian.files()
    assert set(kept) <= left
    assert "/usr/bin/asyd" not in left
    assert "/usr/lib/asys" not in left
    # It comes back as what it was.
    assert "the key of this node" not in debian.install(packaged)
    assert debian.key() == key
    with debian.connect(AGENT, key) as agent:
        assert agent.sys_status().available_mb > 0


def test_purged_it_leaves_nothing(debian: DebianBox, packaged: Path) -> None:
    before = debian.files()
    key = announced(debian.install(packaged))
    debian.admit(AGENT)
    with debian.connect(AGENT, key) as agent:
        agent.sys_status()
    debian.wait_for_audit()
    debian.remove()
    # What asyd mounts where the system has no such file system, left over by one that was killed.
    debian.box.run("mkdir", "-p", "/var/lib/asyd/bpf")
    debian.box.run("mount", "-t", "tmpfs", "pins", "/var/lib/asyd/bpf")
    for name in state_directories():
        debian.box.run("mkdir", "-p", f"/var/lib/private/{name}/audit")
    debian.purge()
    assert debian.active() == "inactive"
    left = debian.files() - before
    of_systemd = {one for one in left if one.startswith("/var/lib/systemd/")}
    assert left - of_systemd <= {"/var/lib/private"}
    assert not [one for one in of_systemd if "asyd" in one]
    assert not debian.box.path("/run/asyd").exists()


def test_it_installs_where_no_systemd_runs(debian: DebianBox, packaged: Path) -> None:
    """As in a container, and while an image is made."""
    [package] = packaged.glob("*.deb")
    (debian.box.share / "package.deb").write_bytes(package.read_bytes())
    script = """
        cp /run/box/package.deb /tmp/
        mount -t tmpfs none /run
        dpkg --install /tmp/package.deb
        asyd pubkey
        dpkg --remove asyd
        test -e /etc/asyd/id_curve25519
        dpkg --install /tmp/package.deb
        dpkg --purge asyd
        test ! -e /etc/asyd
    """
    said = debian.box.run("unshare", "--mount", "sh", "-euc", script)
    assert "systemctl" not in said.stdout + said.stderr
    assert debian.active() == "inactive"


def test_what_an_admin_has_decided_stays(debian: DebianBox, packaged: Path) -> None:
    debian.box.path(POLICY).write_text("#!/bin/sh\nexit 101\n")
    debian.box.path(POLICY).chmod(0o755)
    try:
        debian.install(packaged)
    finally:
        debian.box.path(POLICY).unlink()
    assert debian.active() == "inactive"
    # Disabled, it is neither started nor enabled by an upgrade.
    debian.box.run("systemctl", "disable", "asyd")
    debian.install(packaged)
    assert debian.active() == "inactive"
    assert debian.box.run("systemctl", "is-enabled", "asyd", check=False).stdout == "disabled\n"
    # The monitor in its place is what is restarted.
    debian.box.run("systemctl", "enable", "--now", "asyd", "asyd-monitor", check=False)
    debian.box.run("systemctl", "start", "asyd-monitor")
    before = debian.pid("asyd-monitor")
    debian.install(packaged)
    assert (debian.active(), debian.active("asyd-monitor")) == ("inactive", "active")
    assert debian.pid("asyd-monitor") != before


def test_an_asyd_that_does_not_start_is_said_and_holds_up_nothing(
    debian: DebianBox, packaged: Path
) -> None:
    drop_in = debian.box.path("/etc/systemd/system/asyd.service.d")
    drop_in.mkdir()
    try:
        (drop_in / "not.conf").write_text("[Service]\nExecStart=\nExecStart=/bin/false\n")
        assert "see: systemctl status asyd" in debian.install(packaged)
    finally:
        (drop_in / "not.conf").unlink()
        drop_in.rmdir()
    assert debian.box.run("dpkg", "--status", "asyd").stdout.count("install ok installed") == 1
    # Set up once more, it starts, and nothing that is there is made anew.
    kept = {one: debian.box.path(one).read_bytes() for one in (KEY, AGENTS)}
    of_dpkg = {"DPKG_MAINTSCRIPT_PACKAGE": "asyd"}
    debian.box.run("/var/lib/dpkg/info/asyd.postinst", "configure", "", env=of_dpkg)
    assert debian.active() == "active"
    assert kept == {one: debian.box.path(one).read_bytes() for one in kept}


def test_nothing_of_its_callers_gets_in(debian: DebianBox, packaged: Path) -> None:
    debian.install(packaged)
    script = """
        mkdir -p /tmp/evil/asys ~/.local/lib/python3.11/site-packages
        echo 'raise SystemExit("evil")' | tee /tmp/evil/asys/__init__.py /tmp/evil/argparse.py \
            /tmp/evil/usercustomize.py > ~/.local/lib/python3.11/site-packages/usercustomize.py
        cd /tmp/evil
        export PYTHONPATH=/tmp/evil PYTHONSTARTUP=/tmp/evil/argparse.py PYTHONHOME=/tmp/evil
        asyd --version
        asys --version
    """
    said = debian.box.run("sh", "-euc", script).stdout
    assert said == f"asyd {asys.__version__}\nasys {asys.__version__}\n"
    # What Python has for others is not for it, and vendors' packages are.
    code = "import sys; print([one for one in sys.path if 'dist-packages' in one])"
    assert debian.box.run("/usr/lib/asys/bin/python", "-I", "-c", code).stdout == "[]\n"
    debian.box.run("mkdir", "-p", "/usr/local/lib/asyd-vendors")
    code = "import sys; print(sys.path[-1])"
    last = debian.box.run("/usr/lib/asys/bin/python", "-I", "-c", code).stdout
    assert last == "/usr/local/lib/asyd-vendors\n"
    # Root has run it, and it has left nothing.
    assert debian.box.run("dpkg", "--verify", "asyd").stdout == ""
