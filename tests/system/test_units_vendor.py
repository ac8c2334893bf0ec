"""A vendor's worker beside packaging/systemd/asyd.service, with the drop-in of the guide."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from support.caged import FULL, PROGRAM, SECONDS, Caged, caged, drop_in, options
from support.frames import BLOCKED, OK
from support.raw_agent import RawAgent
from support.systemd_box import SystemdBox
from support.vendor_box import GOOD, installed, unit
from support.vendors import Packages

pytestmark = pytest.mark.root


@pytest.fixture
def packages(systemd_box: SystemdBox) -> Iterator[Packages]:
    with installed(systemd_box) as made:
        yield made


@pytest.fixture
def asyd(systemd_box: SystemdBox, packages: Packages) -> Iterator[Caged]:
    program = PROGRAM.replace(
        "from asys.cli", f"sys.path.append('/run/box/{packages.directory.name}')\nfrom asys.cli"
    )
    with caged(systemd_box, FULL, program=program) as [made]:
        made.admit("--caps", "core,vendor", "--vendors", GOOD)
        made.drop_in("options", drop_in({"Environment": options(FULL, f"--vendor {GOOD}")}))
        yield made


def test_its_worker_is_a_unit_beside_it(asyd: Caged, packages: Packages) -> None:
    asyd.do("start")
    deadline = time.monotonic() + SECONDS
    while "with ReadWritePaths=/run/systemd/system" not in asyd.log:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    asyd.drop_in("vendor", drop_in({"ReadWritePaths": "/run/systemd/system"}))
    asyd.do("restart")
    request = packages.ids[GOOD].to_bytes(4, "big") + b"\0\0\0\1"
    with RawAgent(asyd.address) as agent:
        agent.handshake(asyd.identity.key)
        while (answer := agent.ask(agent.signed(0xC0, request))) == BLOCKED:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert answer == b"\0\0\0\2" + OK
    assert asyd.box.property(unit(GOOD), "ActiveState") == "active"
    assert asyd.box.property(unit(GOOD), "DynamicUser") == "yes"
    asyd.do("stop")
    assert asyd.box.property(unit(GOOD), "ActiveState") != "active"
    asyd.box.run("sh", "-c", "rm -r /run/systemd/system/asyd-vendor@*; systemctl daemon-reload")
