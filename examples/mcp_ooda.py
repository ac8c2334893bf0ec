"""The same loop through MCP: a model observes a node, and suspends the process that eats its CPU.

Everything is real but the model: a node (`asyd`) on loopback with keys made for this run, a CPU
hog, the MCP server `asys-mcp` over stdin and stdout, and the official MCP client. The model is a
script, so this runs offline; it sees what any model sees, the tools and their results. A person,
also a script, says yes to what concerns the hog, and no to all else. Needs asys[daemon,mcp] and no
root. Exit status 1 when a step did not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import ElicitResult, TextContent

import asys

HOG = "while True: pass"
BUSY_PERCENT = 20.0
CALM_PERCENT = 5.0
STEP_SECONDS = 30.0
POLL_SECONDS = 0.1

ToolCall = tuple[str, dict[str, Any]]


class StepFailed(Exception):
    """A step of the demo did not hold."""


@contextlib.contextmanager
def running(*command: str, read: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block, whatever happens in it."""
    output = subprocess.PIPE if read else None
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def node_for(agent: asys.Identity, directory: Path) -> Iterator[tuple[int, bytes]]:
    """A real asyd that grants `agent` a little; gives its port and its public key."""
    config = directory / "node"
    config.mkdir(mode=0o700)
    agents = config / "authorized_agents"
    agents.write_text(f"{agent.public.hex()} demo caps=core,PROC_THROTTLE\n")
    agents.chmod(0o600)
    asyd = (sys.executable, "-c", "import sys; from asys.cli.daemon import main; sys.exit(main())")
    options = ("--listen", "127.0.0.1", "--port", "0", "--audit", "off")
    with running(*asyd, "--config-dir", str(config), *options, read=True) as process:
        ready = process.stdout.readline().split() if process.stdout else []
        if not ready or ready[0] != "READY":
            raise StepFailed("asyd did not start; run it by hand to see why")
        yield int(ready[1].rpartition(":")[2]), bytes.fromhex(ready[2])


def model(suspect: int, tools: set[str]) -> Generator[ToolCall, dict[str, Any], None]:
    """A scripted model: yields the tool that it wants called, and is sent what came of it."""
    if not {"sys_status", "sys_procs", "proc_throttle"} <= tools:
        raise StepFailed(f"the model was offered {sorted(tools)}")

    def cpu_of(found: dict[str, Any]) -> float:
        shown = [one["cpu_percent"] for one in found["top"] if one["pid"] == suspect]
        return float(shown[0]) if shown else 0.0

    print("observe: how is the node?")
    yield "sys_status", {}
    print(f"orient:  is it PID {suspect}?")
    while cpu_of((yield "sys_procs", {})) < BUSY_PERCENT:
        pass
    print(f"decide:  PID {suspect} takes what others need, and can be continued: suspend it")
    yield "proc_throttle", {"pid": suspect, "action": "stop"}
    print("observe: did it help?")
    while cpu_of((yield "sys_procs", {})) > CALM_PERCENT:
        pass
    print("act:     let it go on")
    yield "proc_throttle", {"pid": suspect, "action": "continue"}
    while cpu_of((yield "sys_procs", {})) < BUSY_PERCENT:
        pass
    print("observe: it runs again")


async def converse(server: StdioServerParameters, hog: int) -> None:
    """The MCP host: calls the tools that the model wants, and lets a person answer questions."""

    async def person(context: Any, params: Any) -> ElicitResult:
        concerned = f"pid={hog}," in params.message
        print(f"    asked: {params.message.partition('?')[0]}? {'yes' if concerned else 'no'}")
        return ElicitResult(action="accept", content={"confirm": concerned})

    async with Client(stdio_client(server), elicitation_callback=person) as client:
        tools = {one.name for one in (await client.list_tools()).tools}
        print(f"    tools: {', '.join(sorted(tools))}")
        await _still_there(client)
        thought = model(hog, tools)
        call: ToolCall | None = next(thought)
        last: ToolCall | None = None
        while call is not None:
            if call == last:
                await asyncio.sleep(POLL_SECONDS)
            name, arguments = call
            result = await client.call_tool(name, arguments)
            said = " ".join(one.text for one in result.content if isinstance(one, TextContent))
            if result.is_error:
                raise StepFailed(said)
            if call != last:
                print(f"    {name}: {said.splitlines()[0].removeprefix(name + ': ')}")
            last = call
            try:
                call = thought.send(result.structured_content or {})
            except StopIteration:
                call = None


async def _still_there(client: Client) -> None:
    """What a person has not said yes to is not done: here, to suspend this very process."""
    refused = await client.call_tool("proc_throttle", {"pid": os.getpid(), "action": "stop"})
    if not refused.is_error:
        raise StepFailed("something was done that nobody wanted")


async def ooda(directory: Path, identity: Path, port: int, key: bytes, hog: int) -> None:
    """Starts `asys-mcp` as a desktop host would, and lets the model act."""
    known_hosts = directory / "known_hosts"
    asys.KnownHosts(known_hosts).add("127.0.0.1", port, key)
    server = StdioServerParameters(
        command=sys.executable,
        args=[
            *("-m", "asys.integrations.mcp.command", f"127.0.0.1:{port}", "--allow-changes"),
            *("--identity", str(identity), "--known-hosts", str(known_hosts)),
        ],
    )
    async with asyncio.timeout(4 * STEP_SECONDS):
        await converse(server, hog)


def main() -> int:
    """Sets the stage, lets the model act, cleans up. Returns the exit status."""
    print("ASys through MCP: a model finds a runaway process and suspends it")
    with tempfile.TemporaryDirectory(prefix="asys-demo-") as name:
        directory = Path(name)
        identity = asys.Identity.create(directory / "agent")
        try:
            with (
                running(sys.executable, "-c", HOG) as hog,
                node_for(identity, directory) as (port, key),
            ):
                asyncio.run(ooda(directory, directory / "agent", port, key, hog.pid))
        except (StepFailed, asys.AsysError, TimeoutError) as error:
            print(f"FAILED: {error or type(error).__name__}", file=sys.stderr)
            return 1
    print("every step held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
