"""`asyd agents migrate`: what it prints, for people and as JSON, and its exit status."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from asys.cli import daemon
from asys.node.disk.config_dir import ConfigDir
from support.admin_cli import BOSS, NEW, WEB, Ran, write


@pytest.fixture
def old(tmp_path: Path) -> ConfigDir:
    """The directory of a node with asyd 0.3.1."""
    path = tmp_path / "asyd"
    config = ConfigDir(path)
    config.load_key()
    write(path, f"# ours\n{WEB} web\n{BOSS}\n")
    return config


class Migrate:
    """Runs it from `old` to `new`."""

    def __init__(self, capture: pytest.CaptureFixture[str], old: Path, new: Path) -> None:
        self.capture = capture
        self.old = old
        self.new = new

    def __call__(self, *words: str) -> Ran:
        """With these words behind `migrate --from OLD`."""
        self.capture.readouterr()
        where = ("--from", str(self.old), "--config-dir", str(self.new))
        status = daemon.main(["agents", "migrate", *where, *words])
        return Ran(status, *self.capture.readouterr())


@pytest.fixture
def migrate(capfd: pytest.CaptureFixture[str], old: ConfigDir, tmp_path: Path) -> Migrate:
    return Migrate(capfd, old.path, tmp_path / "new asyd")


def test_it_says_what_each_agent_has_and_how_to_go_on(migrate: Migrate, old: ConfigDir) -> None:
    key = old.load_key().public.hex()
    dry = migrate("--caps", "core", "--caps", "web=core,SVC_RESTART", "--dry-run")
    assert dry.status == 0
    assert not migrate.new.exists()
    ran = migrate("--caps", "core", "--caps", "web=core,SVC_RESTART")
    assert ran.status == 0
    assert ran.out.splitlines() == [
        f"from    {old.path}",
        f"to      {migrate.new}",
        f"key     {key}  copied, so agents go on trusting it",
        "agents  2",
        f"        line 2  {WEB} web caps=core,SVC_RESTART",
        f"        line 3  {BOSS} - caps=core",
    ]
    assert dry.out == ran.out.replace(
        f"{migrate.new}\n", f"{migrate.new}  (nothing is written)\n", 1
    )
    warning = "asyd: warning: line 2: SVC_RESTART is granted for every service; say with services="
    assert ran.err.startswith(warning)
    assert dry.err.startswith(warning)
    assert "to run it" not in dry.err
    hint = ran.err.splitlines()[-1].partition(": ")[2]
    assert shlex.split(hint) == ["asyd", "--config-dir", str(migrate.new), "--port", "7817"]
    new = ConfigDir(migrate.new, make=False)
    assert new.load_key().public.hex() == key
    assert (new.path / "authorized_agents").read_text() == (
        f"# ours\n{WEB} web caps=core,SVC_RESTART\n{BOSS} caps=core\n"
    )


def test_a_line_that_is_left_out_is_named_and_its_remedy_works(
    migrate: Migrate, old: ConfigDir
) -> None:
    write(old.path, f"{WEB} web\n{NEW} a label of blanks\nnonsense \x1b[2J\n")
    before = (old.path / "authorized_agents").read_bytes()
    ran = migrate("--caps", "core")
    assert ran.status == 1
    assert "agents  1\n" in ran.out
    assert "\x1b" not in ran.out + ran.err
    first, second = ran.err.splitlines()[:2]
    assert first.startswith(f"asyd: {old.agents_path} line 2 is not taken over: has a second label")
    assert f"{old.agents_path} line 3 is not taken over: has characters" in second
    remedy = shlex.split(first.rpartition("what to do: ")[2])
    remedy[remedy.index("LABEL")] = "new"
    assert daemon.main(remedy[1:]) == 0
    assert ConfigDir(migrate.new).load_agents().agents[bytes.fromhex(NEW)].label == "new"
    assert (old.path / "authorized_agents").read_bytes() == before


def test_as_json(migrate: Migrate, old: ConfigDir) -> None:
    write(old.path, f"{WEB} web\nnonsense\n{BOSS} boss\n")
    key = old.load_key().public.hex()
    ran = migrate("--json", "--caps", "core", "--caps", "boss=all")
    assert (ran.status, ran.err) == (1, "")
    said = json.loads(ran.out)
    [left] = said.pop("left_out")
    assert left["line"] == 2
    assert set(left) == {"line", "fault", "remedy"}
    assert {one["line"] for one in said.pop("warnings")} == {3}
    assert said == {
        "from": str(old.path),
        "to": str(migrate.new),
        "written": True,
        "key": {"public": key, "copied": True},
        "agents": [
            {"line": 1, "key": WEB, "label": "web", "caps": "core"},
            {"line": 3, "key": BOSS, "label": "boss", "caps": "all"},
        ],
    }


def test_a_key_of_its_own(migrate: Migrate, old: ConfigDir) -> None:
    dry = migrate("--caps", "core", "--new-key", "--dry-run")
    assert "key     one that is yet to be made  its own, to be trusted anew\n" in dry.out
    said = json.loads(migrate("--caps", "core", "--new-key", "--dry-run", "--json").out)
    assert (said["key"], said["written"]) == ({"public": None, "copied": False}, False)
    ran = migrate("--caps", "core", "--new-key")
    mine = ConfigDir(migrate.new, make=False).load_key().public
    assert mine != old.load_key().public
    assert f"key     {mine.hex()}  its own, to be trusted anew\n" in ran.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--caps", "shell"], "--caps: 'shell' is no instruction"),
        (["--caps", "web=core"], f"nothing says what is to exist for {BOSS[:8]}; add --caps LIST"),
        (["--caps", "core", "--from", "/nowhere"], "/nowhere is no directory; name that of asyd"),
    ],
)
def test_what_cannot_be_done_is_one_line(migrate: Migrate, words: list[str], why: str) -> None:
    ran = migrate(*words)
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert why in ran.err
    assert not migrate.new.exists()


def test_it_does_not_write_into_the_old_directory(migrate: Migrate) -> None:
    migrate.new = migrate.old
    ran = migrate("--caps", "core")
    assert ran.status == 1
    assert f"such as {migrate.old}-new" in ran.err


def test_caps_must_be_said(migrate: Migrate) -> None:
    with pytest.raises(SystemExit) as ended:
        migrate()
    assert ended.value.code == 2
    assert "required: --caps" in migrate.capture.readouterr().err


def test_the_old_node_is_where_0_3_1_has_it() -> None:
    parsed = daemon._parser().parse_args(["agents", "migrate", "--caps", "core"])
    assert parsed.old_dir == Path("/etc/asyd")
