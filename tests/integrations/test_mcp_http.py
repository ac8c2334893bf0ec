"""`asys-mcp` over HTTP: who comes in, and that the tools are the same ones."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from asys.errors import ArgumentError, IdentityError
from asys.integrations.mcp import http
from support.children import suspended, waiting
from support.daemon import AGENT, CORE_AGENT, Daemon, running
from support.mcp_host import TOKEN, Desk, Says, Served, no, said, state, yes

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture(scope="module")
def asyd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    agents = {AGENT: "agent caps=all", CORE_AGENT: "other caps=core"}
    with running(tmp_path_factory.mktemp("asyd"), agents=agents) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def served(asyd: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    desk = Desk(tmp_path_factory.mktemp("desk"), asyd, key=AGENT)
    with desk.http("--allow-changes", "--allow-origin", "https://good.example") as server:
        yield server


def ask(served: Served, *headers: tuple[str, str], token: str = TOKEN) -> httpx2.Response:
    """One request as a client would begin, with these headers in place of its own or besides."""
    own = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "authorization": f"Bearer {token}",
    }
    names = {name for name, _ in headers}
    sent = [*((name, value) for name, value in own.items() if name not in names), *headers]
    return httpx2.post(served.url, json=INITIALIZE, headers=sent, timeout=60)


def test_with_the_token_it_answers(served: Served) -> None:
    answer = ask(served)
    assert answer.status_code == 200
    assert '"name":"asys"' in answer.text
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", f"Bearer {TOKEN}0")],
        [("authorization", f"Bearer {TOKEN.upper()}")],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")],
    ],
)
def test_without_it_nobody_comes_in(served: Served, headers: list[tuple[str, str]]) -> None:
    answer = ask(served, *headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "asys" not in answer.text


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/mcp", "/", "/.well-known/oauth-protected-resource"])
def test_no_page_without_it(served: Served, method: str, path: str) -> None:
    url = served.url.removesuffix("/mcp") + path
    assert httpx2.request(method, url, timeout=60).status_code == 401


def test_the_scheme_may_be_written_in_any_case(served: Served) -> None:
    assert ask(served, ("authorization", f"bearer {TOKEN}")).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.nip.io"])
def test_another_host_is_refused(served: Served, host: str) -> None:
    assert ask(served, ("host", host)).status_code == 421


def test_its_own_names_are_not(served: Served) -> None:
    port = served.url.removesuffix("/mcp").rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert ask(served, ("host", f"{host}:{port}")).status_code == 200


def test_an_origin_must_have_been_allowed(served: Served) -> None:
    own = served.url.removesuffix("/mcp")
    for origin in ("https://evil.example", "null", "http://good.example", own):
        assert ask(served, ("origin", origin)).status_code == 403
    assert ask(served, ("origin", "https://good.example")).status_code == 200


async def test_two_agents_are_offered_what_each_holds(
    asyd: Daemon, served: Served, tmp_path: Path
) -> None:
    desk = Desk(tmp_path, asyd, key=CORE_AGENT)
    with desk.http("--allow-changes") as other:
        async with served.client() as mine, other.client() as others:
            all_of_it = {one.name for one in (await mine.list_tools()).tools}
            core = {one.name for one in (await others.list_tools()).tools}
    assert core == {"sys_caps", "sys_hello", "sys_status", "sys_procs"}
    assert "proc_throttle" in all_of_it - core


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(("says", "stopped"), [(None, False), (no, False), (yes, True)])
async def test_a_process_stops_when_a_person_says_yes(
    served: Served, says: Says | None, stopped: bool, mode: str
) -> None:
    with waiting() as child:
        async with served.client(says=says, mode=mode) as client:
            result = await client.call_tool("proc_throttle", {"pid": child.pid, "action": "stop"})
            assert result.is_error is not stopped
            if stopped:
                suspended(child.pid)
            else:
                assert "Nothing was done" in said(result)
            assert (state(child.pid) == "T") is stopped


async def test_it_only_reads_unless_told_otherwise(asyd: Daemon, tmp_path: Path) -> None:
    desk = Desk(tmp_path, asyd, key=AGENT)
    with desk.http(bind="[::1]:0") as server:
        assert server.url.startswith("http://[::1]:")
        async with server.client(says=yes) as client:
            tools = (await client.list_tools()).tools
            assert all(one.annotations and one.annotations.read_only_hint for one in tools)
            assert not (await client.call_tool("sys_status", {})).is_error


def test_a_proxy_in_front(asyd: Daemon, tmp_path: Path) -> None:
    desk = Desk(tmp_path, asyd, key=AGENT)
    options = ("--allow-host", "proxy.example", "--insecure-bind")
    with desk.http(*options, bind="0.0.0.0:0") as server:
        assert ask(server, ("host", "proxy.example")).status_code == 200
        assert ask(server, ("host", "203.0.113.1")).status_code == 421


# -- what is refused before it serves


def refused(desk: Desk, *options: str) -> str:
    done = desk.run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def test_it_does_not_serve_the_network_unless_told(asyd: Daemon, tmp_path: Path) -> None:
    desk = Desk(tmp_path, asyd, key=AGENT)
    token = str(desk.token_file())
    assert "--insecure-bind" in refused(desk, "--http", "192.0.2.1:0", "--token-file", token)
    assert "--allow-host" in refused(
        *(desk, "--http", "0.0.0.0:0", "--token-file", token, "--insecure-bind")
    )
    assert "needs --token-file" in refused(desk, "--http", "127.0.0.1:0")
    assert "need --http" in refused(desk, "--token-file", token)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "cannot listen" in refused(desk, "--http", address, "--token-file", token)


@pytest.mark.parametrize(
    "bind", ["127.0.0.1", "node:80", "127.0.0.1:x", ":80", "::1:80", "1:70000"]
)
def test_what_is_no_address(bind: str) -> None:
    with pytest.raises(ArgumentError):
        http.parse_bind(bind)


def test_addresses() -> None:
    assert http.parse_bind("localhost:80") == ("127.0.0.1", 80)
    assert http.parse_bind("[::1]:0") == ("::1", 0)
    http.check_bind("::1", insecure=False)
    http.check_bind("192.0.2.1", insecure=True)
    with pytest.raises(ArgumentError, match="--insecure-bind"):
        http.check_bind("192.0.2.1", insecure=False)


def token_in(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_token_file(tmp_path: Path) -> None:
    good = token_in(tmp_path / "good", TOKEN.encode() + b"\n")
    assert http.read_token(good) == TOKEN
    with pytest.raises(IdentityError, match="chmod 600"):
        http.read_token(token_in(tmp_path / "open", TOKEN.encode(), 0o640))
    with pytest.raises(IdentityError, match="there is no token file"):
        http.read_token(tmp_path / "none")
    with pytest.raises(IdentityError, match="no regular file"):
        http.read_token(tmp_path)
    for content in (b"", b"short", b"a b" * 20, b"\xff" * 40, b"a" * 2000):
        with pytest.raises(IdentityError, match="must hold one token") as error:
            http.read_token(token_in(tmp_path / "bad", content))
        assert "aaaa" not in str(error.value)


@pytest.mark.root
def test_the_token_file_of_another(tmp_path: Path) -> None:
    path = token_in(tmp_path / "other", TOKEN.encode())
    os.chown(path, 65534, 65534)
    with pytest.raises(IdentityError, match="another user"):
        http.read_token(path)
