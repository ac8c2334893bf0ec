"""The node's config directory: a key that is made once, and refusals that say what to do."""

from __future__ import annotations

import errno
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asys.node.disk import key_file
from asys.node.disk.config_dir import MAX_AGENTS_FILE, ConfigDir, default_config_dir
from asys.node.disk.files import ConfigError, locked
from asys.protocol.keys import PrivateKey
from support.disk import fail
from support.users import give_away, plain_user, run_remedy

AGENT = PrivateKey(bytes(range(1, 33))).public


@pytest.fixture
def config(tmp_path: Path) -> ConfigDir:
    return ConfigDir(tmp_path / "asyd")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files(config: ConfigDir) -> set[str]:
    return set(os.listdir(config.path))


# -- the directory


def test_the_directory_is_made(tmp_path: Path) -> None:
    config = ConfigDir(tmp_path / "a" / "b")
    assert mode(config.path) == 0o700
    assert not files(config)
    ConfigDir(tmp_path / "a" / "b")


@pytest.mark.parametrize("loose", [0o755, 0o750, 0o770, 0o701, 0o777])
def test_a_loose_directory_is_refused(config: ConfigDir, loose: int) -> None:
    config.path.chmod(loose)
    with pytest.raises(ConfigError, match=f"has the permissions {loose:04o}") as caught:
        ConfigDir(config.path)
    assert not files(config)
    run_remedy(str(caught.value))
    ConfigDir(config.path)
    assert mode(config.path) == 0o700


def test_another_users_directory(config: ConfigDir, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, me = give_away(config.path)
    monkeypatch.setattr(os, "geteuid", lambda: me)
    with pytest.raises(ConfigError) as caught:
        ConfigDir(config.path)
    assert f"(uid {owner}); run: chown {me} {config.path}" in str(caught.value)


def test_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="name another directory with --config-dir"):
            ConfigDir(path)
    for path in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(ConfigError, match="is no directory"):
            ConfigDir(path, make=False)
    assert os.listdir(tmp_path) == ["file"]


def test_a_directory_that_cannot_be_made() -> None:
    with plain_user() as home:
        home.chmod(0o500)
        with pytest.raises(ConfigError, match="below: Permission denied; name another"):
            ConfigDir(home / "below")


def test_a_directory_that_may_not_be_looked_into() -> None:
    """As when a user names root's: every step has an answer, and none makes a new key."""
    with plain_user() as home:
        config = ConfigDir(home / "asyd")
        key = config.load_key().public
        config.path.chmod(0)
        for use in (config.load_key, config.load_agents):
            with pytest.raises(ConfigError, match="Permission denied"):
                use()
        config.path.chmod(0o700)
        assert config.load_key().public == key


def test_a_link_to_a_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    ConfigDir(tmp_path / "link").load_key()
    assert (tmp_path / "real" / "id_curve25519").exists()
    (tmp_path / "real").chmod(0o755)
    with pytest.raises(ConfigError, match="permissions 0755"):
        ConfigDir(tmp_path / "link")


def test_where_it_is_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_config_dir() == Path("/etc/asyd")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
    assert default_config_dir() == Path("/elsewhere/asyd")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_config_dir() == Path("/home/somebody/.config/asyd")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody_knows)
    with pytest.raises(ConfigError, match="uid 54321 has no home directory; name a directory"):
        default_config_dir()


# -- the key


def test_the_key_is_made_once(config: ConfigDir) -> None:
    key = config.load_key()
    assert config.key_path.read_bytes() == key.raw()
    assert config.public_path.read_bytes() == key.public
    assert (mode(config.key_path), mode(config.public_path)) == (0o600, 0o644)
    assert files(config) == {"id_curve25519", "id_curve25519.pub"}
    before = config.key_path.stat()
    assert ConfigDir(config.path).load_key().public == key.public
    assert config.key_path.stat().st_ino == before.st_ino
    assert ConfigDir(config.path.parent / "other").load_key().public != key.public


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64, 1 << 20])
def test_a_damaged_key_is_never_replaced(config: ConfigDir, size: int) -> None:
    config.key_path.write_bytes(b"k" * size)
    config.key_path.chmod(0o600)
    with pytest.raises(ConfigError, match=f"id_curve25519 has {size} bytes, not 32: it is damaged"):
        config.load_key()
    assert config.key_path.read_bytes() == b"k" * size
    assert files(config) == {"id_curve25519"}


def test_a_key_of_zeros_is_what_a_crashed_disk_leaves(config: ConfigDir) -> None:
    config.key_path.write_bytes(bytes(32))
    config.key_path.chmod(0o600)
    with pytest.raises(ConfigError, match="has nothing but zeros: it is damaged"):
        config.load_key()
    assert config.key_path.read_bytes() == bytes(32)


@pytest.mark.parametrize("loose", [0o644, 0o640, 0o660, 0o604, 0o666])
def test_a_loose_key_is_refused(config: ConfigDir, loose: int) -> None:
    key = config.load_key()
    config.key_path.chmod(loose)
    with pytest.raises(
        ConfigError, match=f"id_curve25519 has the permissions {loose:04o}"
    ) as caught:
        config.load_key()
    assert key.raw().hex() not in str(caught.value)
    run_remedy(str(caught.value))
    assert config.load_key().public == key.public
    assert mode(config.key_path) == 0o600


def test_another_users_key(config: ConfigDir, monkeypatch: pytest.MonkeyPatch) -> None:
    config.load_key()
    _, me = give_away(config.key_path)
    monkeypatch.setattr(os, "geteuid", lambda: me)
    with pytest.raises(ConfigError, match=f"belongs to another user .* chown {me} "):
        config.load_key()


@pytest.mark.parametrize("target", ["missing", "id_curve25519"])
def test_a_key_link_that_leads_nowhere_is_not_replaced(config: ConfigDir, target: str) -> None:
    """What it leads to may just not be mounted yet."""
    config.key_path.symlink_to(target)
    with pytest.raises(ConfigError, match="id_curve25519: "):
        config.load_key()
    assert config.key_path.is_symlink()
    assert files(config) == {"id_curve25519"}


def test_a_key_behind_a_link(config: ConfigDir, tmp_path: Path) -> None:
    key = PrivateKey.generate()
    (tmp_path / "secret").write_bytes(key.raw())
    (tmp_path / "secret").chmod(0o600)
    config.key_path.symlink_to(tmp_path / "secret")
    assert config.load_key().public == key.public
    assert config.key_path.is_symlink()


def test_what_is_no_key_file(config: ConfigDir) -> None:
    config.key_path.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="is no regular file"):
        config.load_key()


def test_a_crash_between_the_two_key_files(config: ConfigDir) -> None:
    """A real one: the process ends after the first rename."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from asys.node.disk.config_dir import ConfigDir\n"
        "rename = os.replace\n"
        "def crash(*names): rename(*names); os._exit(7)\n"
        "os.replace = crash\n"
        "ConfigDir(Path(sys.argv[1])).load_key()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(config.path)])
    assert done.returncode == 7
    assert files(config) == {"id_curve25519"}
    key = config.load_key()
    assert key.raw() == config.key_path.read_bytes()
    assert config.public_path.read_bytes() == key.public


def test_a_crash_before_the_key_is_whole(config: ConfigDir) -> None:
    program = (
        "import os, sys; from pathlib import Path\n"
        "from asys.node.disk.config_dir import ConfigDir\n"
        "os.replace = lambda *names: os._exit(7)\n"
        "ConfigDir(Path(sys.argv[1])).load_key()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(config.path)])
    assert done.returncode == 7
    assert "id_curve25519" not in files(config)
    config.load_key()


def test_no_room_for_a_key(config: ConfigDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ConfigError, match="asyd: no key could be made: No space left"):
        config.load_key()
    assert not files(config)


def test_who_comes_second_takes_the_key_of_who_came_first(
    config: ConfigDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that start at once both see no key; one has it made while the other waits."""
    theirs = PrivateKey.generate()

    @contextmanager
    def after_the_other(directory: Path) -> Iterator[None]:
        with locked(directory):
            config.key_path.write_bytes(theirs.raw())
            config.key_path.chmod(0o600)
            yield

    monkeypatch.setattr("asys.node.disk.key_file.locked", after_the_other)
    assert config.load_key().public == theirs.public
    assert config.key_path.read_bytes() == theirs.raw()


def test_many_that_start_at_once_have_one_key(config: ConfigDir) -> None:
    program = (
        "import sys; from pathlib import Path; from asys.node.disk.config_dir import ConfigDir\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(ConfigDir(Path(sys.argv[1])).load_key().public.hex())"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(config.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        keys = {child.communicate()[0].strip() for child in children}
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert keys == {config.load_key().public.hex()}


def test_no_room_for_the_public_file(
    config: ConfigDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is only a copy."""
    key = config.load_key()
    config.public_path.unlink()
    monkeypatch.setattr(key_file, "write_atomically", fail)
    assert config.load_key().public == key.public
    assert f"{config.public_path} cannot be made: No space left on device" in caplog.text
    assert not config.public_path.exists()


def test_the_public_file_must_not_tell_another_key(config: ConfigDir) -> None:
    key = config.load_key()
    for wrong in (b"", key.public[:31], PrivateKey.generate().public):
        config.public_path.write_bytes(wrong)
        with pytest.raises(ConfigError, match="is not the public key of") as caught:
            config.load_key()
        assert str(caught.value).endswith(f"run: rm {config.public_path}")
        assert config.public_path.read_bytes() == wrong
    config.public_path.unlink()
    config.load_key()
    assert config.public_path.read_bytes() == key.public


def test_a_public_file_that_cannot_be_read_or_written(
    config: ConfigDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.load_key()
    config.public_path.unlink()
    config.public_path.mkdir()
    with pytest.raises(ConfigError, match=r"id_curve25519\.pub: Is a directory"):
        config.load_key()
    config.public_path.rmdir()

    def break_down(*_arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "replace", break_down)
    with pytest.raises(ConfigError, match=r"id_curve25519\.pub: Input/output error"):
        config.load_key()


# -- authorized_agents


def test_no_file_is_no_agents(config: ConfigDir) -> None:
    assert not config.load_agents().agents
    assert not files(config)


def test_agents_are_read(config: ConfigDir) -> None:
    config.agents_path.write_bytes(b"# \xff\xfe\n" + AGENT.hex().encode() + b" a\r\n\xff\n")
    book = config.load_agents()
    assert [agent.label for agent in book.agents.values()] == ["a"]
    assert [number for number, _ in book.faults] == [3]


@pytest.mark.parametrize("good", [0o600, 0o644, 0o400, 0o444])
def test_agents_may_be_read_by_others(config: ConfigDir, good: int) -> None:
    config.agents_path.write_text(AGENT.hex())
    config.agents_path.chmod(good)
    assert AGENT in config.load_agents().agents


@pytest.mark.parametrize("loose", [0o620, 0o602, 0o666, 0o664])
def test_agents_that_others_can_write_are_refused(config: ConfigDir, loose: int) -> None:
    config.agents_path.write_text(AGENT.hex())
    config.agents_path.chmod(loose)
    with pytest.raises(ConfigError, match=f"agents has the permissions {loose:04o}") as caught:
        config.load_agents()
    run_remedy(str(caught.value))
    assert AGENT in config.load_agents().agents


def test_another_users_agents(config: ConfigDir, monkeypatch: pytest.MonkeyPatch) -> None:
    config.agents_path.write_text(AGENT.hex())
    config.agents_path.chmod(0o600)
    _, me = give_away(config.agents_path)
    monkeypatch.setattr(os, "geteuid", lambda: me)
    with pytest.raises(ConfigError, match=f"belongs to another user .* chown {me} "):
        config.load_agents()


def test_agents_that_cannot_be_read(config: ConfigDir) -> None:
    config.agents_path.symlink_to("missing")
    with pytest.raises(ConfigError, match="agents: No such file"):
        config.load_agents()
    config.agents_path.unlink()
    os.mkfifo(config.agents_path, 0o600)
    with pytest.raises(ConfigError, match="agents is no regular file"):
        config.load_agents()


def test_a_file_of_agents_that_is_too_large(config: ConfigDir) -> None:
    with config.agents_path.open("wb") as file:
        file.truncate(MAX_AGENTS_FILE)
    config.agents_path.chmod(0o600)
    assert len(config.read_agents()) == MAX_AGENTS_FILE
    with config.agents_path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ConfigError, match=f"is larger than {MAX_AGENTS_FILE} bytes"):
        config.load_agents()
