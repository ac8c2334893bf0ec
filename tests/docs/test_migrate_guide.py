"""docs/guides/migrate.md: every command on it, from an old node to a new one and back.

asyd 0.3.1 itself is not here. What stands in for it is the model that the conformance tests have of
it (`support/old_node.py`), on the files of a real config directory: it knows the handshake, the
frames and the answers of 0.3.1, and reads keys and nothing else of authorized_agents.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.pages import Block, blocks
from support.stage import play

TESTS = Path(__file__).parents[1]
PAGE = "guides/migrate.md"

BEFORE = f"""
export OLD=$HOME/asyd NEW=$HOME/asyd-new
asys keygen >/dev/null
mkdir -m 700 "$OLD"
python -c 'import os; from asys.protocol.keys import PrivateKey; key = PrivateKey.generate()
for name, data, mode in ("", key.raw(), 0o600), (".pub", key.public, 0o644):
    with open(os.environ["OLD"] + "/id_curve25519" + name, "xb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
print(key.public.hex())' >key
stranger() {{ python -c "print('{{:064x}}'.format($1))"; }}
(umask 077; echo "# as it was
$(cat ~/.asys/id_curve25519.pub) web
$(stranger 9) stolen" >"$OLD/authorized_agents")
old() {{
    if [ "$1" = stop ]; then kill "$old"; wait "$old"; return; fi
    mkfifo old-said 2>/dev/null || true
    exec {{oldsaid}}<>old-said
    PYTHONPATH={TESTS} python -m support.old_node "$OLD" 7816 >&$oldsaid & old=$!
    read -r -t 60 word rest <&$oldsaid
    [ "$word" = READY ]
}}
old start
asys trust node.example.org --stdin <key
sum() {{ (cd "$OLD"; stat -c '%n %a %Y %s' . *; sha256sum *); }}
sum >before
"""

END_OURS = """
kill -TERM "${servers[-1]}"; wait "${servers[-1]}"; unset 'servers[-1]'
"""

ADDED = """
asyd agents remove stolen --config-dir "$NEW"
asyd agents add "$(stranger 7)" --label late --config-dir "$NEW"
asyd reload --config-dir "$NEW"
"""

AFTER = """
asys status node.example.org --json
sum >after
cmp before after && echo untouched
old stop
"""


def _index(page: list[Block], text: str) -> int:
    return next(n for n, one in enumerate(page) if text in one.text)


@pytest.mark.root
def test_every_command_there_and_back() -> None:
    page = blocks(PAGE)
    assert {one.language for one in page} == {"sh"}
    switch, back = _index(page, "old stop"), _index(page, "old start")
    steps = [
        *page[:switch],
        Block("sh", END_OURS, 1),
        *page[switch : back - 1],
        Block("sh", ADDED, 2),
        page[back - 1],
        Block("sh", END_OURS, 3),
        *page[back:],
        Block("sh", AFTER, 4),
    ]
    said = play(steps, before=BEFORE)
    by_text = {one.text: said[one.line] for one in page}

    def of(text: str) -> str:
        return next(what for block, what in by_text.items() if text in block)

    assert "(nothing is written)" in of("--dry-run")
    assert "copied, so agents go on trusting it" in of("asyd agents check --strict")
    assert "2 agents, 0 errors, 0 warnings" in of("asyd agents check --strict")
    assert of("--port 7817").startswith("READY 127.0.0.1:7817 ")
    assert "node.example.org:7817 is added" in of("awk ")
    old, new = re.findall(r"^13    REKEY +(no|yes) ", of("asys caps node.example.org:7817"), re.M)
    assert (old, new) == ("no", "yes")
    kit = of("asys conformance").splitlines()
    sums = [line for line in kit if line.endswith(" level 2 is reached")]
    assert ["known deviation" in line for line in sums] == [True, False]
    assert not any(line.startswith("failed") for line in kit)
    assert "READY 127.0.0.1:7816 " in of("--listen 127.0.0.1:7816")
    assert of("asyd throttled release").count("released") == 2
    gone = of("let in since").split()
    assert f"{7:064x}" in gone[: gone.index("shut")]
    assert f"{9:064x}" in gone[gone.index("shut") :]
    assert "untouched" in said[4]
    assert '"available_mb": 22798' in said[4], "this is the old node"
