"""What all tests share: privileges that are missing are named, and in CI they are a failure."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("asys", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("asys")

# A shell that starts this in the background has SIGINT ignored, here and in all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NOTHING_LEFT_OUT = "ASYS_NOTHING_LEFT_OUT" in os.environ


def missing_privilege() -> str:
    """Why tests marked `root` cannot run here, or ''."""
    return "" if os.geteuid() == 0 else "needs root; run as root or see .ci/run"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out, by name, what the marker `root` says cannot run."""
    reason = missing_privilege()
    if not reason:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where nothing may be left out, a skipped test is a failed one."""
    report = yield
    if NOTHING_LEFT_OUT and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was left out: {report.longrepr}"
    return report
