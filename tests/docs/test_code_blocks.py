"""The code on the pages of the documentation runs as it stands, on a real asyd."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.pages import Block, blocks, pages_with
from support.stage import play

TESTS = Path(__file__).parents[1]

ELSEWHERE = {
    "guides/agent-framework.md": "docs/test_framework_guides.py",
    "guides/autogen.md": "docs/test_framework_guides.py",
    "guides/fleet.md": "docs/test_fleet_guide.py",
    "guides/langchain.md": "docs/test_framework_guides.py",
    "guides/long-lived-agents.md": "docs/test_long_lived_guide.py",
    "instructions.md": "isa/test_sample.py",
}
"""Pages whose Python needs what only their own tests give it."""

HERE = {"guides/mcp.md", "index.md", "start.md"}

NODE = """
asys keygen >/dev/null
asyd pubkey >key
asyd agents add "$(cat ~/.asys/id_curve25519.pub)" --caps all
mkfifo ready
asyd --listen 127.0.0.1 >ready 2>errors-node &
servers+=($!)
exec {ready}<>ready
read -r -t 60 word rest <&$ready
for host in node.example.org web1.example.org; do asys trust "$host" --stdin <key; done
"""
"""A node that its names lead to, and an agent that may do everything there."""

CONNECTED = """
asyd pubkey | asys trust 127.0.0.1 --stdin
mkfifo connected
python -c '
import asys, threading
with asys.sync.connect("127.0.0.1") as node:
    print(node.sys_hello(), flush=True)
    threading.Event().wait()
' >connected &
read -r -t 60 hello <connected
"""
"""Lets the agent have a session, until the stage is cleared away."""


def test_the_python_of_every_page_is_run_by_a_test() -> None:
    assert pages_with("python") == HERE | set(ELSEWHERE)
    for page, test in ELSEWHERE.items():
        name = Path(page).name if test.startswith("docs/") else page
        assert name in (TESTS / test).read_text("utf-8"), f"{test} says nothing of {page}"


def test_shell_is_run_where_a_page_has_nothing_else_that_tests_it() -> None:
    assert pages_with("sh") == {
        "guides/admin.md",
        "guides/fleet.md",
        "guides/keys.md",
        "guides/migrate.md",
        "start.md",
    }


@pytest.mark.root
def test_start() -> None:
    page = blocks("start.md")
    said = list(play(page).values())

    assert len(said) == len(page) == 8
    assert "added: " in said[0]
    assert "1 agent, 0 errors, 0 warnings" in said[0]
    assert "READY 127.0.0.1:7816 " in said[1]
    assert "SYS_CAPS" in said[2]
    assert "% CPU, load " in said[3]
    assert said[4] in ("state T\n", "state R\n")  # R: it has not got to the signal yet
    assert "may restart services: False" in said[5]
    assert "SVC_RESTART" in said[5]
    assert "6982" in said[5]
    assert "dark: " in said[6]
    assert "light: " in said[6]
    assert "PROC_THROTTLE" in said[7]


@pytest.mark.root
def test_the_admin_s_guide() -> None:
    page = blocks("guides/admin.md")
    before = "asys keygen >/dev/null\nAGENT_KEY=$(cat ~/.asys/id_curve25519.pub)\n"
    served = next(index for index, one in enumerate(page) if one.text.startswith("asyd --")) + 1
    steps = [*page[:served], Block("sh", CONNECTED, 0), *page[served:]]
    said = "".join(play(steps, before=before, AUDIT="/mnt/home/.config/asyd/state/audit").values())

    assert {block.language for block in page} == {"sh"}
    assert "web-agent caps=core,PROC_THROTTLE" in said
    assert "refused, as it should be" in said
    assert "refused to everybody" in said
    assert "web-agent  " in said.partition("LABEL ")[2]
    assert "closed: 1 of " in said
    assert "removed: " in said
    assert "127.0.0.1:7817" in said


@pytest.mark.root
def test_the_first_page() -> None:
    [said] = play(blocks("index.md"), before=NODE).values()
    assert "MB available" in said
    assert "this agent may suspend processes here" in said


@pytest.mark.root
def test_python_of_the_mcp_guide() -> None:
    [block] = [one for one in blocks("guides/mcp.md") if one.language == "python"]
    asked = Block("python", f"{block.text}\nimport asyncio\nprint(asyncio.run(vitals()))\n", 1)
    [said] = play([asked], before=NODE).values()
    assert "'cpu_percent'" in said
