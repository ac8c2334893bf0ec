"""asyd on disks that have no room: it starts, and an admin can mend it while it runs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.admin_rig import fill_with_files, small_disk
from support.asyd_cli import asyd_command
from support.own_daemon import config, faulty

pytestmark = pytest.mark.root


def test_without_room_for_state_and_socket_it_starts(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", files=12) as disk:
        fillers = fill_with_files(disk)
        state, door = disk / "state", disk / "run" / "admin.sock"
        places = ("--state-dir", str(state), "--admin-socket", str(door))
        directory = config(tmp_path)
        with faulty(directory, *places) as asyd:
            assert asyd.said(f"{state / 'dark'} cannot be made: No space left on device") == 1
            asyd.wait_for(f"cannot listen on unix:{door}: No space left on device")
            with asyd.connect() as agent:
                assert agent.alive()

                # It is tried again when an admin says so, and not before.
                asyd.process.send_signal(signal.SIGHUP)
                asyd.wait_for("agents in", times=2)
                assert not door.exists()

                for filler in fillers:
                    filler.unlink()
                asyd.process.send_signal(signal.SIGHUP)
                asyd.wait_for("agents in", times=3)
                assert asyd_command(directory, "dark", *places).returncode == 0
                assert (state / "dark").read_bytes() == b"1"

                state.chmod(0o777)
                asyd.process.send_signal(signal.SIGHUP)
                asyd.wait_for("agents in", times=4)
                asyd.wait_for(f"run: chmod 700 {state}")
                assert agent.alive()
            state.chmod(0o700)
