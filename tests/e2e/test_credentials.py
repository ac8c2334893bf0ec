"""asyd whose key and agents are credentials, as systemd hands them over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asys.node.disk.credentials import AGENTS, KEY
from asys.protocol.keys import PrivateKey
from support.daemon import AGENT, COMMAND, CORE_AGENT, running


def test_they_go_before_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = PrivateKey.generate()
    given = tmp_path / "given"
    given.mkdir(mode=0o700)
    for name, data in ((KEY, key.raw()), (AGENTS, f"{AGENT.public.hex()} given\n".encode())):
        (given / name).write_bytes(data)
        (given / name).chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    with running(tmp_path, agents={CORE_AGENT: "of-the-file"}) as asyd:
        assert asyd.key == key.public
        with asyd.connect(AGENT) as agent:
            assert agent.alive()
        with asyd.connect(CORE_AGENT) as agent:
            assert not agent.alive()
        assert asyd.said(f"1 agents in {given / AGENTS}")
        assert asyd.said(f"{asyd.config_dir}/authorized_agents is not read")
        environment = Path(f"/proc/{asyd.pid}/environ")
        if environment.exists():
            children = Path(f"/proc/{asyd.pid}/task/{asyd.pid}/children").read_text().split()
            for child in children:
                assert b"CREDENTIALS" not in Path(f"/proc/{child}/environ").read_bytes()
        words = ("pubkey", "--config-dir", str(asyd.config_dir))
        told = subprocess.run(
            [sys.executable, "-c", COMMAND, *words], check=True, capture_output=True, text=True
        ).stdout
        assert told.strip() == key.public.hex()
        assert not (asyd.config_dir / "id_curve25519").exists()
