"""What the logs are read from, and what is said where nothing can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from asys.node.platform.logs.place import Found, LogPlace, find
from support.users import plain_user

ID = "0123456789abcdef0123456789abcdef"


class Machine:
    """A place for journals, an id, and a device."""

    def __init__(self, path: Path) -> None:
        self.journals = (path / "run", path / "var")
        self.device = path / "kmsg"
        self.machine_id = path / "machine-id"
        self.machine_id.write_text(f"{ID}\n")

    def journal(self, at: int, name: str, machine: str = ID) -> Path:
        directory = self.journals[at] / machine
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
        return directory

    def find(self) -> Found:
        return find(
            tuple(str(one) for one in self.journals), str(self.device), str(self.machine_id)
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("name", ["system.journal", "system@0123-4.journal"])
def test_a_journal(machine: Machine, at: int, name: str) -> None:
    machine.journal(at, name)
    assert machine.find() == (LogPlace.JOURNAL, "")


def test_the_kernel_s_log_where_there_is_no_journal(machine: Machine) -> None:
    machine.device.touch()
    assert machine.find() == (LogPlace.KERNEL, "")
    machine.journal(0, "user-1000.journal")
    machine.journal(0, "system.journal", "0" * 32)
    assert machine.find() == (LogPlace.KERNEL, "")
    machine.machine_id.write_text("")
    assert machine.find() == (LogPlace.KERNEL, "")
    machine.machine_id.write_bytes(b"\xff")
    assert machine.find() == (LogPlace.KERNEL, "")
    machine.machine_id.unlink()
    assert machine.find() == (LogPlace.KERNEL, "")


def test_nothing(machine: Machine) -> None:
    place, lack = machine.find()
    assert place is LogPlace.NONE
    assert "6D00" in lack
    assert str(machine.device) in lack
    assert "No such file" in lack


@pytest.mark.parametrize("closed", ["directory", "file"])
def test_a_journal_that_may_not_be_read_is_not_replaced(closed: str) -> None:
    with plain_user() as path:
        machine = Machine(path)
        directory = machine.journal(0, "system.journal")
        (directory if closed == "directory" else directory / "system.journal").chmod(0)
        machine.device.touch()
        place, lack = machine.find()
        assert place is LogPlace.NONE
        assert "may not read the journal" in lack
        assert "6D00" in lack
        machine.journal(1, "system.journal")
        assert machine.find() == (LogPlace.JOURNAL, "")
