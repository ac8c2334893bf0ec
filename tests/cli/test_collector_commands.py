"""`asyd collector`: whose key is pinned, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asys.node.audit.shadow.pinned import KnownCollectors, parse_collector, parse_key
from asys.node.disk.files import ConfigError
from asys.protocol.keys import PrivateKey
from support.asyd_cli import asyd_command, told

KEY = PrivateKey.generate().public.hex()
OTHER = PrivateKey.generate().public.hex()


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "asyd"
    directory.mkdir(mode=0o700)
    return directory


def test_one_is_trusted_and_listed(config_dir: Path) -> None:
    assert KEY in told(config_dir, "collector", "trust", "192.0.2.9:7817", KEY.upper())
    told(config_dir, "collector", "trust", "[2001:db8::0:1]:7817", OTHER)
    told(config_dir, "collector", "trust", "192.0.2.9:7817", KEY)
    lines = [f"192.0.2.9:7817  {KEY}", f"[2001:db8::1]:7817  {OTHER}"]
    assert told(config_dir, "collector", "list").splitlines() == lines
    path = config_dir / "known_collectors"
    assert path.read_text().splitlines() == lines
    assert path.stat().st_mode & 0o777 == 0o600
    shown = json.loads(told(config_dir, "collector", "list", "--json"))
    assert shown == {
        "collectors": [
            {"address": "192.0.2.9:7817", "key": KEY},
            {"address": "[2001:db8::1]:7817", "key": OTHER},
        ]
    }


def test_another_key_is_not_taken(config_dir: Path) -> None:
    told(config_dir, "collector", "trust", "host:7817", KEY)
    done = asyd_command(config_dir, "collector", "trust", "HOST:7817", OTHER)
    assert done.returncode == 1
    assert "remove that line first" in done.stderr
    assert told(config_dir, "collector", "list") == f"host:7817  {KEY}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("192.0.2.9", KEY),
        ("192.0.2.9:0", KEY),
        ("::1:7817", KEY),
        ("[nonsense]:7817", KEY),
        ("192.0.2.9:7817", KEY[:-1]),
        ("192.0.2.9:7817", bytes(32).hex()),
    ],
)
def test_what_is_no_address_or_no_key(config_dir: Path, words: tuple[str, str]) -> None:
    done = asyd_command(config_dir, "collector", "trust", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("asyd: ")
    assert not (config_dir / "known_collectors").exists()


def test_there_must_be_a_directory_to_list(tmp_path: Path) -> None:
    done = asyd_command(tmp_path / "none", "collector", "list")
    assert done.returncode == 1
    assert not (tmp_path / "none").exists()


def test_a_file_that_cannot_be_used(config_dir: Path) -> None:
    path = config_dir / "known_collectors"
    path.write_text("nonsense\n")
    path.chmod(0o600)
    known = KnownCollectors(config_dir)
    address = parse_collector("host:7817")
    for use in (known.entries, lambda: known.destination(address)):
        with pytest.raises(ConfigError, match="line 1"):
            use()
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError):
        known.trust(address, parse_key(KEY))


def test_who_is_not_known_is_told_how(config_dir: Path) -> None:
    known = KnownCollectors(config_dir)
    address = parse_collector("[::1]:9")
    with pytest.raises(ConfigError, match=r"asyd collector trust \[::1\]:9 KEY --config-dir"):
        known.destination(address)
    known.trust(address, parse_key(KEY))
    assert known.destination(address).key.hex() == KEY


def test_a_directory_that_cannot_be_written(
    config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        KnownCollectors(config_dir).trust(parse_collector("host:7817"), parse_key(KEY))
