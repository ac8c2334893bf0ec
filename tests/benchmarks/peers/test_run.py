"""A run gives figures for what is there and reasons for what is not, and writes them down."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks.peers.chart import Scale
from benchmarks.peers.cli import main
from benchmarks.peers.jobs import Job
from benchmarks.peers.measure import Measurement, Sizes
from benchmarks.peers.registry import PEERS, Entry
from benchmarks.peers.report import BEGIN, END, as_text, figure, inserted

from support.pages import DOCS

CHECKOUT = DOCS.parent
SVG = "{http://www.w3.org/2000/svg}"
PATIENCE = 120.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux")


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@linux
def test_a_run_is_told_in_every_form(tmp_path: Path) -> None:
    page, chart = tmp_path / "page.md", tmp_path / "chart.svg"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    done = run(
        "--quick", "--rounds", "2", "--peers", "http", "--jobs", "vitals",
        "--json", "-", "--chart", str(chart), "--write-docs", str(page),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [one["name"] for one in result["peers"]] == ["asys", "http"]
    for peer in result["peers"]:
        assert 0 < peer["first"]["ms"] < math.inf
        assert list(peer["jobs"]) == ["vitals"]
        found = peer["jobs"]["vitals"]
        ratio = found["ratio"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"] < math.inf
        assert 0 < found["p50_ms"] <= found["p95_ms"] < math.inf
        assert peer["first"]["to_node"] > 0
        assert found["to_node"] > 0
        assert found["tokens"] > 10
        cpu = [found[name] for name in ("paced_node_ms", "node_ms", "client_ms")]
        if os.geteuid() == 0:
            assert all(0 < one < 10_000 for one in cpu)
        else:
            assert cpu == [None] * 3
    asys, http = (one["jobs"]["vitals"] for one in result["peers"])
    # What the protocol says: 6 and 23 bytes, with 18 more around each.
    assert (asys["to_node"], asys["from_node"]) == (24, 41)
    assert http["to_node"] > 100
    assert asys["ratio"]["median"] == 1

    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "(page.svg)" in text
    assert f"| HTTP+JSON, psutil | {figure(http['p50_ms'])} |" in text
    assert chart.read_text() == (tmp_path / "page.svg").read_text()
    drawing = ElementTree.parse(chart).getroot()  # noqa: S314
    assert drawing.tag == f"{SVG}svg"
    words = [one.text for one in drawing.iter(f"{SVG}text")]
    panels = 4 if os.geteuid() == 0 else 3
    assert words.count("ASys") == words.count("HTTP+JSON, psutil") == panels
    bars = [one for one in drawing.iter(f"{SVG}rect") if one.get("class") == "vitals"]
    assert len(bars) == 2 * panels + 1
    assert float(bars[0].get("width", 0)) < float(bars[1].get("width", 0))


ABSENT = Entry(
    "absent", "Absent", "", "nowhere:Nothing", modules={"no_such.part": "pip install no-such"}
)
BROKEN = Entry("broken", "Broken", "", "no_such_module:Nothing")


@linux
def test_what_is_not_there_and_what_breaks_down_has_a_row_that_says_so(tmp_path: Path) -> None:
    sizes = Sizes(rounds=1, connects=1, relayed=1, paced=1)
    said: list[str] = []
    results = Measurement(tmp_path, sizes, [Job.TOP], None, said.append).run(
        [PEERS[0], ABSENT, BROKEN]
    )
    asys, absent, broken = results
    assert asys.measured
    assert asys.jobs[Job.TOP].paced_node_ms is None
    assert (absent.missing, absent.broken) == ("pip install no-such", False)
    assert broken.broken
    assert "no_such_module" in broken.missing
    text = as_text(results, [Job.TOP])
    assert text.count("not measured: pip install no-such") == 2
    assert text.count("not measured: it broke down: No module named") == 2
    assert absent.as_json()["missing"] == "pip install no-such"


def test_a_page_without_a_place_for_it_is_left_alone() -> None:
    with pytest.raises(ValueError, match="has no lines"):
        inserted(f"{BEGIN} and no end", "measured")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--peers", "telnet"], "'telnet' is none of asys, ssh, "),
        (["--jobs", "vitals,coffee"], "'coffee'"),
        (["--rounds", "0"], "not within 1"),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_anything_starts(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234")],
)
def test_figures_have_three_digits_that_count(value: float | None, shown: str) -> None:
    assert figure(value) == shown


def test_a_scale_by_tens_has_a_line_for_each_and_room_for_all() -> None:
    scale = Scale.of([0.09, 5, 812], by_tens=True)
    assert (scale.low, scale.high) == (0.01, 1000)
    assert [scale.x(one) for one in scale.lines] == pytest.approx([170, 274, 378, 482, 586, 690])
    assert Scale.of([10, 10], by_tens=True).x(10) > 170
    linear = Scale.of([64, 386], by_tens=False)
    assert (linear.x(0), linear.x(400)) == (170, 690)


def test_the_page_tells_of_every_peer() -> None:
    page = " ".join((DOCS / "benchmarks-peers.md").read_text("utf-8").split())
    for entry in PEERS:
        assert f"| {entry.label} | {entry.how} |" in page
