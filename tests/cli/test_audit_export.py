"""`asys audit` as people type it: all actions through the command, and what `export` writes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asys.audit.entries import Gap, Payload, Read, Reads, Run
from asys.audit.segments import READS
from asys.cli.agent import main
from asys.cli.audit_export import FORMATS, MAX_TARGET
from asys.isa.capmap import CapabilityMap, parse_caps
from asys.isa.security import NewAgent
from support.agent_cli import ASYS, process
from support.agent_cli import Run as Done
from support.audit_files import KEY, MS, START_NS, AuditFiles, usual


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "audit"


class Asys:
    """Runs `asys` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> Done:
        self._capsys.readouterr()
        status = main([str(word) for word in words])
        return Done(status, *self._capsys.readouterr())


@pytest.fixture
def asys(capsys: pytest.CaptureFixture[str]) -> Asys:
    return Asys(capsys)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """What is in a Parquet file, without what is not there; times as ns."""
    table = pq.read_table(path)
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(pa.int64()))
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{name: value for name, value in one.items() if value is not None} for one in rows]


# -- the command


def test_audit_is_a_command_of_asys(asys: Asys, directory: Path) -> None:
    files = usual(directory)
    assert asys("audit", "verify", directory).out.startswith("audit: whole to entry 26, ")
    assert asys("audit", "anchor", directory).out == f"{files.chain.anchor}\n"
    assert len(asys("audit", "show", directory).out.splitlines()) == 9
    assert asys("audit", "stats", directory).out.startswith("Agent ")
    files.path.write_bytes(b"x")
    assert asys("audit", "verify", directory).status == 1
    files.path.unlink()
    assert asys("audit", "verify", directory).status == 3


def test_the_help_lists_it(asys: Asys) -> None:
    said = asys("--help").out
    assert "audit" in said.split()
    actions = asys("audit", "--help").out.split()
    assert {"verify", "anchor", "show", "stats", "export"} <= set(actions)


@pytest.mark.parametrize("before", [True, False])
def test_json_holds_before_and_behind(asys: Asys, directory: Path, before: bool) -> None:
    usual(directory)

    def run(*words: object) -> Done:
        return asys("--json", *words) if before else asys(*words, "--json")

    assert run("audit", "verify", directory).data["code"] == 0
    assert run("audit", "stats", directory).data["lost"] == 0
    lines = run("audit", "show", directory).out.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["action"] * 9
    for words in (("show", directory / "none"), ("show", directory, "--status", "x"), ("verify",)):
        done = run("audit", *words)
        assert (done.status, done.err) == (2, "")
        assert done.error["message"]


def test_files_that_cannot_be_read_are_told(asys: Asys, directory: Path) -> None:
    for action in (
        ("verify",),
        ("anchor",),
        ("show",),
        ("stats",),
        ("export", "--format", "rfc5424"),
    ):
        done = asys("audit", action[0], directory, *action[1:])
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith("asys: [Errno 2] No such file or directory")


@pytest.mark.parametrize(
    "words", [("show",), ("export", "--format", "rfc5424"), ("export", "--format", "parquet")]
)
def test_output_that_cannot_be_written(directory: Path, words: tuple[str, ...]) -> None:
    usual(directory)
    command = (*ASYS, "audit", words[0], str(directory), *words[1:])
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 2
    assert done.stderr == "asys: cannot write the output: No space left on device\n"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, check=False, text=True
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_without_standard_output(directory: Path) -> None:
    usual(directory)
    code = "import sys; sys.stdout = None; from asys.cli.agent import main; sys.exit(main())"

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            (sys.executable, "-c", code, "audit", *words),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    assert run("show", str(directory)) == (0, "")
    for form in FORMATS:
        status, said = run("export", str(directory), "--format", form)
        assert status == 2
        assert said.endswith("there is no standard output: give --output FILE\n")


# -- messages


def test_messages_on_standard_output(asys: Asys, directory: Path) -> None:
    usual(directory, segments=1)
    done = asys("audit", "export", directory, "--format", "rfc5424", "--hostname", "web-1")
    assert (done.status, done.err) == (0, "")
    first, second, third = done.out.splitlines()
    assert second == (
        "<108>1 2026-09-21T14:13:20.009000Z web-1 asyd - PROC_THROTTLE "
        f'[asys@32473 type="action" agent="planner" key="{KEY.hex()}" key_hash="5c52920a" '
        'peer="192.0.2.7:40000" line="3" session="1" seq="2" code="20" '
        'instruction="PROC_THROTTLE" cla="04" digest="786a02f7" state="answered" sw="6982" '
        'intent_ns="1790000000009000000" outcome_ns="1790000000010000000" times="1"] '
        "planner: PROC_THROTTLE: 6982 denied: the identity is fine, this target or security level "
        "is not, after 1.0 ms"
    )
    assert first.startswith("<110>1 ")
    assert ' agent="web" ' in third
    assert ' state="queued" ' in third


def test_a_message_names_the_target(asys: Asys, directory: Path) -> None:
    files = AuditFiles(directory)
    files.segment()
    session = files.open('ad"min')
    payload = NewAgent(key=KEY, caps=CapabilityMap(parse_caps("core")), label="helper").pack()
    files.add(Payload(session, 1, 0x60, payload))
    files.act(session, 1, 0x60)
    files.add(Payload(session, 2, 0x60, bytes(MAX_TARGET)))
    files.act(session, 2, 0x60, 0x6700)
    good, bad = asys("audit", "export", directory, "--format", "rfc5424").out.splitlines()
    assert f' target="key {KEY.hex()}, caps core, ttl_s 0, label helper" ' in good
    assert r' agent="ad\"min" ' in good
    (target,) = (part for part in bad.split('"') if part.startswith("payload "))
    assert len(target) == MAX_TARGET
    assert target.endswith("00...")


def test_messages_for_what_is_beside_actions(asys: Asys, directory: Path) -> None:
    files = AuditFiles(directory)
    files.segment()
    files.close(files.open())
    files.add(Gap(9, START_NS, START_NS + MS))
    files.end()
    words = ("audit", "export", directory, "--format", "rfc5424")
    (gap,) = asys(*words).out.splitlines()
    assert gap.startswith(
        "<106>1 2026-09-21T14:13:20.001000Z - asyd - GAP [asys@32473 "
        'type="gap" count="9" first_ns="1790000000000000000" last_ns="1790000000001000000"] GAP: 9 '
    )
    kinds = [line.split()[5] for line in asys(*words, "--all").out.splitlines()]
    assert kinds == ["SESSION_OPENED", "SESSION_CLOSED", "GAP", "CLEAN_END"]


def test_readings_are_exported_when_asked_for(asys: Asys, directory: Path, tmp_path: Path) -> None:
    files = AuditFiles(directory, READS)
    files.segment()
    files.add(Reads(files.open(), (Read(1_790_000_000, 1, 0x9000, 12),)))
    words = ("audit", "export", directory, "--reads", "--format")
    (line,) = asys(*words, "rfc5424").out.splitlines()
    assert line.endswith(' times="12"] planner: SYS_HELLO x 12: 9000 success')
    asys(*words, "parquet", "--output", tmp_path / "reads")
    assert [one["times"] for one in rows_of(tmp_path / "reads")] == [12]


def test_messages_are_utf8_in_any_locale(directory: Path) -> None:
    files = AuditFiles(directory)
    files.segment()
    files.act(files.open("größe"), 1, 0x20)
    command = (*ASYS, "audit", "export", str(directory), "--format", "rfc5424")
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    )
    assert ' agent="größe" '.encode() in done.stdout
    assert done.stdout.endswith(rb"gr\xf6\xdfe: PROC_THROTTLE: 9000 success, after 1.0 ms" + b"\n")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        (("--agent", "web"), [1]),
        (("--instruction", "proc-throttle"), [1, 2]),
        (("--status", "failed"), [2]),
        (("--since", "2026-09-21T14:13:20.009"), [2]),
        (("--until", "2026-09-21T14:13:20.009"), [1, 1]),
        (("--agent", "nobody"), []),
    ],
)
def test_export_filters_as_show_does(
    asys: Asys, directory: Path, tmp_path: Path, form: str, words: tuple[str, ...], seqs: list[int]
) -> None:
    usual(directory, segments=1)
    path = tmp_path / "out"
    done = asys("audit", "export", directory, "--format", form, "--output", path, *words)
    assert (done.status, done.err) == (0, "")
    if form == "parquet":
        found = [one["seq"] for one in rows_of(path)]
    else:
        found = [int(line.split(' seq="')[1][0]) for line in path.read_text().splitlines()]
    assert found == seqs


# -- Parquet


def test_a_table_of_actions(asys: Asys, directory: Path, tmp_path: Path) -> None:
    files = usual(directory, segments=1)
    session = files.open("admin")
    payload = NewAgent(key=KEY, caps=CapabilityMap(parse_caps("core")), label="h").pack()
    files.add(Payload(session, 5, 0x60, payload), Run.of(session, [files.record(5, 0x60, 0)]))
    files.add(Gap(9, START_NS, START_NS + 1))
    path = tmp_path / "out.parquet"
    done = asys("audit", "export", directory, "--format", "parquet", "--output", path, "--all")
    assert (done.status, done.out, done.err) == (0, f"{path}: 10 rows\n", "")
    rows = rows_of(path)
    denied = next(one for one in rows if one.get("sw") == 0x6982)
    assert denied == {
        "type": "action",
        "time": START_NS + 9 * MS,
        "agent": "planner",
        "label": "planner",
        "key": KEY.hex(),
        "key_hash": "5c52920a",
        "peer": "192.0.2.7:40000",
        "line": 3,
        "session": 1,
        "seq": 2,
        "code": 0x20,
        "instruction": "PROC_THROTTLE",
        "cla": 4,
        "digest": "786a02f7",
        "state": "answered",
        "ok": False,
        "sw": 0x6982,
        "meaning": "denied: the identity is fine, this target or security level is not",
        "intent": START_NS + 9 * MS,
        "outcome": START_NS + 10 * MS,
        "times": 1,
    }
    begun = next(one for one in rows if one.get("code") == 0x60)
    assert "ok" not in begun
    assert begun["payload"] == payload
    assert json.loads(begun["target"])["label"] == "h"
    (gap,) = (one for one in rows if one["type"] == "gap")
    assert (gap["count"], gap["first"], gap["last"]) == (9, START_NS, START_NS + 1)
    assert gap["note"].startswith("GAP: 9 records")


def test_a_table_in_a_pipe(directory: Path, tmp_path: Path) -> None:
    usual(directory)
    command = (*ASYS, "audit", "export", str(directory), "--format", "parquet")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    tmp_path.joinpath("out").write_bytes(done.stdout)
    assert len(rows_of(tmp_path / "out")) == 9


def test_parquet_without_pyarrow_says_how_to_get_it(
    asys: Asys, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(directory)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet")
    path = tmp_path / "out"
    done = asys("audit", "export", directory, "--format", "parquet", "--output", path)
    assert done.status == 2
    assert done.err.startswith("asys: Parquet needs pyarrow: pip install 'asys[parquet]'; ")
    assert not path.exists()
    assert asys("audit", "export", directory, "--format", "rfc5424").status == 0


def test_only_parquet_loads_pyarrow(directory: Path) -> None:
    usual(directory)
    code = (
        "import sys; from asys.cli.agent import main; "
        f"main(['audit', 'export', {str(directory)!r}, '--format', 'rfc5424']); "
        "sys.exit('pyarrow' in sys.modules)"
    )
    subprocess.run((sys.executable, "-c", code), check=True, stdout=subprocess.DEVNULL)


# -- files


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_there_when_it_is_whole(
    asys: Asys, directory: Path, tmp_path: Path, form: str
) -> None:
    usual(directory, segments=1)
    path = tmp_path / "out"
    path.write_text("before")
    words = ("audit", "export", "--format", form, "--output", path, "--json")
    assert asys(*words, directory / "none").status == 2
    assert path.read_text() == "before"
    assert asys(*words, directory).data == {"file": str(path), "format": form, "rows": 3}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["audit", "out"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_is_interrupted_leaves_the_file_as_it_was(
    asys: Asys, directory: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(directory, segments=1)
    path = tmp_path / "out"
    path.write_text("before")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("asys.cli.audit_export.action_data", interrupted)
    assert asys("audit", "export", directory, "--format", form, "--output", path).status == 130
    assert path.read_text() == "before"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["audit", "out"]


def test_what_cannot_be_written_to_is_named(asys: Asys, directory: Path, tmp_path: Path) -> None:
    usual(directory)
    words = ("audit", "export", directory, "--format", "rfc5424", "--output")
    path = tmp_path / "none" / "out"
    done = asys(*words, path)
    assert (done.status, done.err) == (2, f"asys: cannot write {path}: No such file or directory\n")
    assert (
        asys(*words, "/dev/full").err == "asys: cannot write /dev/full: No space left on device\n"
    )
    assert "cannot write" in asys(*words, tmp_path).err
    assert asys(*words, "/dev/null").out == "/dev/null: 9 messages\n"


@pytest.mark.parametrize("form", FORMATS)
def test_damage_is_told_and_the_rest_is_exported(
    asys: Asys, directory: Path, tmp_path: Path, form: str
) -> None:
    files = usual(directory, segments=2)
    files.append(b"\x77\x00\x00")
    path = tmp_path / "out"
    done = asys("audit", "export", directory, "--format", form, "--output", path, "--json")
    assert done.status == 1
    assert done.err.endswith(": 77 is no type of entry\n")
    assert done.data["rows"] == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "required: --format"),
        (("--format", "xml"), "invalid choice: 'xml'"),
        (("--format", "rfc5424", "--hostname", "a b"), "'a b' is no host name"),
        (("--format", "rfc5424", "--json"), "--json needs --output FILE"),
    ],
)
def test_wrong_usage(asys: Asys, directory: Path, words: tuple[str, ...], said: str) -> None:
    usual(directory)
    done = asys("audit", "export", directory, *words)
    assert done.status == 2
    assert said in (done.error["message"] if "--json" in words else done.err)


def test_a_terminal_gets_no_parquet(
    asys: Asys, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual(directory)
    monkeypatch.setattr("asys.cli.audit_export.is_terminal", lambda stream: True)
    done = asys("audit", "export", directory, "--format", "parquet")
    assert (done.status, done.out) == (2, "")
    assert "give --output FILE" in done.err


def test_the_real_command(directory: Path) -> None:
    usual(directory)
    assert process("audit", "verify", str(directory)).status == 0
    assert len(process("audit", "show", str(directory)).out.splitlines()) == 9
