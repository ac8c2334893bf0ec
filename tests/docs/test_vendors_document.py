"""What docs/protocol.md (7.19) and docs/vendors.md say of vendors is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asys.cli.daemon import main
from asys.node.platform.cage import CPU_SECONDS, FILES, MAPPED_BYTES, SCRATCH_BYTES
from asys.node.vendor.enabled import LEAST_MEMORY, MEMORY
from asys.node.vendor.launch import PROCESSES
from asys.node.vendor.launch_exec import (
    FIRST_UID,
    LAST_UID,
    NEEDED_CAPABILITIES,
    USER_PROCESSES,
)
from asys.node.vendor.launch_systemd import TEMPLATES
from asys.node.vendor.pool import (
    FIRST_PAUSE,
    IN_WORK,
    LONGEST_PAUSE,
    REQUEST_SECONDS,
    START_SECONDS,
)
from asys.vendor.definition import (
    ID_SIZE,
    LAST_ASSIGNED,
    LAST_REGISTERED,
    MAX_BODY,
    MAX_JOINED_BODY,
    MAX_REPLY,
    id_of_domain,
)
from support.protocol_document import section

DOCS = Path(__file__).resolve().parents[2] / "docs"
SECTION = section("7.19 Vendor extensions")
VENDORS = (DOCS / "vendors.md").read_text()
MEGABYTE = 1 << 20


def words(text: str) -> str:
    """Text without its line ends."""
    return " ".join(text.split())


@pytest.mark.parametrize(
    "said",
    [
        f"`example.com` has {id_of_domain('example.com'):08X}",
        f"00000000-{LAST_ASSIGNED:08X} are assigned, "
        f"{LAST_ASSIGNED + 1:08X}-{LAST_REGISTERED:08X} registered",
        f"0 to {MAX_BODY:,}",
        f"at most {MAX_REPLY:,} bytes",
        f"less than {ID_SIZE} bytes, or the body more than {MAX_BODY:,} in one frame",
        f"{IN_WORK} requests of the vendor are in work",
        f"longer than {REQUEST_SECONDS:g} s",
        f"at most {(MAX_JOINED_BODY + ID_SIZE) // 1024} KiB",
    ],
)
def test_the_protocol(said: str) -> None:
    assert said in words(SECTION)


@pytest.mark.parametrize(
    "said",
    [
        f"| body in one frame | {MAX_BODY:,} bytes | `6700` |",
        f"| reply | {MAX_REPLY:,} bytes | `6F00` |",
        f"| requests in work | {IN_WORK} | `6400` |",
        f"| one request | {REQUEST_SECONDS:g} s | `6F04`",
        f"| processes and threads | {PROCESSES}; with `user=` {USER_PROCESSES},",
        f"| open files | {FILES} |",
        f"| size of a file | {SCRATCH_BYTES // MEGABYTE} MB |",
        f"| CPU time of a worker | {CPU_SECONDS} s |",
        f"| start, until it has said what it has | {START_SECONDS:g} s | killed |",
        f"with K, M or G; at least {LEAST_MEMORY // MEGABYTE}M | {MEMORY // MEGABYTE}M |",
        f"the address space may have {MAPPED_BYTES // MEGABYTE} MB more",
        f"after {FIRST_PAUSE:g} s, and after twice as long each time, up to {LONGEST_PAUSE:g} s",
        f"a uid from {FIRST_UID} to {LAST_UID}",
        "with CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID and CAP_SETPCAP",
    ],
)
def test_the_admins_page(said: str) -> None:
    assert said in words(VENDORS)
    assert len(NEEDED_CAPABILITIES) == 4


def test_the_options_are_those_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = words(capsys.readouterr().out)
    table = re.findall(r"^\| `(\w+)(?:=\S+)?` \|", VENDORS, re.MULTILINE)
    assert table == ["network", "memory", "cpu", "user", "config"]
    assert all(option in shown.partition("--vendor ")[2] for option in table)


def test_the_unit_keeps_the_same_bounds() -> None:
    where = Path(__file__).resolve().parents[2] / "src/asys/node/vendor"
    unit = (where / TEMPLATES[0]).read_text().splitlines()
    for line in (
        f"TasksMax={PROCESSES}",
        f"LimitNPROC={PROCESSES}",
        f"LimitNOFILE={FILES}",
        f"LimitFSIZE={SCRATCH_BYTES // MEGABYTE}M",
        f"LimitCPU={CPU_SECONDS}",
    ):
        assert line in unit
