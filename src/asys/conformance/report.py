"""A report of a run: as data, as JUnit XML, and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from asys.conformance.case import Case, Level
from asys.conformance.runner import reached
from asys.conformance.verdicts import Outcome, Verdict


def as_data(node: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The object that --json prints."""
    level = reached(outcomes)
    return {
        "node": node,
        "level": None if level is None else level.value,
        "counts": {verdict.name.lower(): count for verdict, count in counted(outcomes).items()},
        "cases": [
            {
                **case_data(one.case),
                "verdict": one.verdict.name.lower(),
                "detail": one.detail,
                "seconds": round(one.seconds, 3),
            }
            for one in outcomes
        ],
    }


def case_data(one: Case) -> dict[str, Any]:
    """A case as data."""
    return {
        "id": one.id,
        "level": one.level.value,
        "section": one.section,
        "title": one.title,
        "needs": [need.title for need in one.needs],
    }


def counted(outcomes: Sequence[Outcome]) -> dict[Verdict, int]:
    """How often each verdict was given."""
    found = Counter(one.verdict for one in outcomes)
    return {verdict: found[verdict] for verdict in Verdict}


def as_junit(node: str, outcomes: Sequence[Outcome]) -> str:
    """JUnit XML: a suite for each level; what was not run is skipped there."""
    root = ElementTree.Element("testsuites", name=f"asys conformance {node}")
    for level in Level:
        of_level = [one for one in outcomes if one.case.level is level]
        if not of_level:
            continue
        counts = counted(of_level)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"level {level.value}, {level.title}",
            tests=str(len(of_level)),
            failures=str(counts[Verdict.FAILED]),
            errors="0",
            skipped=str(counts[Verdict.NOT_RUN]),
            time=f"{sum(one.seconds for one in of_level):.3f}",
        )
        for one in of_level:
            element = ElementTree.SubElement(
                suite,
                "testcase",
                classname=f"asys.conformance.level{level.value}",
                name=one.case.id,
                time=f"{one.seconds:.3f}",
            )
            text = f"docs/protocol.md, section {one.case.section}: {one.case.title}"
            if one.verdict is Verdict.FAILED:
                failure = ElementTree.SubElement(element, "failure", message=one.detail)
                failure.text = text
            elif one.verdict is Verdict.NOT_RUN:
                ElementTree.SubElement(element, "skipped", message=one.detail)
            elif one.verdict is Verdict.KNOWN:
                ElementTree.SubElement(
                    element, "system-out"
                ).text = f"known deviation: {one.detail}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def line(one: Outcome) -> str:
    """An outcome on one line."""
    text = f"{one.verdict.value:<16} {one.case.id:<30} {one.case.section:<5} {one.case.title}"
    return f"{text}: {one.detail}" if one.detail else text


def conclusion(outcomes: Sequence[Outcome]) -> str:
    """The result in one sentence."""
    counts = counted(outcomes)
    failed, level = counts[Verdict.FAILED], reached(outcomes)
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    said = ", ".join(parts) or "nothing was run"
    if level is None:
        return f"{said}; no level is reached"
    return f"{said}; level {level.value} is reached{' and none above it' if failed else ''}"
