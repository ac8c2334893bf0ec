"""What users of the package see, and on which systems."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import asys
from asys import isa
from asys.client import aio, blocking, methods
from asys.isa import Empty, Instruction, Level, Mode, Registry, TaskHandle
from client.instructions import GUIDE
from support import bare_python
from support.wire_node import OK, WireNode, answer, serve

SOURCE = Path(asys.__file__).parent

PUBLIC = {
    *("connect", "Connecting", "Node", "Task", "Exchange", "Identity", "KnownHosts"),
    *("sync", "isa", "errors", "SW", "DEFAULT_PORT", "__version__"),
    *("AsysError", "ArgumentError", "IdentityError", "InventoryError"),
    "Fleet",
    *("LinkError", "ConnectFailed", "UnknownHost", "HostKeyChanged", "AgentRejected"),
    "BadKeyStatement",
    *("SessionLimit", "ConnectionLost", "DeadlineExceeded", "ProtocolError", "HandshakeError"),
    *("ChannelError", "OutcomeUnknown", "AlreadyReceived", "StatusError", "Blocked"),
    *("WrongLength", "Denied", "InvalidPayload", "NoSuchInstruction", "NotSupported"),
    *("ClassNotSupported", "NodeError", "NodeOutOfMemory", "NodeIOError", "NodeNoSpace"),
    *("NodeTimedOut", "NodeBusy", "NodeUnknownError", "SessionEnded"),
    *("deadline", "Reconnect", "Retry", "Gap", "Vitals"),
    *("Called", "LogCalls", "Observer", "Telemetry"),
    "StillSuspended",
    *("Architecture", "Capabilities", "FileSystem", "Hello", "PressureSource", "Process"),
    *("Abandoned", "AgentFlags", "AgentHash", "Agents", "CapabilityMap", "ListedAgent"),
    "NodeFlags",
    *("EntryFlags", "LogDetail", "LogEntry", "LogEvent", "LogSource", "LogSummary", "ProcessTree"),
    *("Severity", "SummaryFlags", "TreeProcess", "UntrustedText"),
    *("ProcessFlags", "Processes", "Status", "TaskState", "TaskStatus", "ThrottleAction"),
    "IsolateAction",
}


def test_the_public_names_are_these() -> None:
    assert set(asys.__all__) == PUBLIC
    assert len(asys.__all__) == len(PUBLIC)
    assert set(asys.sync.__all__) == {"connect", "Node", "Task"}
    assert set(dir(asys)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_public_name_is_there_and_checked_by_type(name: str) -> None:
    value = getattr(asys, name)

    assert getattr(value, "__module__", "asys").startswith("asys")
    if name != "__version__":
        assert name in {one for names in _static_imports() for one in names}


def _static_imports() -> Iterator[list[str]]:
    """The names that type checkers see imported in `asys/__init__.py`."""
    for node in ast.walk(ast.parse((SOURCE / "__init__.py").read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield [alias.name for alias in node.names]


def test_every_exception_is_public() -> None:
    kinds = [kind for kind in vars(asys.errors).values() if isinstance(kind, type)]
    ours = {kind.__name__ for kind in kinds if issubclass(kind, asys.AsysError)}

    assert ours <= PUBLIC


def test_other_names_are_not_there() -> None:
    name = "no_such_name"
    with pytest.raises(AttributeError, match="'asys' has no attribute 'no_such_name'"):
        getattr(asys, name)


def _modules_after(statement: str) -> set[str]:
    """What is imported in a new interpreter after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(bare_python.run(code).split())


def test_importing_the_package_costs_next_to_nothing() -> None:
    modules = _modules_after("import asys")

    assert {one for one in modules if one.startswith("asys")} == {"asys"}
    assert not modules & {"asyncio", "cryptography", "dataclasses", "socket"}


def test_the_sdk_needs_cryptography_alone() -> None:
    ours = _modules_after("import asys\nfor name in asys.__all__: getattr(asys, name)")
    third = {one.split(".")[0] for one in ours} - sys.stdlib_module_names
    bare = {one.split(".")[0] for one in _modules_after("")}

    allowed = {"asys", "cryptography", "_cffi_backend", "_openssl"}
    assert third - bare - allowed == set()
    assert not {one for one in ours if one.startswith(("asys.node", "asys.cli."))}


def test_blocking_code_needs_no_asyncio() -> None:
    assert "asyncio" not in _modules_after("import asys.sync")


# Windows

POSIX_ONLY = {
    *("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "spwd", "crypt"),
    *("nis", "posix", "ossaudiodev", "curses", "readline"),
}

POSIX_ATTRIBUTES = {
    *("getuid", "geteuid", "getgid", "getegid", "fork", "chown", "fchmod", "fchown", "getpgid"),
    *("pidfd_open", "uname", "add_signal_handler", "killpg", "setsid", "sysconf"),
    *("SO_PEERCRED", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "SIGHUP", "SIGKILL"),
}


def _portable() -> list[Path]:
    parts = [SOURCE / part for part in ("client", "protocol", "isa", "fleet")]
    return [*SOURCE.glob("*.py"), *(path for part in parts for path in part.rglob("*.py"))]


@pytest.mark.parametrize("path", _portable(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_that_only_posix_has(path: Path) -> None:
    used: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            used |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            used.add(node.module.split(".")[0])
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)

    assert not used & POSIX_ONLY
    assert not used & POSIX_ATTRIBUTES


def test_the_sdk_imports_where_posix_is_missing() -> None:
    """With every module that only POSIX has out of reach, and no unix sockets."""
    modules = _modules_after(
        "import asyncio, pathlib, socket, subprocess, tempfile\n"  # these know where they are
        f"for name in {sorted(POSIX_ONLY - {'posix'})}: sys.modules[name] = None\n"
        "import asys\n"
        "for name in asys.__all__: getattr(asys, name)\n"
        "async def main():\n"
        "    del socket.AF_UNIX\n"
        "    await asys.connect('unix:/x', identity=asys.Identity.generate(), node_key=bytes(32))\n"
        "try: asyncio.run(main())\n"
        "except asys.ConnectFailed as error: assert 'no unix sockets' in str(error)\n"
        "else: raise SystemExit('it connected')\n"
        "try: asys.sync.connect('unix:/x', identity=asys.Identity.generate(), node_key=bytes(32))\n"
        "except asys.ConnectFailed as error: assert 'no unix sockets' in str(error)\n"
        "else: raise SystemExit('it connected')\n"
    )

    assert "asys.client.blocking" in modules


# Methods


@pytest.mark.parametrize("shell", [aio, blocking])
def test_type_checkers_see_a_method_for_each_instruction(shell: Any) -> None:
    tree = ast.parse(inspect.getsource(shell))
    (node,) = (one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "Node")
    listed = {
        target.id
        for statement in node.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }

    assert listed == {one.method for one in isa.REGISTRY if not one.carrier}


@pytest.mark.parametrize(
    "instruction", [one for one in isa.REGISTRY if not one.carrier], ids=lambda one: one.method
)
@pytest.mark.parametrize("shell", [aio, blocking])
def test_a_method_explains_itself(shell: Any, instruction: isa.AnyInstruction) -> None:
    method = getattr(shell.Node, instruction.method)
    text = " ".join(str(method.__doc__).split())
    guide = instruction.guide

    parts = (guide.description, guide.when, guide.when_not, guide.side_effects, guide.reversible)
    assert all(" ".join(part.split()) in text for part in parts)
    assert f"Risk: {guide.risk}" in text
    assert list(inspect.signature(method).parameters) == ["self", *instruction.request.FIELDS]
    assert method.__name__ == instruction.method
    assert inspect.iscoroutinefunction(method) is (shell is aio)


def _new_registry() -> Registry:
    registry = Registry()
    registry.add(
        Instruction(0x0D, "NEW_READ", request=Empty, reply=isa.Hello, guide=GUIDE),
        Instruction(0x2D, "NEW_ACT", request=Empty, reply=Empty, level=Level.SIGNED, guide=GUIDE),
        Instruction(
            0x2E,
            "NEW_TASK",
            request=Empty,
            reply=TaskHandle,
            level=Level.SIGNED,
            mode=Mode.ASYNC,
            guide=GUIDE,
        ),
    )
    return registry


@pytest.mark.parametrize(("shell", "make"), [(aio, aio.method_of), (blocking, blocking.method_of)])
def test_a_declaration_is_enough_for_a_method(shell: Any, make: Callable[..., Any]) -> None:
    kind: Any = type("Node", (shell.Node,), {})

    methods.attach(kind, _new_registry(), make)

    assert [kind.new_read.__name__, kind.new_act.__name__] == ["new_read", "new_act"]
    assert not hasattr(shell.Node, "new_read")
    assert kind.sys_hello is shell.Node.sys_hello


async def test_attached_methods_give_what_listed_ones_give() -> None:
    kind: Any = type("Node", (aio.Node,), {})
    methods.attach(kind, _new_registry(), aio.method_of)
    replies = {0x0D: isa.Hello(magic=b"ASYS", node_uid=1, time_ns=2).pack() + OK}
    replies |= {0x2D: OK, 0x2E: b"\0\0\0\1" + OK}
    script = serve(lambda frame: replies.get(frame.ins) or answer(frame))
    async with WireNode(script) as node, node.connect() as session:
        new = kind(session._wire, 30.0)

        assert (await new.new_read()).node_uid == 1
        assert await new.new_act() is None
        assert isinstance(await new.new_task(), asys.Task)
