"""A next key on the disk: it is there whole or not at all, and whatever dies takes no key along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.files import ConfigError
from asys.node.disk.next_key import (
    NEXT_SIZE,
    NextKey,
    beginning,
    do_all,
    read_next,
    read_statements,
    taking_over,
)
from asys.protocol.statement import KeyStatement

NOW = 1_800_000_000

KILLED: Final = f"""\
import os, signal, sys
from pathlib import Path
from asys.node.disk.config_dir import ConfigDir
from asys.node.disk.next_key import NextKey, beginning, do_all, read_next, taking_over
left = [int(sys.argv[3])]
def last(name):
    real = getattr(os, name)
    def done(*args, **kwargs):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*args, **kwargs)
    setattr(os, name, done)
for name in ("replace", "fsync", "pwrite", "unlink", "fchmod"):
    last(name)
config = ConfigDir(Path(sys.argv[1]), make=False)
if sys.argv[2] == "begin":
    do_all(iter([beginning(config, NextKey.make(config.load_key(), {NOW}, 60))]))
else:
    do_all(taking_over(config, read_next(config)))
print("done")
"""
"""Dies by SIGKILL in front of the call of a system that its last argument counts to."""


@pytest.fixture
def config(tmp_path: Path) -> ConfigDir:
    made = ConfigDir(tmp_path / "asyd")
    made.load_key()
    return made


def begun(config: ConfigDir, overlap: int = 60) -> NextKey:
    made = NextKey.make(config.load_key(), NOW, overlap)
    do_all(iter([beginning(config, made)]))
    return made


def killed(config: ConfigDir, what: str, after: int) -> bool:
    """Does it in a process that dies after so many calls; False: it came to its end before."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(config.path), what, str(after)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if run.returncode == -signal.SIGKILL:
        return True
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
    return False


def files(config: ConfigDir) -> set[str]:
    return {one.name for one in config.path.iterdir() if not one.name.startswith(".")}


def test_the_file_is_private_and_as_large_as_it_is_said(config: ConfigDir) -> None:
    made = begun(config)
    info = config.next_path.stat()
    assert (info.st_mode & 0o777, info.st_size) == (0o600, NEXT_SIZE)
    found = read_next(config)
    assert found is not None
    assert found.key.raw() == made.key.raw()
    assert (found.statement, found.turning) == (made.statement, False)
    assert (made.statement.made, made.statement.ends) == (NOW, NOW + 60)
    made.statement.check()
    assert made.key.raw().hex() not in repr(made)


def test_both_keys_are_there_until_it_ends(config: ConfigDir) -> None:
    old, made = config.load_key(), begun(config)
    loaded = config.load_keys(NOW + 59)
    assert loaded.key.public == old.public
    assert loaded.next is not None
    assert loaded.next.key.public == made.key.public
    assert loaded.ended is None


@pytest.mark.parametrize("now", [NOW + 60, NOW + 10**6])
def test_who_starts_behind_the_end_has_the_next_key_alone(config: ConfigDir, now: int) -> None:
    old, made = config.load_key(), begun(config)
    loaded = config.load_keys(now)
    assert (loaded.key.public, loaded.next, loaded.ended) == (made.key.public, None, made.statement)
    assert files(config) == {"id_curve25519", "id_curve25519.pub", "key_statements"}
    assert config.public_path.read_bytes() == made.key.public
    assert read_statements(config) == [made.statement]
    # It is erased, and a clock that is set back does not bring it to life again.
    assert old.raw() not in b"".join(one.read_bytes() for one in config.path.iterdir())
    again = config.load_keys(NOW - 10**6)
    assert (again.key.public, again.next, again.ended) == (made.key.public, None, None)


def test_the_old_key_is_erased_where_it_lay(config: ConfigDir) -> None:
    old, made = config.load_key(), begun(config)
    with config.key_path.open("rb") as before:
        do_all(taking_over(config, made))
        assert before.read() == made.key.raw() != old.raw()
    assert config.key_path.stat().st_mode & 0o777 == 0o600
    assert config.public_path.stat().st_mode & 0o777 == 0o644
    assert config.statements_path.stat().st_mode & 0o777 == 0o644


def test_statements_of_all_rotations_are_kept_in_order(config: ConfigDir) -> None:
    stated = []
    for _ in range(3):
        made = begun(config)
        do_all(taking_over(config, made))
        stated.append(made.statement)
    assert read_statements(config) == stated
    assert [one.new_key for one in stated[:-1]] == [one.old_key for one in stated[1:]]


def test_killed_while_it_begins(config: ConfigDir) -> None:
    """One key, or two with a statement that is good: nothing between."""
    old = config.load_key()
    seen = set()
    for after in range(100):
        died = killed(config, "begin", after)
        loaded = config.load_keys(NOW)
        assert loaded.key.raw() == old.raw()
        seen.add(loaded.next is not None)
        if loaded.next is not None:
            loaded.next.statement.check()
            config.next_path.unlink()
        if not died:
            break
    else:
        raise AssertionError("it never came to its end")
    assert seen == {False, True}
    assert not [one for one in config.path.iterdir() if one.name.startswith(".id_curve25519.next.")]


def test_killed_while_the_next_key_takes_over(config: ConfigDir) -> None:
    """At every call: who starts then has both keys as before, or the next one and nothing else."""
    old, made = config.load_key(), begun(config)
    whole = {one: one.read_bytes() for one in config.path.iterdir()}
    kept = set()
    for after in range(100):
        died = killed(config, "finish", after)
        loaded = config.load_keys(NOW)
        kept.add(loaded.next is not None)
        if loaded.next is not None:
            assert (loaded.key.raw(), loaded.next.key.raw()) == (old.raw(), made.key.raw())
        else:
            assert loaded.key.raw() == made.key.raw()
            assert read_statements(config) == [made.statement]
            assert not config.next_path.exists()
        if not died:
            break
        for one in config.path.iterdir():
            one.unlink()
        for path, data in whole.items():
            path.write_bytes(data)
            path.chmod(0o600)
    else:
        raise AssertionError("it never came to its end")
    assert kept == {False, True}


def test_a_torn_write_of_the_key_is_mended(config: ConfigDir) -> None:
    made = begun(config)
    writes = taking_over(config, made)
    for _ in range(2):
        do_all(iter([next(writes)]))
    raw = config.key_path.read_bytes()
    config.key_path.write_bytes(made.key.raw()[:7] + raw[7:])
    assert config.load_keys(NOW).key.raw() == made.key.raw()


# -- what is damaged


@pytest.mark.parametrize("size", [0, 1, NEXT_SIZE - 1, NEXT_SIZE + 1])
def test_a_file_that_is_cut_is_never_taken(config: ConfigDir, size: int) -> None:
    begun(config)
    data = (config.next_path.read_bytes() + b"\0")[:size]
    config.next_path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        config.load_keys(NOW)
    assert config.next_path.read_bytes() == data


@pytest.mark.parametrize("at", [0, 1, 20, 33, 70, 100, NEXT_SIZE - 1])
def test_a_file_with_another_byte_is_never_taken(config: ConfigDir, at: int) -> None:
    begun(config)
    data = bytearray(config.next_path.read_bytes())
    data[at] ^= 0x40
    config.next_path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"damaged.*mv "):
        config.load_keys(NOW)


def test_a_next_key_of_another_node_is_not_taken(config: ConfigDir, tmp_path: Path) -> None:
    other = ConfigDir(tmp_path / "other")
    other.load_key()
    begun(other)
    config.next_path.write_bytes(other.next_path.read_bytes())
    config.next_path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"another key than.*rm "):
        config.load_keys(NOW)


def test_it_must_be_private(config: ConfigDir) -> None:
    begun(config)
    config.next_path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        config.load_keys(NOW)


@pytest.mark.parametrize("text", [b"\xff\n", b"zz\n", b"00" * 135 + b"\n"])
def test_statements_that_are_damaged_keep_the_old_key(config: ConfigDir, text: bytes) -> None:
    """What cannot be read is not written over, so nobody takes over."""
    made = begun(config)
    config.statements_path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"key_statements is damaged.*mv "):
        do_all(taking_over(config, made))
    assert config.statements_path.read_bytes() == text
    assert config.load_keys(NOW).next is not None


def test_a_disk_that_takes_nothing_is_said(config: ConfigDir) -> None:
    made = begun(config)
    config.key_path.unlink()
    config.key_path.mkdir()
    with pytest.raises(ConfigError, match="mend the disk"):
        do_all(taking_over(config, made))
    assert os.listdir(config.key_path) == []


def test_only_what_was_packed_is_unpacked(config: ConfigDir) -> None:
    made = NextKey.make(config.load_key(), NOW, 60)
    data = made.pack()
    assert NextKey.unpack(data).key.raw() == made.key.raw()
    other = NextKey.make(config.load_key(), NOW, 60)
    mixed = data[:33] + other.statement.pack()
    with pytest.raises(ValueError, match="another key"):
        NextKey.unpack(mixed)
    assert KeyStatement.unpack(data[33:]) == made.statement
