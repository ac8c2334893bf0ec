"""Which vendors are installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.vendor import VendorError, find, find_all, installed
from support.vendors import Packages

DOUBLE = {"DOUBLE": "0xC0"}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Some on the path, which forgets their modules again."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield Packages(tmp_path / "site")
    for name in set(sys.modules) - before:
        if name.startswith("vendor_"):
            del sys.modules[name]


def test_nothing_is_imported_to_see_what_there_is(packages: Packages) -> None:
    packages.add("b.example", DOUBLE, "")
    packages.add("a.example", DOUBLE, "", entry="A.Example.")
    found, faults = find_all([str(packages.directory)])
    assert [(one.domain, one.package) for one in found] == [
        ("a.example", "vendor_a_example"),
        ("b.example", "vendor_b_example"),
    ]
    assert faults == []
    assert not any(name.startswith("vendor_") for name in sys.modules)


def test_find_takes_one_and_says_which_there_are(packages: Packages) -> None:
    vendor_id = packages.add("a.example", DOUBLE, "")
    vendor = find("A.example").load()
    assert (vendor.domain, vendor.id) == ("a.example", vendor_id)
    assert vendor.handlers not in sys.modules
    with pytest.raises(VendorError, match=r"no vendor b\.example is installed; installed: a\.exa"):
        find("b.example")
    with pytest.raises(VendorError, match=r"installed: none"):
        find("b.example", [])


def test_all_that_is_installed(packages: Packages) -> None:
    packages.add("b.example", DOUBLE, "")
    first = packages.add("a.example", DOUBLE, "")
    there = installed()
    assert [one.domain for one in there.vendors] == ["a.example", "b.example"]
    assert there.faults == ()
    assert there.get(first) is there.vendors[0]
    assert there.get(0x17) is None


def test_two_with_one_id(packages: Packages) -> None:
    packages.add("b.example", DOUBLE, "", vendor_id=0x17)
    packages.add("a.example", DOUBLE, "", vendor_id=0x17)
    there = installed()
    assert [one.domain for one in there.vendors] == ["a.example"]
    [fault] = there.faults
    assert "a.example and b.example have the same id 00000017" in fault


def test_two_with_one_domain(packages: Packages) -> None:
    packages.add("a.example", DOUBLE, "")
    packages.declare("a.example", "vendor_a_example.definition:VENDOR", "vendor_thief")
    there = installed()
    assert [one.domain for one in there.vendors] == ["a.example"]
    [fault] = there.faults
    assert "a.example is declared by" in fault
    assert "vendor_thief" in fault


def test_what_is_wrong_with_a_package_is_said(packages: Packages) -> None:
    packages.add("a.example", DOUBLE, "", entry="b.example")
    packages.declare("localhost", "vendor_a_example.definition:VENDOR", "vendor_local")
    packages.declare("c.example", "vendor_nothing:VENDOR", "vendor_c")
    packages.declare("d.example", "json:dumps", "vendor_d")
    there = installed()
    assert there.vendors == ()
    said = "\n".join(there.faults)
    assert "is the vendor a.example; the entry point must be called so" in said
    assert "'localhost' is no domain name" in said
    assert "vendor_nothing:VENDOR of vendor_c cannot be imported: ModuleNotFoundError" in said
    assert "json:dumps of vendor_d is no asys.vendor.Vendor" in said


def test_a_package_that_is_shadowed_counts_once(packages: Packages, tmp_path: Path) -> None:
    packages.add("a.example", DOUBLE, "")
    Packages(tmp_path / "other").add("a.example", DOUBLE, "")
    found, faults = find_all([str(packages.directory), str(tmp_path / "other")])
    assert ([one.domain for one in found], faults) == (["a.example"], [])
