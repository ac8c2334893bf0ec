"""What `--vendor` may say."""

from __future__ import annotations

import pytest

from asys.node.vendor.enabled import MEMORY, Enabled, parse_all, parse_enabled
from asys.vendor import VendorError


@pytest.mark.parametrize(
    ("written", "enabled"),
    [
        ("example.com", Enabled("example.com", False, MEMORY, 0, "")),
        ("Example.COM.", Enabled("example.com")),
        ("example.com,network", Enabled("example.com", network=True)),
        ("example.com,memory=256M", Enabled("example.com", memory=256 << 20)),
        ("example.com,memory=2G", Enabled("example.com", memory=2 << 30)),
        ("example.com,memory=49152K", Enabled("example.com", memory=48 << 20)),
        ("example.com,cpu=250", Enabled("example.com", cpu=250)),
        ("example.com,user=postgres", Enabled("example.com", user="postgres")),
        ("example.com,config=/etc/a.d/b.conf", Enabled("example.com", config="/etc/a.d/b.conf")),
        (
            "example.com,user=a-b,cpu=1,network,memory=64M",
            Enabled("example.com", True, 64 << 20, 1, "a-b"),
        ),
    ],
)
def test_what_can_be_written(written: str, enabled: Enabled) -> None:
    assert parse_enabled(written) == enabled


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "is no domain name"),
        ("localhost", "is no domain name"),
        ("a_b.example", "is no domain name"),
        ("ex\u00e4mple.com", "is no domain name"),
        ("example.com,", "'' is no option; write DOMAIN"),
        ("example.com,nett", "'nett' is no option; write DOMAIN"),
        ("example.com,network,network", "network stands twice"),
        ("example.com,network=yes", "network has no value"),
        ("example.com,memory=1M", "is no size from 48M on"),
        ("example.com,memory=256", "is no size from 48M on"),
        ("example.com,memory=9999999G", "is no size from 48M on"),
        ("example.com,memory", "is no size from 48M on"),
        ("example.com,cpu=0", "is no percentage"),
        ("example.com,cpu=half", "is no percentage"),
        ("example.com,user=", "is no user's name"),
        ("example.com,user=a b", "is no user's name"),
        ("example.com,config=", "is no absolute path"),
        ("example.com,config=etc/x", "is no absolute path"),
        ("example.com,config=/etc/../tmp/x", "is no absolute path"),
        ("example.com,config=/etc/a b", "is no absolute path"),
        ("example.com,config=/home/me/x", "which a worker does not see"),
        ("example.com,config=/tmp/x", "which a worker does not see"),
    ],
)
def test_what_cannot(written: str, why: str) -> None:
    with pytest.raises(VendorError, match=why):
        parse_enabled(written)


def test_each_vendor_stands_once() -> None:
    assert [one.domain for one in parse_all(["b.example", "a.example"])] == [
        "b.example",
        "a.example",
    ]
    with pytest.raises(VendorError, match=r"a\.example is enabled twice"):
        parse_all(["a.example", "A.Example.,network"])
