"""`asyd sessions`, `dark`, `light`, `reload`, `metrics`: on a real socket, and without an asyd."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from asys.cli import control_commands, daemon_commands
from asys.cli.daemon import main
from asys.node.admin.blackout import Blackout
from asys.node.admin.verbs import ReloadReport
from asys.node.disk.files import ConfigError
from asys.node.disk.places import Places
from asys.node.listen import Address
from asys.node.options import Options
from support.admin_rig import (
    KEY,
    METRICS,
    OTHER,
    PATIENCE,
    MadeControls,
    answering,
    fill,
    session,
    small_disk,
)
from support.users import plain_user

COMMAND = "import sys; from asys.cli.daemon import main; sys.exit(main())"
LATER = "the agent may connect again; to shut it out, run: asyd agents remove, then asyd reload\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "an asyd's directory"
    path.mkdir(mode=0o700)
    return path


class Admin:
    """Runs `asyd` on a directory in this process: exit status, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self.capsys = capsys
        self.directory = directory

    def __call__(self, *words: str) -> tuple[int, str, str]:
        status = main([*words, "--config-dir", str(self.directory)])
        out, err = self.capsys.readouterr()
        return status, out, err

    @property
    def socket(self) -> Path:
        return self.directory / "admin.sock"

    @property
    def flag(self) -> Path:
        return self.directory / "state" / "dark"


@pytest.fixture
def asyd(capsys: pytest.CaptureFixture[str], directory: Path) -> Admin:
    return Admin(capsys, directory)


# -- what it is


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--help"], ["sessions", "dark", "light", "reload", "metrics", "agents", "pubkey"]),
        (["--help"], ["--metrics [ADDRESS:]PORT", "127.0.0.1", "`asyd metrics`"]),
        (["--help"], ["--mode {full,monitor}", "--state-dir", "--admin-socket", "/var/lib/asyd"]),
        (["--help"], ["--handshake-rate", "(default: 20)", "/run/asyd/admin.sock"]),
        (["sessions", "--help"], ["list", "close", "--admin-socket", "--config-dir"]),
        (["sessions", "list", "--help"], ["--json", "--admin-socket"]),
        (["sessions", "close", "--help"], ["KEY|LABEL"]),
        (["dark", "--help"], ["--state-dir", "--admin-socket", "--config-dir", "`asyd light`"]),
        (["light", "--help"], ["--state-dir", "--admin-socket", "--config-dir"]),
        (["reload", "--help"], ["--admin-socket", "--config-dir"]),
        (["metrics", "--help"], ["OpenMetrics", "--json", "--admin-socket", "--config-dir"]),
    ],
)
def test_help(capsys: pytest.CaptureFixture[str], words: list[str], named: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in named:
        assert word in text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--mode", "half"], "'half'"),
        (["--handshake-rate", "-1"], "'-1'"),
        (["--handshake-rate", "65536"], "'65536' is not a number from 0 to 65535"),
        (["--handshake-rate", "x"], "'x' is not a number"),
        (["sessions"], "ACTION"),
        (["sessions", "kill"], "kill"),
        (["sessions", "close"], "KEY|LABEL"),
        (["dark", "now"], "now"),
        (["reload", "--json"], "--json"),
        (["reload", "--state-dir", "/x"], "--state-dir"),
        (["metrics", "asyd_dark"], "asyd_dark"),
        (["--metrics"], "expected one argument"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err.splitlines()[-1]


def options(monkeypatch: pytest.MonkeyPatch, *words: str) -> Options:
    """What the daemon would be started with."""
    started: list[Options] = []
    monkeypatch.setattr(daemon_commands, "run", started.append)
    assert main(words) == 0
    (only,) = started
    return only


def test_the_options_of_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = options(monkeypatch)
    assert (usual.mode, usual.handshake_rate) == ("full", 20)
    assert (usual.state_dir, usual.admin_socket) == (None, None)
    told = options(
        monkeypatch,
        *("--mode", "monitor", "--handshake-rate", "0"),
        *("--state-dir", "/s", "--admin-socket", "/a/b"),
    )
    assert (told.mode, told.handshake_rate) == ("monitor", 0)
    assert (told.state_dir, told.admin_socket) == (Path("/s"), Path("/a/b"))


# -- sessions


def test_listing(asyd: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_200.0)
    controls = MadeControls(
        [
            session(opened=1_700_000_000, idle=61.2),
            session(OTHER, "", peer="unix", opened=1_700_000_199, idle=0.5, confirmed=False),
        ]
    )
    with answering(controls, asyd.socket):
        status, out, err = asyd("sessions", "list")
        assert (status, err) == (0, "")
        pad = " " * 61
        assert out == (
            f"LABEL    KEY{pad}  PEER            SESSION  OPEN    IDLE   CONFIRMED\n"
            f"watcher  {KEY.hex()}  192.0.2.1:5000  7        3m 20s  1m 1s  yes\n"
            f"-        {OTHER.hex()}  unix            -        1s      0s     no\n"
        )
        controls.open = []
        status, out, err = asyd("sessions", "list")
        assert (status, err) == (0, "")
        assert out.split() == ["LABEL", "KEY", "PEER", "SESSION", "OPEN", "IDLE", "CONFIRMED"]
        controls.dark = True
        _, _, err = asyd("sessions", "list")
        assert err == "asyd: every agent is down to core; to lift it, run: asyd light\n"


def test_listing_for_programs(asyd: Admin) -> None:
    with answering(MadeControls([session()], dark=True), asyd.socket):
        status, out, err = asyd("sessions", "list", "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out) == {
        "dark": True,
        "sessions": [
            {
                **{"key": KEY.hex(), "label": "watcher", "peer": "192.0.2.1:5000", "id": 7},
                **{"opened": 1_700_000_000, "idle_seconds": 1.5, "confirmed": True},
            }
        ],
    }


def test_nothing_that_a_terminal_acts_on(asyd: Admin) -> None:
    with answering(MadeControls([session(label="\x1b[2J", peer="a\nb")]), asyd.socket):
        _, out, _ = asyd("sessions", "list")
    assert out.count("\n") == 2
    assert "\\x1b[2J" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0s"),
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1m 0s"),
        (3599, "59m 59s"),
        (3600, "1h 0m"),
        (86_399, "23h 59m"),
        (86_400, "1d 0h"),
        (9_999_999, "115d 17h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert control_commands.duration(seconds) == words


@pytest.mark.parametrize("who", ["watcher", KEY.hex(), KEY.hex().upper()])
def test_closing(asyd: Admin, who: str) -> None:
    controls = MadeControls([session(), session(number=8), session(OTHER, "other")])
    with answering(controls, asyd.socket):
        assert asyd("sessions", "close", who) == (0, f"closed: 2 of {KEY.hex()}\n", LATER)
        assert controls.open == [session(OTHER, "other")]
        status, out, err = asyd("sessions", "close", who)
        assert (status, out) == (1, "")
        assert err == (
            f"asyd: no open session has the key or label {who!r}; see: asyd sessions list\n"
        )


# -- metrics


def test_metrics(asyd: Admin) -> None:
    with answering(MadeControls(), asyd.socket):
        assert asyd("metrics") == (0, METRICS, "")
        status, out, err = asyd("metrics", "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out) == {"metrics": METRICS}


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("7818", Address("127.0.0.1", 7818)),
        ("0", Address("127.0.0.1", 0)),
        ("192.0.2.7:9", Address("192.0.2.7", 9)),
        ("[::1]:9", Address("::1", 9)),
        ("unix:/run/metrics", Address("", 0, "/run/metrics")),
    ],
)
def test_where_metrics_are(monkeypatch: pytest.MonkeyPatch, written: str, address: Address) -> None:
    assert options(monkeypatch, "--metrics", written).metrics == address
    assert options(monkeypatch).metrics is None


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("127.0.0.1", "--metrics 127.0.0.1: a port belongs behind it, with a colon"),
        ("::1", "--metrics ::1: a port belongs behind it, with a colon"),
        ("65536", "--metrics 127.0.0.1:65536: the port is 0 to 65535"),
        ("unix:", "--metrics unix: needs a path behind the colon"),
        ("node.example.org:9", "--metrics node.example.org:9: not an IPv4 or IPv6 address"),
        ("", "--metrics : not an IPv4 or IPv6 address, nor unix:PATH"),
        ("٣", "--metrics ٣: not an IPv4 or IPv6 address"),
    ],
)
def test_where_metrics_cannot_be(
    capsys: pytest.CaptureFixture[str], written: str, why: str
) -> None:
    assert main(["--metrics", written]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err


# -- reload


def test_reload(asyd: Admin) -> None:
    controls = MadeControls(report=ReloadReport(3, ()))
    with answering(controls, asyd.socket):
        assert asyd("reload") == (0, "3 agents may connect now\n", "")
        assert controls.reloads == 1


def test_reload_with_bad_lines(asyd: Admin) -> None:
    controls = MadeControls(report=ReloadReport(1, ((2, "no key\x1b"), (9, "twice"))))
    with answering(controls, asyd.socket):
        status, out, err = asyd("reload")
        assert (status, out) == (1, "1 agent may connect now\n")
        assert err == (
            "asyd: authorized_agents line 2 grants nothing: no key\\x1b\n"
            "asyd: authorized_agents line 9 grants nothing: twice\n"
        )
        controls.report = ReloadReport(0, tuple((n, "bad") for n in range(1, 1201)))
        status, out, err = asyd("reload")
        assert status == 1
        assert err.count("\n") == 1001
        assert err.endswith("asyd: 200 more lines grant nothing\n")


def test_reload_that_fails(asyd: Admin) -> None:
    controls = MadeControls(trouble=ConfigError("it is loose; run: chmod 600 it"))
    with answering(controls, asyd.socket):
        status, out, err = asyd("reload")
    assert (status, out) == (1, "")
    assert err == "asyd: nothing has changed: it is loose; run: chmod 600 it\n"


# -- dark and light


def test_dark_and_light(asyd: Admin) -> None:
    controls = MadeControls()
    with answering(controls, asyd.socket):
        assert asyd("dark") == (0, "dark: every agent is down to core, until: asyd light\n", "")
        assert controls.is_dark()
        assert asyd("light") == (0, "light: every agent has what its line gives it\n", "")
        assert not controls.is_dark()
    assert not asyd.flag.exists()  # asyd's own business


@pytest.mark.parametrize("verb", ["dark", "light"])
def test_without_an_asyd(asyd: Admin, verb: str) -> None:
    Blackout(asyd.flag.parent).prepare()
    asyd.flag.write_text("0" if verb == "dark" else "1")
    assert asyd(verb) == (
        0,
        f"{verb} from the next start of asyd on: no asyd answers at {asyd.socket}\n",
        "",
    )
    assert Blackout(asyd.flag.parent).load() is (verb == "dark")


def test_before_the_first_start(asyd: Admin) -> None:
    """The flag is made; and with the socket of an asyd that is gone it is the same."""
    assert asyd("dark")[0] == 0
    assert asyd.flag.read_text() == "1"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(asyd.socket))
        dead.listen()
    status, out, _ = asyd("light")
    assert status == 0
    assert out.startswith("light from the next start of asyd on: ")
    assert asyd.flag.read_text() == "0"


def test_a_damaged_flag_is_mended(asyd: Admin) -> None:
    Blackout(asyd.flag.parent).prepare()
    asyd.flag.write_text("damaged")
    assert Blackout(asyd.flag.parent).load() is True
    assert asyd("light")[0] == 0
    assert Blackout(asyd.flag.parent).load() is False


def test_an_asyd_that_starts_meanwhile(asyd: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have read the flag just before it was written: so it is asked once more."""
    controls = MadeControls()
    write = control_commands._write_flag
    with ExitStack() as stack:

        def start(where: Places, dark: bool) -> None:
            write(where, dark)
            stack.enter_context(answering(controls, asyd.socket))

        monkeypatch.setattr(control_commands, "_write_flag", start)
        status, out, err = asyd("dark")
        assert (status, err) == (0, "")
        assert out == "dark: every agent is down to core, until: asyd light\n"
        assert controls.dark
        assert asyd.flag.read_text() == "1"


def test_a_disk_that_does_not_take_it(asyd: Admin) -> None:
    controls = MadeControls(trouble=OSError(5, "Input/output error"))
    with answering(controls, asyd.socket):
        status, out, err = asyd("dark")
    assert (status, out) == (1, "")
    assert err == (
        "asyd: the node is dark now, but its disk does not have that: Input/output error; it will "
        "not outlast a restart of asyd. Mend the disk, then run asyd dark again\n"
    )


def test_without_an_asyd_and_without_a_disk(asyd: Admin) -> None:
    asyd.flag.mkdir(parents=True)
    asyd.flag.parent.chmod(0o700)
    status, out, err = asyd("dark")
    assert (status, out) == (1, "")
    assert err.startswith(f"asyd: {asyd.flag}: ")
    assert err.endswith("; mend the disk\n")


def test_places_by_name(asyd: Admin, tmp_path: Path) -> None:
    """--admin-socket and --state-dir, wherever they may stand."""
    sock, state = tmp_path / "x" / "sock", tmp_path / "s"
    controls = MadeControls([session()])
    with answering(controls, sock):
        assert asyd("dark", "--admin-socket", str(sock))[0] == 0
        assert asyd("--admin-socket", str(sock), "sessions", "close", "watcher")[0] == 0
        assert asyd("sessions", "--admin-socket", str(sock), "list")[0] == 0
        assert asyd("reload", "--admin-socket", str(sock))[0] == 0
    assert controls.dark
    assert asyd("dark", "--state-dir", str(state))[0] == 0
    assert asyd("--state-dir", str(state), "dark")[0] == 0
    assert (state / "dark").read_text() == "1"
    assert not asyd.flag.exists()


@pytest.mark.root
def test_the_red_button_on_a_full_disk(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """From the command to the disk and back, with config, state and socket on a disk that is full,
    with an asyd and without one.
    """
    with small_disk(tmp_path / "disk") as disk:
        asyd = Admin(capsys, disk)
        blackout = Blackout(disk / "state")
        blackout.prepare()
        controls = MadeControls([session()], blackout=blackout)
        with answering(controls, asyd.socket):
            fill(disk)
            with pytest.raises(OSError, match="No space left on device"):
                (disk / "more").write_bytes(b"x")
            assert asyd("dark")[0] == 0
            assert asyd.flag.read_text() == "1"
            assert asyd("sessions", "list")[0] == 0
            assert asyd("sessions", "close", "watcher")[0] == 0
            assert asyd("reload")[0] == 0
        assert Blackout(disk / "state").load() is True
        with answering(controls, asyd.socket):  # also the socket can be made anew
            assert asyd("light")[0] == 0
        assert Blackout(disk / "state").load() is False
        assert asyd("dark")[0] == 0
        assert Blackout(disk / "state").load() is True


# -- nobody to ask


@pytest.mark.parametrize(
    "words", [["sessions", "list"], ["sessions", "close", "watcher"], ["reload"], ["metrics"]]
)
def test_when_no_asyd_runs(asyd: Admin, words: list[str]) -> None:
    assert asyd(*words) == (
        1,
        "",
        f"asyd: no asyd answers at {asyd.socket}; start asyd, or name its directory with "
        "--config-dir\n",
    )


@pytest.mark.parametrize(
    "words", [["sessions", "list"], ["reload"], ["metrics"], ["dark"], ["light"]]
)
def test_a_wrong_directory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    """A typing error must not look like a node that is dark now."""
    missing = tmp_path / "missing"
    status, out, err = Admin(capsys, missing)(*words)
    assert (status, out) == (1, "")
    assert err == f"asyd: {missing} is no directory; name the node's with --config-dir\n"
    assert not missing.exists()


@contextmanager
def replying(path: Path, *replies: bytes) -> Iterator[None]:
    """Something that answers each connection with the next of these bytes, and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def work() -> None:
            for reply in replies:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(reply)

        thread = threading.Thread(target=work)
        thread.start()
        yield
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "reply", [b"hello\n", b"[]\n", b'{"dark": true}', b'{"dark"', b"\xff\n", b"\n"]
)
def test_something_else_answers(asyd: Admin, reply: bytes) -> None:
    with replying(asyd.socket, reply):
        status, out, err = asyd("dark")
    assert (status, out) == (1, "")
    assert err == f"asyd: what answers at {asyd.socket} is no asyd; see --admin-socket\n"
    assert not asyd.flag.exists()


def test_turned_away(asyd: Admin) -> None:
    with replying(asyd.socket, b""):
        status, out, err = asyd("dark")
    assert (status, out) == (1, "")
    assert err == (
        f"asyd: asyd at {asyd.socket} does not listen to this user; run this as root or as asyd's "
        "own user\n"
    )


@pytest.mark.parametrize("backlog", ["empty", "full"])
@pytest.mark.parametrize("verb", ["dark", "light"])
def test_an_asyd_that_does_not_answer(
    asyd: Admin, monkeypatch: pytest.MonkeyPatch, verb: str, backlog: str
) -> None:
    """It hangs, perhaps for ever: the next one is dark at least."""
    monkeypatch.setattr(control_commands, "ANSWER_SECONDS", 0.01)
    waiting: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(asyd.socket))
        listener.listen(0)
        while backlog == "full":
            peer = socket.socket(socket.AF_UNIX)
            waiting.append(peer)
            peer.setblocking(False)
            try:
                peer.connect(str(asyd.socket))
            except BlockingIOError:
                break
        status, out, err = asyd(verb)
    for peer in waiting:
        peer.close()
    assert (status, out) == (1, "")
    if verb == "dark":
        assert err == (
            f"asyd: asyd at {asyd.socket} does not answer; the flag in {asyd.flag.parent} is set, "
            "so asyd is dark when it starts anew: restart it\n"
        )
        assert asyd.flag.read_text() == "1"
    else:
        assert err == f"asyd: asyd at {asyd.socket} does not answer\n"
        assert not asyd.flag.exists()


def test_of_somebody_else(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_user() as home:
        (home / "asyd").mkdir(mode=0)
        status, out, err = Admin(capsys, home / "asyd")("dark")
        assert (status, out) == (1, "")
        assert err == f"asyd: {home / 'asyd' / 'admin.sock'}: Permission denied; run this as root\n"


def test_far_down_in_a_tree(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir(mode=0o700)
    asyd = Admin(capsys, directory)
    controls = MadeControls()
    assert asyd("dark")[0] == 0
    with answering(controls, asyd.socket):
        assert asyd("dark")[0] == 0
    assert controls.dark


def test_in_a_process_of_its_own(asyd: Admin, directory: Path) -> None:
    """As an admin has it; a stdout that takes nothing is said, and is no success."""
    command = [sys.executable, "-c", COMMAND, "--config-dir", str(directory)]
    with answering(MadeControls([session()]), asyd.socket):
        done = subprocess.run(
            [*command, "sessions", "list"], capture_output=True, text=True, timeout=PATIENCE
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"^watcher +[0-9a-f]{64} ", done.stdout, re.MULTILINE)
        full = f"{shlex.join([*command, 'sessions', 'list'])} >/dev/full"
        done = subprocess.run(["sh", "-c", full], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr == f"asyd: cannot write to stdout: {os.strerror(28)}\n"
