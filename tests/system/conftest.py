"""A real systemd for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.systemd_box import Gate, SystemdBox, systemd_box_missing


@pytest.fixture(scope="session")
def systemd_box() -> Iterator[SystemdBox]:
    """One box for all tests of this process."""
    missing = systemd_box_missing()
    if missing:
        pytest.skip(f"a systemd of its own {missing}")
    with SystemdBox() as box:
        yield box


@pytest.fixture
def box(systemd_box: SystemdBox) -> Iterator[SystemdBox]:
    """The box; at the end of the test without the units and the commands that it made."""
    before = set(systemd_box.units)
    yield systemd_box
    systemd_box.end_children()
    for name in systemd_box.units - before:
        systemd_box.remove_unit(name)


@pytest.fixture
def gate(box: SystemdBox) -> Iterator[Gate]:
    """Holds up a command in the box."""
    made = Gate(box.share)
    yield made
    made.close()
