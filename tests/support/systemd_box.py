"""A real systemd, as PID 1 of private namespaces over this machine's own files.

Nothing that is done inside reaches the machine, and nothing is left of it after stop(). When this
process dies without a stop(), the kernel ends the box with it; its empty directories are removed
when the next box starts.

`box.run("systemctl", "status")` runs a command inside, as root in all of the box's namespaces. The
checkout and the interpreter are there at the same paths as outside.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

BOOT_SECONDS: Final = 60.0
"""Deadline for the start; it takes half a second on an idle machine."""

COMMAND_SECONDS: Final = 60.0
"""Deadline for one command inside."""

SCRIPT: Final = Path(__file__).with_name("systemd-box")
CHECKOUT: Final = Path(__file__).resolve().parents[2]
SYSTEMD: Final = Path("/lib/systemd/systemd")
PROXY: Final = "/lib/systemd/systemd-socket-proxyd"
TOOLS: Final = ("bash", "ip", "mount", "nsenter", "pivot_root", "setpriv", "unshare")
NAME: Final = re.compile(r"asys-box-(\d+)-[0-9a-f]+")

_CAP_SYS_ADMIN: Final = 21

ENTER: Final = 'test "$PPID" = "$1"; echo "$$" >"$2"; shift 2; exec "$@"'
"""Shell: goes into a cgroup unless the tests are gone already, then executes what it is given."""

PROXY_SOCKET: Final = """\
[Unit]
Description=Way to systemd's private socket for a client outside of the box
[Socket]
ListenStream=/run/box/private
"""
PROXY_SERVICE: Final = f"""\
[Unit]
Description=systemd's private socket refuses clients whose PID it cannot see
[Service]
ExecStart={PROXY} /run/systemd/private
"""


@functools.cache
def systemd_box_missing() -> str:
    """What this machine lacks for a box, or ''."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root"
    status = Path("/proc/self/status").read_text()
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    if capabilities is None or not int(capabilities[1], 16) >> _CAP_SYS_ADMIN & 1:
        return "needs the capability CAP_SYS_ADMIN"
    if cgroup_root() is None:
        return "needs a mounted, writable cgroup v2 hierarchy"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    missing += [path for path in (str(SYSTEMD), PROXY) if not Path(path).exists()]
    return f"needs {', '.join(missing)}" if missing else ""


def cgroup_root() -> Path | None:
    """Where cgroup v2 is mounted for writing."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(where)
    return None


class Gate:
    """Where a command in the box waits, `head -c 1 PATH`, until a test lets it pass."""

    def __init__(self, share: Path) -> None:
        self._path = share / f"gate-{secrets.token_hex(4)}"
        os.mkfifo(self._path)
        self._pipe = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)

    @property
    def wait(self) -> str:
        """The command that waits."""
        return f"/usr/bin/head -c 1 /run/box/{self._path.name}"

    def open(self) -> None:
        """Lets one command pass, now or when it comes."""
        os.write(self._pipe, b"\n")

    def close(self) -> None:
        """Removes the gate."""
        os.close(self._pipe)
        self._path.unlink()


class SystemdBox:
    """One box. start() it, stop() it in any case; or use it as a context manager."""

    def __init__(self) -> None:
        self.pid = 0
        """PID 1 of the box, as seen from outside; 0 while there is none."""
        self._name = f"asys-box-{os.getpid()}-{secrets.token_hex(3)}"
        root = cgroup_root()
        if root is None:
            raise RuntimeError(f"no box here: {systemd_box_missing()}")
        self._cgroup = root / self._name
        self._directory = Path(tempfile.gettempdir()) / self._name
        self._holder: subprocess.Popen[bytes] | None = None
        self._init: int | None = None
        """A pidfd of its PID 1."""
        self._children: list[subprocess.Popen[str]] = []
        self.units: set[str] = set()
        """What unit() wrote and remove_unit() has not removed."""

    # Life

    def start(self) -> None:
        """Boots. RuntimeError with systemd's output when it does not come up in time."""
        _sweep(self._cgroup.parent)
        for part in ("", "mnt", "share"):
            (self._directory / part).mkdir()
        self._cgroup.mkdir()
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ready, (self._directory / "log").open("wb") as log:
            ready.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            ready.bind(str(self.share / "notify"))
            namespaces = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
            self._holder = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),  # never outlives the tests
                    *("bash", "-euc", ENTER, "enter", str(os.getpid())),
                    str(self._cgroup / "cgroup.procs"),
                    *("unshare", *namespaces, "--fork", "--kill-child", "--"),
                    *("bash", str(SCRIPT), str(self._directory), "/run/box/notify"),
                    *(str(path) for path in _bound()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
            self.pid = self._await_ready(ready, self._holder)
            self._init = os.pidfd_open(self.pid)
        self.unit("asys-box-private.socket", PROXY_SOCKET)
        self.unit("asys-box-private.service", PROXY_SERVICE)
        self.run("systemctl", "start", "asys-box-private.socket")

    def stop(self) -> None:
        """Ends everything in the box and removes what it left. Safe at any time, and again."""
        if self._holder is not None:
            if self._init is not None:
                # All that is in its namespace goes with it, before unshare sees it end.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._init, signal.SIGKILL)
                os.close(self._init)
                self._init = None
            else:
                self._holder.kill()
            self._holder.wait(COMMAND_SECONDS)
            self._holder = None
        self.end_children()
        self.pid = 0
        _remove_cgroup(self._cgroup)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> SystemdBox:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # Use

    @property
    def share(self) -> Path:
        """A directory that is /run/box inside."""
        return self._directory / "share"

    @property
    def private_socket(self) -> str:
        """A socket outside that leads to systemd's private one, as seen by root in the box."""
        return str(self.share / "private")

    def path(self, inside: str) -> Path:
        """Where an absolute path of the box is found from outside."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def run(
        self,
        *argv: str | os.PathLike[str],
        check: bool = True,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside; AssertionError with its output when it fails and `check`."""
        done = subprocess.run(
            self._inside(argv, env),
            capture_output=True,
            text=True,
            input=input if input is not None else "",
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{argv} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(
        self,
        *argv: str | os.PathLike[str],
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Starts a command inside. It ends with the box at the latest.

        What is returned is the nsenter that waits for the command: its exit status is the
        command's, but its PID is not. See pid_of() and signal().
        """
        child = subprocess.Popen(
            self._inside(argv, env), stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, text=True
        )
        self._children.append(child)
        return child

    def pid_of(self, child: subprocess.Popen[str]) -> int:
        """The PID, outside, of a command that popen() started and that has shown a sign of life."""
        inner = _children(child.pid)
        if not inner:
            raise RuntimeError("the command has ended, or has not begun yet")
        return inner[0]

    def signal(self, child: subprocess.Popen[str], number: signal.Signals) -> None:
        """Sends a signal to a command that popen() started."""
        os.kill(self.pid_of(child), number)

    def end_children(self) -> None:
        """Kills what popen() started and still runs, and waits for it."""
        for child in self._children:
            if child.poll() is None:
                for pid in _children(child.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            child.kill()
            child.wait(COMMAND_SECONDS)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        self._children.clear()

    def unit(self, name: str, text: str) -> None:
        """Writes a unit file, and makes systemd read it."""
        self.units.add(name)
        self.path(f"/etc/systemd/system/{name}").write_text(text)
        self.run("systemctl", "daemon-reload")

    def service(self, start: str = "/bin/sleep infinity", **settings: str) -> str:
        """Writes a service of its own for a test; its name, without `.service`."""
        name = f"test-{secrets.token_hex(4)}"
        lines = "".join(f"{key}={value}\n" for key, value in settings.items())
        self.unit(f"{name}.service", f"[Service]\nExecStart={start}\n{lines}")
        return name

    def remove_unit(self, name: str) -> None:
        """Stops a unit that unit() wrote, at once, and forgets it."""
        self.units.discard(name)
        self.run("systemctl", "kill", "--signal=KILL", name, check=False)
        self.run("systemctl", "stop", name, check=False)
        self.run("systemctl", "reset-failed", name, check=False)
        self.path(f"/etc/systemd/system/{name}").unlink(missing_ok=True)
        self.run("systemctl", "daemon-reload")

    def property(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` prints it."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    # How

    def _inside(
        self, argv: tuple[str | os.PathLike[str], ...], env: Mapping[str, str] | None
    ) -> list[str]:
        if not self.pid:
            raise RuntimeError("the box does not run")
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        return [
            *("nsenter", "--target", str(self.pid)),
            *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"),
            *(["env", *settings] if settings else []),
            *(os.fspath(argument) for argument in argv),
        ]

    def _await_ready(self, ready: socket.socket, holder: subprocess.Popen[bytes]) -> int:
        """The PID of systemd, once it says that it has booted."""
        deadline = time.monotonic() + BOOT_SECONDS
        gone = os.pidfd_open(holder.pid)
        waiting = select.poll()
        waiting.register(ready, select.POLLIN)
        waiting.register(gone, select.POLLIN)
        try:
            while (left := deadline - time.monotonic()) > 0:
                events = dict(waiting.poll(left * 1000))
                if ready.fileno() in events:
                    text, control, _, _ = ready.recvmsg(4096, socket.CMSG_SPACE(12))
                    if b"READY=1" in text.split(b"\n"):
                        credentials = control[0][2]
                        return int.from_bytes(credentials[:4], sys.byteorder)
                elif gone in events:
                    break
        finally:
            os.close(gone)
        raise RuntimeError(
            f"systemd did not come up in the box:\n{(self._directory / 'log').read_text()}"
        )


def _children(pid: int) -> list[int]:
    """The children of a child of ours, which keeps their PIDs until it has waited for them."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in listed.split()]


def _bound() -> list[Path]:
    """What the box must have whatever the machine's root is made of: checkout and interpreter."""
    bound = [CHECKOUT]
    for path in (Path(sys.prefix), Path(sys.base_prefix)):
        if not any(path.is_relative_to(there) for there in (*bound, Path("/usr"))):
            bound.append(path)
    return bound


def _remove_cgroup(cgroup: Path) -> None:
    """Removes a cgroup of ours with all below it, ending what may still be in there."""
    try:
        (cgroup / "cgroup.kill").write_text("1")
        _await_event(cgroup / "cgroup.events", lambda text: "populated 0" in text)
        for directory, _, _ in os.walk(cgroup, topdown=False):
            Path(directory).rmdir()
    except OSError as error:
        # It is gone, or just going: whoever else starts a box tidies up as well.
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def _await_event(path: Path, holds: Callable[[str], bool]) -> None:
    """Waits until a file of the kernel's that announces its changes reads as wanted."""
    with path.open() as file:
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        deadline = time.monotonic() + COMMAND_SECONDS
        while not holds(file.read()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{path} does not change")
            poll.poll(1000)
            file.seek(0)


def _sweep(root: Path) -> None:
    """Removes what boxes left whose tests were killed."""
    for leftover in [*root.glob("asys-box-*"), *Path(tempfile.gettempdir()).glob("asys-box-*")]:
        name = NAME.fullmatch(leftover.name)
        if name is None or Path(f"/proc/{name[1]}").exists():
            continue
        if leftover.is_relative_to(root):
            _remove_cgroup(leftover)
        else:
            shutil.rmtree(leftover, ignore_errors=True)
