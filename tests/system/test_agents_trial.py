"""`asyd agents test` beside a real systemd and an asyd that is one of its services."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from support.admin_cli import BOSS, WEB
from support.daemon import COMMAND
from support.systemd_box import SystemdBox

pytestmark = pytest.mark.root


@dataclass
class Service:
    """An asyd that systemd has started."""

    box: SystemdBox
    name: str
    config: str

    def tried(self, who: str, instruction: str, value: str) -> tuple[str, str]:
        """The status word that `asyd agents test` tells, and all that it says."""
        words = ("agents", "test", who, instruction, value, "--config-dir", self.config)
        done = self.box.run(sys.executable, "-c", COMMAND, *words, check=False)
        assert done.stderr == ""
        assert done.returncode == (0 if done.stdout.startswith("9000") else 1)
        return done.stdout[:4], done.stdout


@pytest.fixture
def asyd(box: SystemdBox) -> Iterator[Service]:
    name = f"asyd-{secrets.token_hex(4)}"
    config = box.share / name
    config.mkdir(mode=0o700)
    agents = config / "authorized_agents"
    agents.write_text(f"{BOSS} boss caps=core,process\n{WEB} web caps=process services=web*\n")
    agents.chmod(0o600)
    options = f"--audit off --config-dir /run/box/{name} --listen unix:/run/box/{name}.sock"
    service = box.service(f'{sys.executable} -c "{COMMAND}" {options}', Type="notify")
    box.run("systemctl", "start", service)
    yield Service(box, service, f"/run/box/{name}")
    box.run("systemctl", "stop", service)
    shutil.rmtree(config)


def test_services(box: SystemdBox, asyd: Service) -> None:
    sw, said = asyd.tried("boss", "SVC_RESTART", "no-such-unit")
    assert sw == "9000"
    assert "it would restart no-such-unit.service" in said
    sw, said = asyd.tried("web", "SVC_RESTART", "web-1")
    assert sw == "9000"
    assert "services=web* matches web-1" in said
    sw, said = asyd.tried("web", "SVC_RESTART", "nginx")
    assert sw == "6982"
    assert "line 2: services=web* does not match nginx" in said


@pytest.mark.parametrize(
    ("name", "sw", "said"),
    [
        ("systemd-journald", "6982", "systemd-journald.service is protected for everybody"),
        ("dbus", "6982", "dbus.service is protected for everybody: the message bus"),
        ("dbus-org.freedesktop.login1", "9000", "it would restart systemd-logind.service"),
    ],
)
def test_by_the_id_that_systemd_has(asyd: Service, name: str, sw: str, said: str) -> None:
    assert asyd.tried("boss", "SVC_RESTART", name)[0] == sw
    assert said in asyd.tried("boss", "SVC_RESTART", name)[1]


def test_asyd_itself(box: SystemdBox, asyd: Service) -> None:
    before = box.property(asyd.name, "MainPID")
    sw, said = asyd.tried("boss", "SVC_RESTART", asyd.name)
    assert sw == "6982"
    assert f"{asyd.name}.service is protected for everybody: asyd itself" in said
    sw, said = asyd.tried("boss", "PROC_THROTTLE", before)
    assert sw == "6982"
    assert "asyd or an ancestor of it" in said
    assert box.property(asyd.name, "MainPID") == before
