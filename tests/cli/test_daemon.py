"""The command `asyd`: options, `pubkey` and `agents`, as an admin meets them."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from asys import __version__
from asys.cli import daemon_commands
from asys.cli.daemon import main
from asys.protocol.keys import PrivateKey
from support.daemon import COMMAND, PATIENCE
from support.users import plain_user, run_remedy

assert daemon_commands  # read now: where a test gives up root's rights, Python may be out of reach

ASYD = (sys.executable, "-c", COMMAND)
KEY = PrivateKey(bytes(range(1, 33))).public.hex()
OTHER = PrivateKey(bytes(range(2, 34))).public.hex()
THIRD = PrivateKey(bytes(range(3, 35))).public.hex()


def told(directory: Path) -> str:
    """What is said of every change."""
    where = shlex.quote(str(directory))
    return f"a running asyd takes it over on SIGHUP, or with: asyd reload --config-dir {where}\n"


def asyd(*words: str, text_in: str = "") -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    return subprocess.run(
        [*ASYD, *words], capture_output=True, text=True, input=text_in, timeout=PATIENCE
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "an asyd's directory"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def agents(directory: Path) -> Path:
    path = directory / "authorized_agents"
    path.write_text("")
    path.chmod(0o600)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """In this process: exit status, stdout, stderr."""
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


# -- what it is


def test_the_installed_command() -> None:
    script = Path(sys.executable).parent / "asyd"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"asyd {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            ["--help"],
            ["--listen", "--port", "--config-dir", "--max-sessions", "--debug", "--version"],
        ),
        (["--help"], ["7816", "1024", "0 ended as asked", "SIGHUP", "/etc/asyd", "unix:PATH"]),
        (["pubkey", "--help"], ["asys trust --stdin", "--config-dir"]),
        (["agents", "--help"], ["add", "remove", "list"]),
        (["agents", "add", "--help"], ["--label", "--caps", "64 hex digits", "default: core"]),
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
        (["--port", "65536"], "'65536' is not a port from 0 to 65535"),
        (["--port", "-1"], "'-1'"),
        (["--port", "x"], "'x' is not a port"),
        (["--port", ""], "'' is not a port"),
        (["--port", "\N{SUPERSCRIPT TWO}"], "is not a port"),
        (["--port", "9" * 5000], "is not a port"),
        (["--max-sessions", "0"], "'0' is not a number from 1 to 65535"),
        (["--max-sessions", "65536"], "'65536' is not a number"),
        (["--max-sessions-per-key", "0"], "'0' is not a number"),
        (["--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["agents"], "ACTION"),
        (["agents", "add"], "KEY"),
        (["agents", "nonsense"], "nonsense"),
        (["agents", "list", "more"], "more"),
        (["pubkey", "--port", "1"], "--port"),
        (["--listen"], "--listen"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: asyd")
    assert why in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--listen", "nowhere"], "asyd: --listen nowhere: not an IPv4 or IPv6 address"),
        (["--listen", ""], "asyd: --listen : not an IPv4"),
        (["--listen", "127.0.0.1", "--listen", "1.2.3.4:x"], "the port is 0 to 65535"),
        (["--listen", "unix:"], "needs a path"),
        (["--supervisord", "nowhere"], "asyd: --supervisord: only unix:///PATH and http://"),
        (["--supervisord", "http://user:secret@host"], "asyd: --supervisord: host and port"),
    ],
)
def test_options_that_cannot_mean_anything(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], why: str
) -> None:
    status, out, err = run(capsys, *words, "--config-dir", str(tmp_path / "none"))
    assert (status, out) == (2, "")
    assert why in err
    assert err.count("\n") == 1
    assert "secret" not in err
    assert not (tmp_path / "none").exists()


def test_not_on_windows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert run(capsys) == (1, "", "asyd: runs on POSIX systems only\n")


@pytest.mark.parametrize(
    ("module", "words"),
    [("asys.node.listen", ["pubkey"]), ("psutil", ["--portable", "--listen", "127.0.0.1:0"])],
)
def test_without_the_daemons_dependencies(directory: Path, module: str, words: list[str]) -> None:
    """Whether it is missed at once or only where it is of use."""
    program = f"import sys; sys.modules[{module!r}] = None\n{COMMAND}"
    done = subprocess.run(
        [sys.executable, "-c", program, "--config-dir", str(directory), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"asyd: {module} is missing; run: pip install 'asys[daemon]'\n"


# -- pubkey


def test_pubkey_is_64_hex_digits_and_a_newline(directory: Path) -> None:
    """The same at every call, and what the file says: the key is made at the first one."""
    first = asyd("pubkey", "--config-dir", str(directory))
    assert (first.returncode, first.stderr) == (0, "")
    assert re.fullmatch(r"[0-9a-f]{64}\n", first.stdout)
    assert (directory / "id_curve25519.pub").read_bytes().hex() + "\n" == first.stdout
    again = asyd("--config-dir", str(directory), "pubkey")
    assert again.stdout == first.stdout


def test_pubkey_of_an_unsafe_directory(capsys: pytest.CaptureFixture[str], directory: Path) -> None:
    directory.chmod(0o755)
    status, out, err = run(capsys, "pubkey", "--config-dir", str(directory))
    assert (status, out) == (1, "")
    assert err == (
        f"asyd: {directory} has the permissions 0755, which let others in; "
        f"run: chmod 700 {shlex.quote(str(directory))}\n"
    )
    run_remedy(err.strip())
    assert run(capsys, "pubkey", "--config-dir", str(directory))[0] == 0


@pytest.mark.parametrize("what", ["damaged", "loose"])
def test_pubkey_of_an_unsafe_key(directory: Path, what: str) -> None:
    key = directory / "id_curve25519"
    key.write_bytes(b"k" * (31 if what == "damaged" else 32))
    key.chmod(0o600 if what == "damaged" else 0o640)
    done = asyd("pubkey", "--config-dir", str(directory))
    assert (done.returncode, done.stdout) == (1, "")
    assert ("31 bytes" if what == "damaged" else "run: chmod 600 ") in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_default_directory_of_a_user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain_user() as home:
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        status, out, _ = run(capsys, "pubkey")
        assert status == 0
        assert (home / ".config/asyd/id_curve25519.pub").read_bytes().hex() + "\n" == out


@pytest.mark.parametrize("command", [["pubkey"], ["agents", "list"]])
@pytest.mark.parametrize("stdout", ["full", "broken", "closed"])
def test_output_that_does_not_arrive(
    directory: Path, agents: Path, command: list[str], stdout: str
) -> None:
    """It is no success, and no traceback either; a closed stdout is a caller's own wish."""
    keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(200)]
    agents.write_text("".join(f"{key} agent\n" for key in keys))
    redirect = {"full": ">/dev/full", "broken": "", "closed": ">&-"}[stdout]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirect}', "sh", *ASYD, *command, "--config-dir", str(directory)],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    os.close(write_end)
    if stdout == "closed":
        assert (done.returncode, done.stderr) == (0, "")
    else:
        why = "No space left on device" if stdout == "full" else "Broken pipe"
        assert (done.returncode, done.stderr) == (1, f"asyd: cannot write to stdout: {why}\n")


# -- agents


def test_agents_from_the_first_to_the_last(directory: Path) -> None:
    """In processes of their own, and with the option wherever it may stand."""
    where = ("--config-dir", str(directory))
    listing = asyd("agents", "list", *where)
    assert (listing.returncode, listing.stdout, listing.stderr) == (0, "", "")
    added = asyd("agents", "add", KEY.upper(), "--label", "watcher", *where)
    assert (added.returncode, added.stdout) == (0, f"added: {KEY} watcher\n")
    assert added.stderr == told(directory)
    added = asyd("agents", *where, "add", OTHER, "--caps", "core,PROC_THROTTLE,22,30")
    assert added.stdout == f"added: {OTHER} caps=core,PROC_THROTTLE,22,30\n"
    added = asyd(*where, "agents", "add", THIRD, "--label", "boss", "--caps", "all")
    assert added.returncode == 0
    listing = asyd("agents", "list", *where)
    assert listing.stdout == (
        f"{KEY} watcher caps=core\n{OTHER} - caps=core,PROC_THROTTLE,SVC_RESTART,30\n"
        f"{THIRD} boss caps=all\n"
    )
    removed = asyd("agents", "remove", "watcher", *where)
    assert (removed.returncode, removed.stdout) == (0, f"removed: {KEY} watcher\n")
    assert removed.stderr == told(directory)
    removed = asyd("agents", "remove", OTHER.upper(), *where)
    assert removed.returncode == 0
    assert (directory / "authorized_agents").read_text() == f"{THIRD} boss caps=all\n"
    assert sorted(os.listdir(directory)) == ["authorized_agents"]


def test_what_people_wrote_stays(
    capsys: pytest.CaptureFixture[str], directory: Path, agents: Path
) -> None:
    before = b"# caf\xe9\r\n\r\n  odd\x00\x0b line\n\t" + OTHER.encode() + b"\tother  \r\n#"
    agents.write_bytes(before)
    where = ("--config-dir", str(directory))
    assert run(capsys, "agents", "add", KEY, *where)[0] == 0
    assert agents.read_bytes() == before + b"\n" + KEY.encode() + b"\n"
    assert run(capsys, "agents", "remove", KEY, *where)[0] == 0
    assert agents.read_bytes() == before + b"\n"
    status, out, err = run(capsys, "agents", "list", *where)
    assert (status, out) == (1, f"{OTHER} other caps=core\n")
    assert err == (
        f"asyd: {agents} line 3 grants nothing: has characters that do not print; remove them\n"
    )


def test_a_removed_line_is_shown_as_text(directory: Path, agents: Path) -> None:
    """Whatever is in it: no bytes that a terminal acts on, and none that Python cannot print."""
    agents.write_bytes(KEY.encode() + b" \x1b[2J\xff\xc3\xa9\n")
    done = asyd("agents", "remove", KEY, "--config-dir", str(directory))
    assert (done.returncode, done.stdout) == (0, f"removed: {KEY} \\x1b[2J\\udcff\\xe9\n")
    assert agents.read_bytes() == b""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["add", "short"], "'short' is no public key: 64 hex digits are expected"),
        (["add", "0" * 64], "the agent is not added: the key is of low order"),
        (["add", KEY, "--label", "a b"], "the label 'a b' is not 1 to 31"),
        (["add", KEY, "--caps", ""], "caps=: '' is no instruction"),
        (["add", KEY, "--caps", "nonsense"], "caps=: 'nonsense' is no instruction"),
        (["add", KEY, "--caps", "core all"], "caps=: 'core all' has blanks"),
        (["add", OTHER], "the key stands in line 1 already; remove it first: asyd agents remove"),
        (["remove", KEY], "no agent has the key or label"),
        (["remove", ""], "no agent has the key or label ''"),
    ],
)
def test_what_is_refused(
    capsys: pytest.CaptureFixture[str],
    directory: Path,
    agents: Path,
    words: list[str],
    why: str,
) -> None:
    agents.write_text(f"{OTHER} other\n")
    status, out, err = run(capsys, "agents", *words, "--config-dir", str(directory))
    assert (status, out) == (1, "")
    assert err.startswith("asyd: ")
    assert why in err
    assert err.count("\n") == 1
    assert agents.read_text() == f"{OTHER} other\n"


def test_the_commands_in_messages_work(directory: Path, agents: Path) -> None:
    agents.write_text(f"{OTHER} caps=nonsense\n")
    done = asyd("agents", "add", OTHER, "--config-dir", str(directory))
    remedy = shlex.split(done.stderr.partition("remove it first: ")[2])
    assert remedy[0] == "asyd"
    assert asyd(*remedy[1:]).returncode == 0
    assert asyd("agents", "add", OTHER, "--config-dir", str(directory)).returncode == 0
    done = asyd("agents", "remove", "nobody", "--config-dir", str(directory))
    remedy = shlex.split(done.stderr.partition("see: ")[2])
    listing = asyd(*remedy[1:])
    assert (listing.returncode, listing.stdout) == (0, f"{OTHER} - caps=core\n")


@pytest.mark.parametrize("action", [["list"], ["remove", KEY]])
def test_a_directory_that_is_not_there_is_not_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, action: list[str]
) -> None:
    """It is a typing error, and not a node without agents."""
    missing = tmp_path / "missing"
    status, out, err = run(capsys, "agents", *action, "--config-dir", str(missing))
    assert (status, out) == (1, "")
    assert "missing is no directory; name the node's with --config-dir" in err
    assert not missing.exists()


def test_adding_makes_the_directory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """So that agents can be enrolled before asyd starts for the first time."""
    new = tmp_path / "new"
    assert run(capsys, "agents", "add", KEY, "--config-dir", str(new))[0] == 0
    assert new.stat().st_mode & 0o777 == 0o700


def test_a_loose_file_is_not_edited(
    capsys: pytest.CaptureFixture[str], directory: Path, agents: Path
) -> None:
    agents.chmod(0o664)
    for action in (["add", KEY], ["remove", KEY], ["list"]):
        status, _, err = run(capsys, "agents", *action, "--config-dir", str(directory))
        assert status == 1
        assert f"run: chmod 600 {shlex.quote(str(agents))}" in err


def test_a_directory_of_somebody_else(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_user() as home:
        home.chmod(0o500)
        for words in (["agents", "add", KEY], ["pubkey"]):
            status, out, err = run(capsys, *words, "--config-dir", str(home))
            assert (status, out) == (1, "")
            assert "Permission denied" in err
            assert os.listdir(home) == []


def test_two_who_add_at_once(directory: Path, agents: Path) -> None:
    """No line is lost, and none is there twice."""
    keys = [PrivateKey(bytes([number]) * 32).public.hex() for number in range(1, 9)]
    script = (
        "import sys; from asys.cli.daemon import main\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for key in sys.argv[2:]:\n"
        "    assert main(['agents', 'add', key, '--config-dir', sys.argv[1]]) == 0"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(directory), *own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in (keys[:4], keys[4:])
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            _, err = child.communicate(timeout=PATIENCE)
            assert (child.returncode, err) == (0, told(directory) * 4)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert sorted(agents.read_text().split()) == sorted(keys)
