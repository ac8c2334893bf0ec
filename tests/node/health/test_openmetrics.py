"""The text, read by Prometheus' own parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asys.node.health.openmetrics import END, Family, Histogram, Kind, exposition
from support.metrics import FAMILIES, parsed


def test_each_kind() -> None:
    text = exposition(
        [
            (Family("made", Kind.GAUGE, "One."), 1.5),
            (Family("made_events", Kind.COUNTER, "Two.", label="kind"), {"a": 1, "b": 2}),
            (Family("made_size_bytes", Kind.GAUGE, "Three.", unit="bytes"), 7),
            (Family("made_build", Kind.INFO, "Four."), {"version": "1", "mode": "full"}),
            (Family("made_gone", Kind.GAUGE, "Not here."), None),
            (Family("made_nobody", Kind.GAUGE, "Nobody.", label="who"), {}),
            (
                Family("made_lag_seconds", Kind.HISTOGRAM, "Five.", unit="seconds"),
                Histogram((0.5, 1.0), [2, 0, 3], 4.25),
            ),
        ]
    )
    assert text.endswith(END)
    assert parsed(text) == {
        "made": 1.5,
        'made_events_total{kind="a"}': 1,
        'made_events_total{kind="b"}': 2,
        "made_size_bytes": 7,
        'made_build_info{version="1",mode="full"}': 1,
        'made_lag_seconds_bucket{le="0.5"}': 2,
        'made_lag_seconds_bucket{le="1.0"}': 2,
        'made_lag_seconds_bucket{le="+Inf"}': 5,
        "made_lag_seconds_count": 5,
        "made_lag_seconds_sum": 4.25,
    }
    families = {one.name: (one.type, one.unit, one.documentation) for one in FAMILIES(text)}
    assert families["made_size_bytes"] == ("gauge", "bytes", "Three.")
    assert families["made_events"] == ("counter", "", "Two.")
    assert families["made_build"] == ("info", "", "Four.")
    assert families["made_lag_seconds"] == ("histogram", "seconds", "Five.")
    assert "made_gone" not in families


@settings(max_examples=40)
@given(st.text(min_size=1), st.text("ab\\\"\n'{}= ").map(lambda words: f"a{words}b"))
def test_no_text_gets_out_of_its_quotes(label: str, words: str) -> None:
    family = Family("made", Kind.GAUGE, words, label="who")
    [found] = FAMILIES(exposition([(family, {label: 1})]))
    assert [(sample.labels, sample.value) for sample in found.samples] == [({"who": label}, 1)]
    assert found.documentation == words


@pytest.mark.parametrize("number", [0, 1 << 62, 0.1, 1e-9, 1e300, math.inf])
def test_numbers(number: float) -> None:
    [value] = parsed(exposition([(Family("made", Kind.GAUGE, ""), number)])).values()
    assert value == number
