"""What an asyd says of itself, read with Prometheus' own parser and not with anything of ours.

before = scraped(asyd)
agent.ask(HELLO)
assert moved(before, scraped(asyd)) == {'asyd_answers_total{status="9000"}': 1}
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from asys.cli.control_commands import ask
from asys.node.disk.places import places
from asys.node.health.metrics import Health
from asys.node.platform.own_usage import OwnUsage
from asys.node.server import Node
from support.daemon import PATIENCE, Daemon

RESTLESS: Final = re.compile(
    r"process_(cpu|resident|virtual|open)|asyd_(loop_lag|major_faults|sampler_|audit_|watchdog_feeds)"
)
"""What moves by itself: with time, and while the machine is sampled or records go to the disk."""

FAMILIES: Final[Callable[[str], Iterable[Metric]]] = text_string_to_metric_families

LISTENS: Final = re.compile(r"metrics are at http://([^/]+):(\d+)/metrics")


def health_of(node: Node) -> Health:
    """How a node of a test is doing."""
    return Health(node, OwnUsage())


def parsed(text: str) -> dict[str, float]:
    """Every sample, by its name with its labels. ValueError: that is no OpenMetrics."""
    found: dict[str, float] = {}
    for family in FAMILIES(text):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, f"{name} stands there twice"
            found[name] = sample.value
    return found


def asked(asyd: Daemon) -> str:
    """The text that the admin socket gives."""
    where = places(asyd.config_dir, state_dir=None, admin_socket=None)
    return str(ask(where, {"verb": "metrics"})["metrics"])


def endpoint(asyd: Daemon) -> tuple[str, int]:
    """Where it answers over HTTP, by its log."""
    asyd.wait_for("metrics are at")
    [found] = [match for line in asyd.log if (match := LISTENS.search(line))]
    return found[1].strip("[]"), int(found[2])


def fetched(where: tuple[str, int]) -> str:
    """The text that HTTP gives."""
    connection = http.client.HTTPConnection(*where, timeout=PATIENCE)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        connection.close()


def scraped(asyd: Daemon) -> dict[str, float]:
    """Every sample, in both ways: they must not differ but in what moves by itself.

    What moves between the two makes it look once more.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        by_socket, by_http = parsed(asked(asyd)), parsed(fetched(endpoint(asyd)))
        assert by_socket.keys() == by_http.keys()
        if not (differ := moved(by_socket, by_http)):
            return by_http
        assert time.monotonic() < deadline, differ


def moved(
    before: Mapping[str, float], after: Mapping[str, float], *, restless: bool = False
) -> dict[str, float]:
    """By how much each sample has moved that has; without what moves by itself."""
    return {
        name: value - before.get(name, 0.0)
        for name, value in after.items()
        if value != before.get(name, 0.0) and (restless or not RESTLESS.match(name))
    }


def until(asyd: Daemon, name: str, value: float) -> dict[str, float]:
    """What is scraped as soon as a sample has that value: asyd notices an end when it comes to it.

    A sample that is not there counts as 0.
    """
    deadline = time.monotonic() + PATIENCE
    while (found := scraped(asyd)).get(name, 0.0) != value:
        assert time.monotonic() < deadline, f"{name} is {found.get(name)} and not {value}"
    return found
