"""What is made once for many tests: a real systemd, asyd as one file, the package of Debian."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.built import built_once, one_file_missing, package_missing
from support.systemd_box import Gate, SystemdBox, systemd_box_missing

LATER = "99.0"
"""A version that comes after this one."""


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


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with what `make sbom` makes; one for all processes of a test run."""
    missing = one_file_missing()
    if missing:
        pytest.skip(f"asyd as one file {missing}")
    return built_once(tmp_path_factory, "one-file")


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with what `make deb` makes; one for all processes of a test run."""
    missing = package_missing()
    if missing:
        pytest.skip(f"the package of Debian {missing}")
    return built_once(tmp_path_factory, "package", "deb")


@pytest.fixture(scope="session")
def packaged_later(packaged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the version that comes after it."""
    return built_once(tmp_path_factory, "package-later", "deb", LATER)
