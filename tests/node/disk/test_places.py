"""Where state and admin socket are, and addresses of sockets far down in a tree."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from asys.node.disk.places import SOCKET_PATH_SIZE, Places, places, socket_address

SYSTEM = Places(Path("/var/lib/asyd"), Path("/run/asyd/admin.sock"))


@pytest.mark.parametrize("written", ["/etc/asyd", "/etc/asyd/", "/etc/../etc//asyd"])
def test_of_the_system(written: str) -> None:
    assert places(Path(written)) == SYSTEM


def test_of_the_system_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("/etc/asyd")
    assert places(tmp_path / "link") == SYSTEM
    monkeypatch.chdir("/etc")
    assert places(Path("asyd")) == SYSTEM


def test_of_the_system_where_that_is_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "asyd").symlink_to("real")
    monkeypatch.setattr("asys.node.disk.places.SYSTEM_CONFIG_DIR", tmp_path / "asyd")
    assert places(tmp_path / "asyd") == places(tmp_path / "real") == SYSTEM


@pytest.mark.parametrize("written", ["/etc/asyd2", "/etc", "/home/u/.config/asyd", "asyd"])
def test_of_any_other_directory(written: str) -> None:
    path = Path(written)
    assert places(path) == Places(path / "state", path / "admin.sock")


def test_places_by_name() -> None:
    state, sock = Path("/s"), Path("/a.sock")
    assert places(Path("/etc/asyd"), state_dir=state) == Places(state, SYSTEM.admin_socket)
    assert places(Path("/etc/asyd"), admin_socket=sock) == Places(SYSTEM.state_dir, sock)
    assert places(Path("/x"), state_dir=state, admin_socket=sock) == Places(state, sock)


def test_a_short_path_is_its_own_address() -> None:
    for path in (Path("/run/asyd/admin.sock"), Path("/" + "x" * (SOCKET_PATH_SIZE - 1))):
        with socket_address(path) as address:
            assert address == str(path)


def test_a_long_path_can_be_bound_and_connected(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120) / ("\N{EURO SIGN}" * 60)
    directory.mkdir(parents=True)
    path = directory / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as peer:
        with socket_address(path) as address:
            assert len(address) <= SOCKET_PATH_SIZE
            listener.bind(address)
        assert path.is_socket()
        listener.listen()
        with socket_address(path) as address:
            peer.connect(address)


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    before = sorted(os.listdir("/proc/self/fd"))
    with socket_address(directory / "sock") as address:
        assert os.path.samefile(os.path.dirname(address), directory)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_long_path_without_a_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), socket_address(tmp_path / ("d" * 120) / "sock"):
        pytest.fail("there is no such directory")
