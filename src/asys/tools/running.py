"""Running one tool on a node: arguments as a model wrote them, a result as a model reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from asys.client.tasks import DEFAULT_WAIT, intervals
from asys.errors import (
    AlreadyReceived,
    ArgumentError,
    AsysError,
    LinkError,
    OutcomeUnknown,
    StatusError,
)
from asys.isa import REGISTRY, SYS_CAPS, Capabilities, CapabilityMap, Empty, TaskHandle, TaskStatus
from asys.protocol.codec import Layout
from asys.tools.catalog import BITMAPS, ToolSpec
from asys.tools.fence import fenced
from asys.tools.values import arguments_of, data_of, text_of

if TYPE_CHECKING:
    from asys.client import aio, blocking

Progress = Callable[[float, str], Awaitable[None]]
"""Called while a task is pending: seconds so far, and what is going on."""

SyncProgress = Callable[[float, str], None]

SOURCE: Final = "node"
LOG_SOURCE: Final = "node log"


class ErrorKind(StrEnum):
    """Why a tool gave no result."""

    ARGUMENT = "argument"
    """The arguments are wrong; nothing was sent."""
    STATUS = "status"
    """The node answered with a status word: `sw`."""
    LINK = "link"
    """The connection failed, and the node has not been changed."""
    OUTCOME_UNKNOWN = "outcome-unknown"
    """It may have run, or not. Never take it for either."""
    TASK = "task"
    """The node did what was asked, and it ended badly."""
    PENDING = "pending"
    """The task goes on."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call.

    `text` is for the model, short; what anyone on the node may have written stands in a fence.
    `data` is the same for programs, as the tool's `result_schema` says, and empty where not `ok`;
    `untrusted` says that both hold such text. `sw` is the status word that the node answered, where
    it answered (9000 stands for all successes); `value` the reply itself.
    """

    ok: bool
    text: str
    data: dict[str, Any] = field(default_factory=dict)
    untrusted: bool = False
    sw: int | None = None
    error_kind: ErrorKind | None = None
    value: Layout | None = None


async def run(
    node: aio.Node,
    spec: ToolSpec,
    arguments: Mapping[str, Any],
    *,
    progress: Progress | None = None,
) -> ToolResult:
    """Runs a tool. What goes wrong is a result too: no AsysError is raised.

    A tool that starts a task waits until the task has ended, 65 s at most. A cancelled call leaves
    the connection usable; what changes the node may have run all the same.
    """
    try:
        given = _checked(spec, arguments)
        if spec.instruction is SYS_CAPS:
            lit = await node.refresh_capabilities()
            return _capabilities(spec, node.caps, lit)
        reply = await node.call(spec.instruction, **given)
    except AsysError as error:
        return failure(spec, error)
    if not isinstance(reply, TaskHandle):
        return _success(spec, reply, given)
    task = node.task(reply.handle)
    begun = perf_counter()
    status = TaskStatus.PENDING
    try:
        for interval in intervals():
            status = await task.query()
            elapsed = perf_counter() - begun
            if status is not TaskStatus.PENDING or elapsed >= DEFAULT_WAIT:
                break
            if progress is not None:
                await progress(elapsed, f"{spec.name}: pending for {elapsed:.0f} s")
            await asyncio.sleep(interval)
    except AsysError as error:
        return _task_lost(spec, reply, error)
    return _task_over(spec, reply, status)


def run_sync(
    node: blocking.Node,
    spec: ToolSpec,
    arguments: Mapping[str, Any],
    *,
    progress: SyncProgress | None = None,
) -> ToolResult:
    """As `run`, without asyncio, on a node of `asys.sync`."""
    try:
        given = _checked(spec, arguments)
        if spec.instruction is SYS_CAPS:
            lit = node.refresh_capabilities()
            return _capabilities(spec, node.caps, lit)
        reply = node.call(spec.instruction, **given)
    except AsysError as error:
        return failure(spec, error)
    if not isinstance(reply, TaskHandle):
        return _success(spec, reply, given)
    task = node.task(reply.handle)
    begun = perf_counter()
    status = TaskStatus.PENDING
    try:
        for interval in intervals():
            status = task.query()
            elapsed = perf_counter() - begun
            if status is not TaskStatus.PENDING or elapsed >= DEFAULT_WAIT:
                break
            if progress is not None:
                progress(elapsed, f"{spec.name}: pending for {elapsed:.0f} s")
            time.sleep(interval)
    except AsysError as error:
        return _task_lost(spec, reply, error)
    return _task_over(spec, reply, status)


def failure(spec: ToolSpec, error: AsysError) -> ToolResult:
    """The result of a call, or of an attempt to connect for it, that raised this."""
    if isinstance(error, OutcomeUnknown):
        return ToolResult(
            False,
            f"{spec.name}: it is not known whether this has run on the node. Do not take it for "
            "done, nor for not done, and do not repeat it: look at the node first.",
            sw=error.sw if isinstance(error, AlreadyReceived) else None,
            error_kind=ErrorKind.OUTCOME_UNKNOWN,
        )
    if isinstance(error, StatusError):
        text = f"{spec.name}: the node answered {error.sw:04X}, {error.meaning}. {_advice(error)}."
        return ToolResult(False, text, sw=error.sw, error_kind=ErrorKind.STATUS)
    if isinstance(error, ArgumentError):
        text = f"{spec.name}: {error}. Nothing was sent; mend the arguments."
        return ToolResult(False, text, error_kind=ErrorKind.ARGUMENT)
    if isinstance(error, LinkError):
        text = f"{spec.name}: no answer from the node: {error}. It has changed nothing there."
        return ToolResult(False, text, error_kind=ErrorKind.LINK)
    return ToolResult(False, f"{spec.name}: {error}", error_kind=ErrorKind.OTHER)


def _advice(error: StatusError) -> str:
    return error.advice[:1].upper() + error.advice[1:]


def _checked(spec: ToolSpec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    known = spec.parameters["properties"]
    return arguments_of(spec.instruction.request, arguments, known)


def _capabilities(
    spec: ToolSpec, caps: Capabilities | None, lit: CapabilityMap | None
) -> ToolResult:
    if caps is None or lit is None:
        return ToolResult(False, f"{spec.name}: the node told nothing.", error_kind=ErrorKind.OTHER)
    known = {one.code: one.name for one in REGISTRY}
    data = data_of(caps, BITMAPS)
    data["instructions"] = [known.get(code, f"{code:02X}") for code in lit]
    return ToolResult(True, text_of(data, Capabilities), data, sw=0x9000, value=caps)


def _success(spec: ToolSpec, reply: Layout, given: Mapping[str, Any]) -> ToolResult:
    if isinstance(reply, Empty):
        said = ", ".join(f"{name} {value}" for name, value in given.items())
        text = f"{spec.name}: done ({said})" if said else f"{spec.name}: done"
        return ToolResult(True, text, {"done": True}, sw=0x9000, value=reply)
    data = data_of(reply)
    text = text_of(data, type(reply))
    untrusted = spec.untrusted
    if untrusted:
        text = fenced(text, LOG_SOURCE if spec.name.startswith("log_") else SOURCE)
    return ToolResult(True, text, data, untrusted, sw=0x9000, value=reply)


def _task_over(spec: ToolSpec, started: TaskHandle, status: TaskStatus) -> ToolResult:
    data = {"status": status.name.lower(), "handle": started.handle}
    if status is TaskStatus.SUCCESS:
        return ToolResult(True, f"{spec.name}: done", data, sw=0x9000, value=started)
    if status is TaskStatus.PENDING:
        text = (
            f"{spec.name}: still pending after {DEFAULT_WAIT:.0f} s, and it goes on; "
            f"do not ask for it again. Its task handle is {started.handle}."
        )
        kind = ErrorKind.PENDING
    elif status is TaskStatus.NOT_FOUND:
        text = f"{spec.name}: it was begun, and how it ended is not known. Look at the node first."
        kind = ErrorKind.OUTCOME_UNKNOWN
    else:
        text = f"{spec.name}: it was begun and ended as {status.name.lower()}."
        kind = ErrorKind.TASK
    return ToolResult(False, text, sw=0x9000, error_kind=kind, value=started)


def _task_lost(spec: ToolSpec, started: TaskHandle, error: AsysError) -> ToolResult:
    return ToolResult(
        False,
        f"{spec.name}: the node has begun it, and how it ended cannot be told: {error}. Do not "
        "repeat it: look at the node first.",
        error_kind=ErrorKind.OUTCOME_UNKNOWN,
        value=started,
    )
